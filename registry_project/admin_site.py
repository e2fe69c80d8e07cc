"""The admin site's home page and menu: what is shown, from the apps' services. No queries."""

from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from background_migrations import services as background_services
from background_migrations.admin.dashboard import background_context
from background_migrations.errors import TablesMissingError
from metadata_import.admin.dashboard import import_context
from registry_project.api.database import registry_connection
from registry_project.gitlab_release import checked_connection
from schema_migrations import services as schema_services
from schema_migrations.errors import OutdatedRegistryError

BACKGROUND = "background_migrations.view_backgroundmigration"
SCHEMA = "schema_migrations.view_schemamigration"
IMPORTS = "metadata_import.view_importrun"
CHARTS = (("chart-hour", "The last hour"), ("chart-day", "The last day"))
IDLE_SECONDS = 15


def home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the home page shows to unfold's context."""
    return {**context, "title": "What is going on", "charts": CHARTS, **_state(request)}


def live(request: HttpRequest) -> HttpResponse:
    """Answer the part of the home page that is renewed while it is open."""
    state = _state(request)
    if not state["may_look"]:
        raise PermissionDenied
    return render(request, "registry/home_renewed.html", state)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the menu: what the user may see."""
    background, schema, imports = map(request.user.has_perm, (BACKGROUND, SCHEMA, IMPORTS))
    people = request.user.has_perm("auth.view_user")
    migrations = "background_migrations_backgroundmigration"
    pages = [
        ("Home", "home", "index", True),
        ("Background migrations", "conversion_path", f"{migrations}_changelist", background),
        ("Jobs", "list_alt", f"{migrations}job_changelist", background),
        ("Schema migrations", "schema", "schema_migrations_schemamigration_changelist", schema),
        ("Imports", "place_item", "metadata_import_importrun_changelist", imports),
        ("Users", "person", "auth_user_changelist", people),
        ("Groups", "group", "auth_group_changelist", people),
    ]
    items = [
        {"title": title, "icon": icon, "link": reverse(f"admin:{name}")} for title, icon, name, shown in pages if shown
    ]
    return [{"items": items}]


def _state(request: HttpRequest) -> dict[str, Any]:
    background, schema, imports = map(request.user.has_perm, (BACKGROUND, SCHEMA, IMPORTS))
    state: dict[str, Any] = {"may_see_background": background, "may_see_schema": schema, "may_see_imports": imports}
    state["may_look"] = background or schema or imports
    state["every"] = IDLE_SECONDS
    if schema:
        state["schema"] = _schema()
    if imports:
        state |= import_context(connections["registry"])
    if background:
        try:
            background_services.check_database(checked_connection())
        except (TablesMissingError, OutdatedRegistryError) as error:
            return {**state, "missing": str(error)}
        shown = background_context(registry_connection())
        state |= shown | {"every": min(shown["every"], state["every"])}
    return state


def _schema() -> schema_services.Counts:
    own = settings.SCHEMA_OWNER == "self"
    return schema_services.counts(registry_connection(), own_database=own)
