"""Shows how far a run is while it runs: by bars on a terminal, elsewhere by a line now and then."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TextIO

import psycopg
from rich import progress as bars
from rich.console import Console

from background_migrations.printing import duration, percent
from background_migrations.reports import MigrationReport
from background_migrations.status import Status

TERMINAL_SECONDS = 1.0
PLAIN_SECONDS = 10.0
END_SECONDS = 10.0
WHOLE = 100.0


class Follower(threading.Thread):
    """Reads what the database says of a run, every so many seconds, and shows it."""

    def __init__(self, read: Callable[[], Sequence[MigrationReport]], *, stream: TextIO) -> None:
        super().__init__(name="follower", daemon=True)
        self._read, self._stream = read, stream
        self._bars = _Bars(stream) if stream.isatty() else None
        self._pause = TERMINAL_SECONDS if self._bars else PLAIN_SECONDS
        self._began, self._ended = time.monotonic(), threading.Event()
        self._first_seen: dict[int, tuple[float, int]] = {}  # when each migration was first seen running, and its rows

    def run(self) -> None:
        """Show until the end; what cannot be read now is read the next time."""
        with self._bars.display if self._bars else nullcontext():
            while not self._ended.wait(self._pause):
                try:
                    self._show(self._read())
                except psycopg.Error:
                    continue

    def end(self) -> None:
        """Stop, and leave the terminal as it was."""
        self._ended.set()
        if self.is_alive():
            self.join(timeout=END_SECONDS)

    def _show(self, reports: Sequence[MigrationReport]) -> None:
        running = {report: self._text(report) for report in reports if report.status is Status.RUNNING}
        finished = sum(report.status is Status.FINISHED for report in reports)
        summary = f"{finished}/{len(reports)} finished"
        if self._bars:
            self._bars.show(running, finished=finished, total=len(reports), summary=summary)
            return
        texts = "; ".join(f"{report.name} {text}" for report, text in running.items())
        age = duration(time.monotonic() - self._began)
        print(f"[{age}] {summary}; {texts or 'waiting'}", file=self._stream, flush=True)

    def _text(self, report: MigrationReport) -> str:
        parts = [percent(report) or f"{report.jobs_finished:,} jobs"]
        if (seconds := self._seconds_left(report)) is not None:
            parts.append(f"about {duration(seconds)} left")
        if report.jobs_failed:
            parts.append(f"{report.jobs_failed:,} failed")
        return ", ".join(parts)

    def _seconds_left(self, report: MigrationReport) -> float | None:
        """Measure it here: the report's own counts the pauses of a worker, which a run does not make."""
        now = time.monotonic()
        since, rows = self._first_seen.setdefault(report.id, (now, report.rows_done))
        done, left = report.rows_done - rows, (report.total_tuple_count or 0) - report.rows_done
        return (now - since) * left / done if done > 0 and left > 0 else None


class _Bars:
    """One bar for all migrations, and one for each that runs."""

    def __init__(self, stream: TextIO) -> None:
        self.display = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.TextColumn("{task.fields[text]}", markup=False),
            console=Console(file=stream),
            transient=True,
        )
        self._whole = self.display.add_task("Background migrations", total=None, text="")
        self._tasks: dict[int, bars.TaskID] = {}

    def show(self, running: dict[MigrationReport, str], *, finished: int, total: int, summary: str) -> None:
        """Draw what runs, each with its text; whatever does not run any more disappears."""
        self.display.update(self._whole, total=total, completed=finished, text=summary)
        for gone in self._tasks.keys() - {report.id for report in running}:
            self.display.remove_task(self._tasks.pop(gone))
        for report, text in running.items():
            if report.id not in self._tasks:
                self._tasks[report.id] = self.display.add_task(report.name, total=None, text="")
            done = report.progress.percent
            self.display.update(
                self._tasks[report.id],
                total=None if done is None else WHOLE,  # without an estimate it swings to and fro
                completed=done or 0.0,
                text=text,
            )
