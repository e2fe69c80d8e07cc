"""The page of events: what is written down in registry_admin, and what is logged."""

import ast
from collections.abc import Iterator
from pathlib import Path

from background_migrations import errors, throttling
from background_migrations.events import EventKind
from background_migrations.models import Event
from background_migrations.status import MOVES, Status
from metadata_import.models import ImportStatus
from registry_project.settings import BASE_DIR
from tests.reference_pages.markdown import code, listed, section, sentence, table
from tests.reference_pages.sources import described_members, first_line

OUR_PACKAGES = ("registry_project", "schema_migrations", "background_migrations", "metadata_import")
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
SIGNALS = (throttling.WalArchive, throttling.ReplicaLag, throttling.Vacuum, throttling.LockWaiters, throttling.Hook)
HINDRANCES = (errors.UnknownWorkFunctionError, errors.UnknownStrategyError, errors.MissingNullIndexError)
INTRODUCTION = """\
# Events

What happened to a background migration is kept in the table `registry_admin.background_migration_events`, one row for
each event, for as long as the schema is there. `background_migrate events NAME` and the admin site show it.
"""
OF_MOVES = "Each is one event of the kind `status`. No other move is possible, except by hand in SQL."
OF_HINDRANCES = """\
The column `throttled_by` of `registry_admin.background_migration_controls`, shown by `background_migrate status` and in
the API. [What to do](../how-to/run-background-migrations.md#throttling).
"""
OF_IMPORTS = "In `registry_admin.import_runs`."
OF_LOG_LINES = "What the log says, and the facts that come with it."


def page() -> str:
    """Draw the page."""
    columns = listed(field.column for field in Event._meta.fields)
    kinds = [[code(kind), sentence(text)] for kind, text in described_members(EventKind).items()]
    statuses = [[code(each.value), each.label, sentence(text)] for each, text in _statuses()]
    moves = [[code(before.label), code(after.label), sentence(text)] for (before, after), text in MOVES.items()]
    hindrances = [[code(each.name), first_line(each)] for each in SIGNALS]
    hindrances += [[code(each.code), first_line(each)] for each in HINDRANCES]
    hindrances.append([code("database_error"), "The server refused a look at the table; the reason is its answer."])
    imports = [[code(status), sentence(text)] for status, text in described_members(ImportStatus).items()]
    lines = sorted(set(_log_lines()), key=lambda line: (line[1], line))
    return "\n".join(
        [
            INTRODUCTION,
            f"Its columns: {columns}.\n",
            table(["kind", "what happened"], kinds),
            section("Statuses", table(["number", "status", "of"], statuses)),
            section("Moves of a background migration", OF_MOVES, table(["from", "to", "when"], moves)),
            section("What holds a background migration up", OF_HINDRANCES, table(["signal", "because"], hindrances)),
            section("Statuses of an import", OF_IMPORTS, table(["status", "of"], imports)),
            section("Log lines", OF_LOG_LINES, table(["level", "event", "facts"], lines)),
        ]
    )


def _statuses() -> Iterator[tuple[Status, str]]:
    for status, text in described_members(Status).items():
        assert isinstance(status, Status)
        yield status, text


def _log_lines() -> Iterator[tuple[str, str, str]]:
    """Yield level, event and facts of every call that logs, found in the source."""
    for package in OUR_PACKAGES:
        for path in sorted((Path(BASE_DIR) / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name(id="log") | ast.Attribute(attr="log"), attr=level),
                        args=[ast.Constant(str(event))],
                        keywords=keywords,
                    ) if level in LEVELS:
                        facts = [each.arg for each in keywords if each.arg and each.arg != "exc_info"]
                        yield level, event, listed(facts)
