"""What the home page shows of background migrations."""

from collections import Counter
from typing import Any

from psycopg import Connection

from background_migrations import activity, reports, wiring
from background_migrations.admin.detail import told
from background_migrations.admin.rows import ORDER, pace, rows
from background_migrations.status import Status

MOST_LINES = 12
MOST_EVENTS = 12


def background_context(connection: Connection) -> dict[str, Any]:
    """Return what runs, how far it is, what is stuck and why, and what happened lately."""
    found = reports.migration_reports(connection, defaults=wiring.defaults())
    unfinished = rows(each for each in found if each.status is not Status.FINISHED)
    counts = Counter(each.status for each in found)
    return {
        "counts": [(status.label, int(status), counts[status]) for status in ORDER],
        "failed": [row for row in unfinished if row.report.status is Status.FAILED],
        "throttled": [row for row in unfinished if row.report.throttled_by],
        "rows": unfinished[:MOST_LINES],
        "further": len(unfinished[MOST_LINES:]),
        "workers": activity.workers_seen(connection),
        "events": told(activity.recent_events(connection, limit=MOST_EVENTS)),
        "hour": _chart(activity.last_hour(connection)),
        "day": _chart(activity.last_day(connection)),
        "every": pace(found),
    }


def _chart(slots: list[activity.Throughput]) -> dict[str, Any]:
    return {
        "times": [slot.at.isoformat() for slot in slots],
        "series": {
            "rows/s": [round(slot.rows_per_second, 2) for slot in slots],
            "jobs/min": [round(slot.jobs_per_minute, 2) for slot in slots],
        },
    }
