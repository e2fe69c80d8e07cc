"""How the admin site looks: unfold's settings. Nothing in them is read from the environment."""

from collections.abc import Callable
from typing import Any

from django.templatetags.static import static


def _asset(path: str) -> Callable[[object], str]:
    """Return what unfold asks for an address, which cannot be told before the settings are read."""
    return lambda _request: static(path)


LOOK: dict[str, Any] = {
    "SITE_TITLE": "Registry metadata",
    "SITE_HEADER": "Registry metadata",
    "SITE_SYMBOL": "database",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _asset("registry/favicon.svg")}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [_asset("registry/site.css")],
    "SCRIPTS": [_asset("registry/live.js"), _asset("registry/charts.js")],
    "DASHBOARD_CALLBACK": "registry_project.admin_site.home",
    # Indigo, lighter from 500 on than it is commonly: dark pages write links in it.
    "COLORS": {
        "primary": {
            "50": "oklch(96.2% .018 272.314)",
            "100": "oklch(93% .034 272.788)",
            "200": "oklch(87% .065 274.039)",
            "300": "oklch(82% .1 275)",
            "400": "oklch(78.5% .115 274.713)",
            "500": "oklch(73% .15 276.935)",
            "600": "oklch(51.1% .262 276.966)",
            "700": "oklch(45.7% .24 277.023)",
            "800": "oklch(39.8% .195 277.366)",
            "900": "oklch(35.9% .144 278.697)",
            "950": "oklch(25.7% .09 281.288)",
        }
    },
    "SIDEBAR": {"navigation": "registry_project.admin_site.navigation"},
}
