"""What `background_migrate` prints: tables for people, JSON for machines, and how far a run is."""

import datetime
import enum
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
PLAIN_WIDTH = 200  # where no terminal says how wide it is
MINUTE, HOUR, DAY = 60, 3_600, 86_400


def print_json(value: Any, *, stdout: TextIO) -> None:
    """Print one JSON value; times in ISO 8601, states by name."""
    print(json.dumps(_as_json(value), indent=2), file=stdout)


def print_statuses(reports: Sequence[MigrationReport], *, stdout: TextIO) -> None:
    """Print a line for each migration."""
    if not reports:
        print("There is no background migration.", file=stdout)
        return
    columns = ("name", "status", "progress", "jobs", "failed", "rows/s", "time left", "throttled by")
    _print_table(columns, (_status_row(report) for report in reports), stdout=stdout)


def print_details(report: MigrationReport, *, stdout: TextIO) -> None:
    """Print everything about one migration."""
    facts = {
        "name": report.name,
        "status": report.status.label,
        "work function": report.job_signature_name,
        "table": f"{report.table_name} by {report.column_name}",
        "strategy": report.batching_strategy or "keyset",
        "bounds": f"{report.min_value} to {report.max_value}",
        "batch size": f"{report.batch_size:,}",
        "rows, estimated": "unknown" if report.total_tuple_count is None else f"{report.total_tuple_count:,}",
        "rows done": f"{report.rows_done:,}",
        "progress": _percent(report),
        "rows per second": _rate(report),
        "time left": _time_left(report),
        "jobs": f"{report.jobs_finished} finished, {report.jobs_running} running, {report.jobs_failed} failed",
        "failure": _failure(report.failure_error_code),
        "throttled by": f"{report.throttled_by}: {report.throttled_reason}" if report.throttled_by else "",
        "created": _moment(report.created_at),
        "started": _moment(report.started_at),
        "finished": _moment(report.finished_at),
    }
    print_facts({name: text for name, text in facts.items() if text}, stdout=stdout)


def print_facts(facts: Mapping[str, Any], *, stdout: TextIO) -> None:
    """Print names and values, one pair in a line."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}", file=stdout)


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
            else f"{Status(event.old_status).label} → {Status(event.new_status).label}",
            event.actor,
            " ".join(part for part in (event.error_class, event.sqlstate, event.reason) if part),
        )
        for event in reports
    )
    _print_table(("time", "event", "status", "by", "reason"), rows, stdout=stdout)


def print_sample(sample: Sample, *, stdout: TextIO) -> None:
    """Print what a sample took."""
    facts = {
        "batch": f"{sample.min_value} to {sample.max_value}",
        "rows touched": f"{sample.rows:,}",
        "seconds": f"{sample.seconds:.3f}",
        "all of it, estimated": "unknown" if sample.total_seconds is None else duration(sample.total_seconds),
        "slowest statement": f"{sample.statement_seconds:.3f} s: {sample.statement}",
    }
    print_facts(facts, stdout=stdout)
    lines = sample.plan.splitlines()
    print("\n".join(lines[:MOST_PLAN_LINES]), file=stdout)
    if len(lines) > MOST_PLAN_LINES:
        print(f"… {len(lines) - MOST_PLAN_LINES} more lines; --json prints them all", file=stdout)
    print("Nothing was changed.", file=stdout)


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


class Follower(threading.Thread):
    """Prints how far a run is, every so many seconds, from what the database says."""

    def __init__(
        self, read: Callable[[], Sequence[MigrationReport]], *, stream: TextIO, pause_seconds: float = 2.0
    ) -> None:
        super().__init__(name="follower", daemon=True)
        self._read, self._stream, self._pause = read, stream, pause_seconds
        self._ended = threading.Event()

    def run(self) -> None:
        """Print until the end; what cannot be read now is read the next time."""
        began = time.monotonic()
        while not self._ended.wait(self._pause):
            reports = self._read()
            running = [report for report in reports if report.status is Status.RUNNING]
            done = sum(report.status is Status.FINISHED for report in reports)
            parts = [f"{report.name} {_percent(report) or '…'}" for report in running[:2]]
            left = [report.progress.seconds_left for report in running if report.progress.seconds_left is not None]
            text = f"{done}/{len(reports)} finished; {', '.join(parts) or 'waiting'}"
            if left:
                text += f"; about {duration(max(left))} left"
            print(f"[{duration(time.monotonic() - began)}] {text}", file=self._stream, flush=True)

    def end(self) -> None:
        """Stop."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=self._pause)


def _status_row(report: MigrationReport) -> tuple[str, ...]:
    return (
        report.name,
        report.status.label,
        _percent(report),
        f"{report.jobs_finished:,}",
        f"{report.jobs_failed:,}",
        _rate(report),
        _time_left(report),
        report.throttled_by,
    )


def _percent(report: MigrationReport) -> str:
    percent = report.progress.percent
    return "" if percent is None else f"{percent:.1f} %"


def _rate(report: MigrationReport) -> str:
    rate = report.progress.rate
    return "" if rate is None else f"{rate:,.0f}"


def _time_left(report: MigrationReport) -> str:
    seconds = report.progress.seconds_left
    if seconds is None or report.status not in (Status.ACTIVE, Status.RUNNING):
        return ""
    return duration(seconds)


def _failure(code: int | None) -> str:
    if code is None:
        return ""
    return FailureErrorCode(code).name.lower() if code in set(FailureErrorCode) else f"code {code}"


def _moment(value: datetime.datetime | None) -> str:
    return timezone.localtime(value).strftime("%Y-%m-%d %H:%M:%S %Z") if value else ""


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, stdout: TextIO) -> None:
    terminal = stdout.isatty()
    table = Table(*columns, box=box.SIMPLE_HEAD if terminal else None)
    for row in rows:
        table.add_row(*row)
    console = Console(file=stdout) if terminal else Console(file=stdout, width=PLAIN_WIDTH)
    console.print(table, markup=False, highlight=False, soft_wrap=not terminal)


def _as_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _as_json(asdict(value))
    if isinstance(value, Mapping):
        return {name: _as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value.label if isinstance(value, Status) else int(value) if isinstance(value, enum.IntEnum) else value
