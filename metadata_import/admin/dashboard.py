"""What the home page shows of imports."""

from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from metadata_import import history, services
from metadata_import.admin import shown


def import_context(connection: BaseDatabaseWrapper) -> dict[str, Any]:
    """Return the last import: one of ours, with how far it is, or one that GitLab's registry recorded later.

    Where a table is missing there is no import.
    """
    ours, recorded = services.has_tables(connection)
    line = _last_line(connection) if ours else None
    last = services.last_recorded_import(connection.connection) if recorded else None
    later = last is not None and line is not None and last["started_at"] > line.state.run.started_at
    if line and (line.state.alive_since or not later):
        return {"import_line": line, "every": shown.pace([line.state])}
    return {"recorded_import": last}


def _last_line(connection: BaseDatabaseWrapper) -> shown.Line | None:
    now = timezone.now()
    states = history.recent_runs(connection, grace=settings.IMPORT_GRACE_SECONDS, limit=1)
    return next(iter(shown.lines(connection, states, now=now)), None)
