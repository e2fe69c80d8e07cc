"""Which pages there are, and what draws each."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.reference_pages import api, commands, error_codes, events, settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
NOTE = "<!-- Written by `make reference`. Change the code that it is drawn from, never this page. -->"
PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings.page,
    "commands.md": commands.page,
    "api.md": api.page,
    "events.md": events.page,
    "error-codes.md": error_codes.page,
}


def drawn(name: str) -> str:
    """Return the whole text of a page as it has to be."""
    title, _, text = PAGES[name]().strip().partition("\n")
    return re.sub(r"\n{3,}", "\n\n", f"{title}\n\n{NOTE}\n{text}\n")


def write() -> None:
    """Write every page."""
    for name in PAGES:
        (FOLDER / name).write_text(drawn(name))
