"""What the page of one background migration shows, and how its controls are changed."""

from collections.abc import Iterable
from typing import Any, TypeVar

from django.http import HttpRequest
from django.urls import reverse
from psycopg import Connection

from background_migrations import activity, locks, reports, services, wiring
from background_migrations.admin.forms import ControlsForm
from background_migrations.admin.rows import Row, pace
from background_migrations.admin.verbs import STATEMENT_SECONDS, VERBS
from background_migrations.errors import ConflictingControlsError, ControlTypeError, InvalidControlError
from background_migrations.reports import MigrationReport
from background_migrations.status import Status

E = TypeVar("E", bound=reports.EventReport)
MOST_EVENTS = 50
MOST_FAILED = 20
JOBS = "admin:background_migrations_backgroundmigrationjob_changelist"


def live_context(report: MigrationReport, *, may_operate: bool) -> dict[str, Any]:
    """Return what is renewed while the page is open."""
    connection = wiring.kept_connection()
    events = reports.event_reports(connection, report.name, limit=MOST_EVENTS)
    return {
        "row": Row(report),
        "facts": _facts(report),
        "buttons": [(verb, verb.refusal(report)) for verb in VERBS.values()] if may_operate else [],
        "failed_jobs": activity.failed_jobs(connection, report.id, limit=MOST_FAILED),
        "failed_reason": _why(events, report),
        "events": told(events),
        "charts": _charts(connection, report),
        "jobs_url": f"{reverse(JOBS)}?background_migration__id__exact={report.id}",
        "every": pace([report]),
    }


def told(events: Iterable[E]) -> list[tuple[E, str]]:
    """Return each event with what happened, in words."""
    return [(event, _words(event)) for event in events]


def _words(event: reports.EventReport) -> str:
    if event.old_status is not None and event.new_status is not None:
        return f"{Status(event.old_status).label} → {Status(event.new_status).label}"
    kind = event.kind.removeprefix("job_").replace("_", " ")
    return kind if event.job_id is None else f"job {event.job_id} {kind}"


def controls_form(request: HttpRequest, report: MigrationReport, *, editable: bool) -> ControlsForm:
    """Return the form, filled with what was sent or with what is set."""
    controls = services.controls(wiring.kept_connection(), report.name)
    return ControlsForm(request.POST if request.method == "POST" else None, controls=controls, editable=editable)


def change_controls(request: HttpRequest, report: MigrationReport, form: ControlsForm) -> bool:
    """Change what was typed anew; return whether it was accepted, else the form says what is wrong."""
    if not form.is_valid():
        return False
    connection = wiring.kept_connection()
    try:
        with connection.transaction():
            locks.limit_statements(connection, seconds=STATEMENT_SECONDS)
            services.set_controls(connection, report.name, form.changes, actor=request.user.get_username())
    except (InvalidControlError, ControlTypeError, ConflictingControlsError) as error:
        form.add_error(getattr(error, "control", None), str(error))
        return False
    return True


def _facts(report: MigrationReport) -> list[tuple[str, Any]]:
    total = report.total_tuple_count
    return [
        ("work function", report.job_signature_name),
        ("table", f"{report.table_name}, by {report.column_name}"),
        ("strategy", report.batching_strategy or "keyset"),
        ("bounds", f"{report.min_value:,} to {report.max_value:,}"),
        ("batch size", f"{report.batch_size:,}"),
        ("rows", f"{report.rows_done:,} of {'an unknown number' if total is None else f'about {total:,}'}"),
        ("jobs", f"{report.jobs_finished:,} done, {report.jobs_running:,} running, {report.jobs_failed:,} failed"),
        ("created", report.created_at),
        ("started", report.started_at),
        ("finished", report.finished_at),
    ]


def _why(events: list[reports.EventReport], report: MigrationReport) -> str:
    """Return the reason of the move to failed."""
    if report.status is not Status.FAILED:
        return ""
    return next((event.reason for event in events if event.new_status == Status.FAILED), "")


def _charts(connection: Connection, report: MigrationReport) -> dict[str, Any]:
    total = report.total_tuple_count or 0
    rows = activity.rows_over_time(connection, report.id)
    jobs = activity.jobs_over_time(connection, report.id)
    return {
        "rows": {
            "times": [point.at.isoformat() for point in rows],
            "series": {"rows done": [min(point.rows, total) if total else point.rows for point in rows]},
        },
        "jobs": {
            "times": [point.ended_at.isoformat() for point in jobs],
            "series": {
                "batch size": [point.size for point in jobs],
                "seconds": [round(point.seconds, 3) for point in jobs],
            },
        },
    }
