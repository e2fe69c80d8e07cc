"""What `background_migrate` prints: tables and facts for people, JSON for machines."""

import datetime
import enum
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TextIO

from django.utils import timezone
from rich import box
from rich.console import Console
from rich.table import Table

from background_migrations.reports import EventReport, JobReport, MigrationReport
from background_migrations.sampling import Sample
from background_migrations.status import FailureErrorCode, Status

MOST_PLAN_LINES = 40  # of a table with many partitions the others say the same
LINES_AROUND = 5  # of a cropped table: its heading, what is left out, the cursor
MINUTE, HOUR, DAY = 60, 3_600, 86_400
CLEAR = "\033[H\033[2J"
NUMBERS = frozenset({"progress", "jobs done", "failed", "rows/s", "job", "from", "to", "attempts", "rows", "seconds"})
LONG_TEXTS = frozenset({"name", "worker", "by", "reason"})  # what gives way where a terminal is narrow
SHORTEST_TEXT = 20  # so far
STATES = frozenset({"status", "old_status", "new_status"})
MOST_WANTED = (Status.RUNNING, Status.FAILED, Status.ACTIVE, Status.PAUSED, Status.FINISHED)


# --- For machines --------------------------------------------------------------------------------------------------


def print_json(value: Any, *, stdout: TextIO) -> None:
    """Print one JSON value; times in ISO 8601, states by name."""
    print(json.dumps(_as_json(value), indent=2), file=stdout)


def _as_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _as_json(asdict(value))
    if isinstance(value, Mapping):
        return {name: _state(each) if name in STATES else _as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return int(value) if isinstance(value, enum.IntEnum) else value


def _state(number: int | None) -> str | int | None:
    return Status(number).label if number in set(Status) else number


# --- Background migrations -----------------------------------------------------------------------------------------


def print_statuses(reports: Sequence[MigrationReport], *, stdout: TextIO, cropped: bool = False) -> None:
    """Print a line for each migration; cropped, as many as the terminal has room for, the busiest first."""
    if not reports:
        print("There is no background migration.", file=stdout)
        return
    room = shutil.get_terminal_size().lines - LINES_AROUND if cropped and stdout.isatty() else len(reports)
    shown = reports if len(reports) <= room else sorted(reports, key=lambda each: MOST_WANTED.index(each.status))
    columns = ("name", "status", "progress", "jobs done", "failed", "rows/s", "time left", "throttled by")
    rows = (_status_row(report) for report in shown[: max(room, 1)])
    _print_table(columns, rows, stdout=stdout, one_line_each=cropped)
    if len(reports) > room:
        print(f"… and {len(reports) - max(room, 1)} more", file=stdout)


def print_details(
    report: MigrationReport, *, controls: Mapping[str, Any], events: Sequence[EventReport], stdout: TextIO
) -> None:
    """Print everything about one migration, the controls that were set and the last error among these events."""
    facts = {
        "name": report.name,
        "status": report.status.label,
        "failure": failure(report.failure_error_code),
        "last error": _last_error(events),
        "throttled by": f"{report.throttled_by}: {report.throttled_reason}" if report.throttled_by else "",
        "work function": report.job_signature_name,
        "table": f"{report.table_name} by {report.column_name}",
        "strategy": report.batching_strategy or "keyset",
        "bounds": f"{report.min_value} to {report.max_value}",
        "batch size": f"{report.batch_size:,}",
        "controls": ", ".join(
            f"{_dashed(name)} {_setting(value)}" for name, value in controls.items() if value is not None
        ),
        "rows, estimated": "unknown" if report.total_tuple_count is None else f"{report.total_tuple_count:,}",
        "rows done": f"{report.rows_done:,}",
        "progress": percent(report),
        "rows per second": rate(report),
        "time left": time_left(report),
        "jobs": f"{report.jobs_finished:,} finished, {report.jobs_running:,} running, {report.jobs_failed:,} failed",
        "created": _moment(report.created_at),
        "started": _moment(report.started_at),
        "finished": _moment(report.finished_at),
    }
    _print_facts({name: text for name, text in facts.items() if text}, stdout=stdout)


def print_controls(controls: Mapping[str, Any], *, stdout: TextIO) -> None:
    """Print each control as it is typed."""
    _print_facts({_dashed(name): _setting(value) for name, value in controls.items()}, stdout=stdout)


def why(reason: str, events: Sequence[EventReport]) -> str:
    """Return what keeps a migration from its end: why it failed, if it did, and the last error of a job."""
    moves = [event for event in events if event.new_status is not None]
    if moves and moves[0].new_status == Status.FAILED:
        reason = f"it failed: {moves[0].reason}"
    error = _last_error(events)
    return f"{reason.rstrip('.')}. Last error: {error}" if error else reason


def _status_row(report: MigrationReport) -> tuple[str, ...]:
    return (
        report.name,
        report.status.label,
        percent(report),
        f"{report.jobs_finished:,}",
        f"{report.jobs_failed:,}",
        rate(report),
        time_left(report),
        report.throttled_by,
    )


def percent(report: MigrationReport) -> str:
    """Return how far a migration is, in words of its own when nobody knows: none."""
    done = report.progress.percent
    if done is None:
        return ""
    # Rounded up, what is not finished would look as if it were.
    return f"{done if report.status is Status.FINISHED else min(done, 99.9):.1f} %"


def rate(report: MigrationReport) -> str:
    """Return the rows per second, or nothing while nobody knows."""
    found = report.progress.rate
    return "" if found is None else f"{found:,.0f}"


def time_left(report: MigrationReport) -> str:
    """Return how long an unfinished migration will take, or nothing while nobody knows or works on it."""
    seconds = report.progress.seconds_left
    if seconds is None or report.status not in (Status.ACTIVE, Status.RUNNING):
        return ""
    return duration(seconds)


def failure(code: int | None) -> str:
    """Return why something failed, by name."""
    if code is None:
        return ""
    return FailureErrorCode(code).name.lower() if code in set(FailureErrorCode) else f"code {code}"


def _last_error(events: Sequence[EventReport]) -> str:
    event = next((event for event in events if event.error_class), None)
    return f"job {event.job_id}, {_moment(event.created_at)}: {_reason(event)}" if event else ""


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _setting(value: Any) -> str:
    """Return a control's value as it is typed."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return timezone.localtime(value).isoformat()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


# --- Jobs, events, samples -----------------------------------------------------------------------------------------


def print_jobs(reports: Sequence[JobReport], *, stdout: TextIO) -> None:
    """Print a line for each job."""
    columns = ("job", "from", "to", "state", "attempts", "rows", "seconds", "worker", "next attempt")
    rows = (
        (
            str(job.id),
            str(job.min_value),
            str(job.max_value),
            job.state if job.pieces <= 1 else f"{job.state}, {job.pieces} pieces",
            str(job.attempts),
            "" if job.rows is None else f"{job.rows:,}",
            "" if job.seconds is None else f"{job.seconds:.3f}",
            job.worker or "",
            _moment(job.retry_at) if job.state == "failed" else "",
        )
        for job in reports
    )
    _print_table(columns, rows, stdout=stdout)


def print_events(reports: Sequence[EventReport], *, stdout: TextIO) -> None:
    """Print a line for each event."""
    rows = (
        (
            _moment(event.created_at),
            event.kind if event.job_id is None else f"{event.kind} {event.job_id}",
            ""
            if event.old_status is None or event.new_status is None
            else f"{_state(event.old_status)} → {_state(event.new_status)}",
            event.actor,
            _reason(event),
        )
        for event in reports
    )
    _print_table(("time", "event", "status", "by", "reason"), rows, stdout=stdout)


def print_sample(sample: Sample, *, stdout: TextIO) -> None:
    """Print what a sample took."""
    bounds = (sample.min_value, sample.max_value)
    facts = {
        "batch": "rows that are still NULL" if bounds == (0, 0) else f"{sample.min_value} to {sample.max_value}",
        "rows touched": f"{sample.rows:,}",
        "seconds": f"{sample.seconds:.3f}",
        "all of it, estimated": "unknown" if sample.total_seconds is None else duration(sample.total_seconds),
        "slowest statement": f"{sample.statement_seconds:.3f} s: {sample.statement}",
    }
    _print_facts(facts, stdout=stdout)
    lines = sample.plan.splitlines()
    print("\n".join(lines[:MOST_PLAN_LINES]), file=stdout)
    if len(lines) > MOST_PLAN_LINES:
        print(f"… {len(lines) - MOST_PLAN_LINES} more lines; --json prints them all", file=stdout)
    print("Nothing was changed.", file=stdout)


def _reason(event: EventReport) -> str:
    return " ".join(part for part in (event.error_class, event.sqlstate, event.reason) if part)


# --- Parts of all --------------------------------------------------------------------------------------------------


def clear(stdout: TextIO) -> None:
    """Empty a terminal."""
    if stdout.isatty():
        print(CLEAR, end="", file=stdout)


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a number and what it counts."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def _moment(value: datetime.datetime | None) -> str:
    return timezone.localtime(value).strftime("%Y-%m-%d %H:%M:%S %Z") if value else ""


def _print_facts(facts: Mapping[str, Any], *, stdout: TextIO) -> None:
    """Print names and values, one pair in a line."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}", file=stdout)


def _print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, stdout: TextIO, one_line_each: bool = False
) -> None:
    if not stdout.isatty():
        _print_plain_table(columns, list(rows), stdout=stdout)
        return
    cells = list(rows)
    shown = [number for number, name in enumerate(columns) if name in NUMBERS or any(row[number] for row in cells)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for number in shown:
        is_long = columns[number] in LONG_TEXTS
        table.add_column(
            columns[number],
            justify="right" if columns[number] in NUMBERS else "left",
            no_wrap=not is_long,
            min_width=SHORTEST_TEXT if is_long else None,
            overflow="ellipsis" if one_line_each else "fold",
        )
    for row in cells:
        table.add_row(*(row[number] for number in shown))
    Console(file=stdout).print(table, markup=False, highlight=False, crop=one_line_each)


def _print_plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, stdout: TextIO) -> None:
    """Print lines for pipes and files: as long as they are, none broken."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = (
            f"{text:>{width}}" if column in NUMBERS else f"{text:<{width}}"
            for column, text, width in zip(columns, row, widths, strict=True)
        )
        print("  ".join(cells).rstrip(), file=stdout)
