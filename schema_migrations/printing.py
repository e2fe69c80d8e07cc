"""What `database migrate` prints: progress while it runs, then plans, results and the table of migrations."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from schema_migrations.migration import Phase
from schema_migrations.migrator import Result
from schema_migrations.planner import Direction, Step
from schema_migrations.services import MigrationStatus
from schema_migrations.watcher import IndexBuild

BUILD_STEP = 0.05
MOST_NAMES = 3  # in a line; JSON has them all


class ProgressReporter:
    """Tells a terminal by a bar with the time left, and anything else by a line per step with its place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._total, self._done = stream, 0, 0
        # By index and phase: when it was first seen, how far it was then, and how far when last said.
        self._builds: dict[tuple[str, str], tuple[float, float, float]] = {}
        columns = (
            TextColumn("Migrating"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(file=stream)) if stream.isatty() else None
        self._task = self._bar.add_task("Migrating") if self._bar else None

    def waiting(self, holder: str) -> None:
        """Say who is waited for."""
        self._line(f"Waiting for another migrator: {holder}")

    def planned(self, steps: Sequence[Step]) -> None:
        """Take the number of steps to come."""
        self._total = len(steps)
        if self._bar and self._task is not None and steps:
            self._bar.update(self._task, total=self._total)
            self._bar.start()

    def finished(self, step: Step, *, seconds: float) -> None:
        """Count one step."""
        self._done += 1
        if self._bar and self._task is not None:
            self._bar.advance(self._task)
            return
        count = f"{self._done:>{len(str(self._total))}}/{self._total}"
        self._line(f"[{count}] {step.direction.value} {step.known.id} ({seconds:.3f} s)")

    def retrying(self, step: Step, *, blockers: str, pause_seconds: float) -> None:
        """Say who is in the way and when the next attempt comes."""
        self._line(f"{step.known.id} is blocked by {blockers}; trying again in {pause_seconds:.1f} s")

    def blocked(self, blockers: str) -> None:
        """Say who is in the way while a statement waits."""
        self._line(f"Waiting for {blockers}")

    def building(self, build: IndexBuild) -> None:
        """Say how far a phase of an index build is and how long it may last, at each twentieth."""
        now = time.monotonic()
        key = (build.index, build.phase)
        began, share, said = self._builds.get(key, (now, build.share, -1.0))
        if build.share - said < BUILD_STEP:
            return
        self._builds[key] = (began, share, build.share)
        text = f"Building index {build.index}: {build.phase}, {build.share:.0%}"
        if build.share > share:
            text += f", about {(now - began) * (1 - build.share) / (build.share - share):.0f} s left"
        self._line(text)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the terminal to others while the block runs."""
        shown = self._bar is not None and self._bar.live.is_started
        self.close()
        try:
            yield
        finally:
            if self._bar and shown and not self._bar.finished:
                self._bar.start()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar:
            self._bar.stop()

    def _line(self, text: str) -> None:
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)


def print_plan(steps: Sequence[Step], *, as_json: bool, stdout: TextIO) -> None:
    """Print what would run: as SQL that a person can read and paste, or as JSON."""
    if as_json:
        print(json.dumps({"plan": [_step_as_json(step) for step in steps]}, indent=2), file=stdout)
        return
    for step in steps:
        migration = step.known.migration
        mode = "in a transaction" if migration.transactional else "without a transaction"
        print(f"-- {step.direction.value} {step.known.id} ({step.known.phase.value}, {mode})", file=stdout)
        if step.pulled_in_by:
            print(f"-- needed by {step.pulled_in_by}", file=stdout)
        if names := migration.required_background_migrations:
            print(f"-- requires background migrations: {', '.join(names)}", file=stdout)
        if names := migration.queued_background_migrations:
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            print(f"-- queues background migrations: {', '.join(names[:MOST_NAMES])}{more}", file=stdout)
        for statement in step.statements:
            text = statement.strip().rstrip(";")
            # Behind a comment a semicolon would belong to it.
            print(f"{text}\n;" if "--" in text.splitlines()[-1] else f"{text};", file=stdout)
        print(file=stdout)
    print(f"-- {len(steps)} migrations; dry run, nothing was changed", file=stdout)


def print_result(result: Result, *, direction: Direction, as_json: bool, stdout: TextIO) -> None:
    """Print what was done: one line, or one JSON object."""
    if as_json:
        facts = {
            "migrations": [step.known.id for step in result.steps],
            "background_migrations": result.background_completed,
            "unfinished_background_migrations": list(result.background_unfinished),
            "seconds": round(result.seconds, 3),
        }
        print(json.dumps(facts), file=stdout)
        return
    if not (result.steps or result.background_completed):
        print("OK: nothing to do", file=stdout)
        return
    counts = [
        f"{sum(step.known.phase is phase for step in result.steps)} {phase.value} migration(s)" for phase in Phase
    ]
    if direction is Direction.UP:
        counts.append(f"{result.background_completed} background migration(s)")
    verb = "applied" if direction is Direction.UP else "undid"
    print(f"OK: {verb} {', '.join(counts[:-1])} and {counts[-1]} in {result.seconds:.3f}s", file=stdout)


def print_statuses(statuses: Sequence[MigrationStatus], *, as_json: bool, stdout: TextIO) -> None:
    """Print every migration with when it was applied."""
    if as_json:
        print(json.dumps({"migrations": [_status_as_json(status) for status in statuses]}, indent=2), file=stdout)
        return
    rows = [(status.id, _applied_text(status)) for status in statuses]
    widths = [max(len(row[column]) for row in [("MIGRATION", "APPLIED"), *rows]) for column in (0, 1)]
    rule = "  ".join("-" * width for width in widths)
    lines = [rule, f"{'MIGRATION':<{widths[0]}}  APPLIED", rule, *(f"{id_:<{widths[0]}}  {text}" for id_, text in rows)]
    print("\n".join([*lines, rule]), file=stdout)


def _applied_text(status: MigrationStatus) -> str:
    if not status.known:
        return "unknown migration"
    if not status.recorded:
        return "no"
    if status.applied_at is None:  # the column allows it, and rows made by hand may have it
        return "at an unknown time"
    return timezone.localtime(status.applied_at).strftime("%Y-%m-%d %H:%M:%S.%f %z %Z")


def _status_as_json(status: MigrationStatus) -> dict[str, Any]:
    return {
        "id": status.id,
        "phase": status.phase.value,
        "applied": status.recorded,
        "applied_at": status.applied_at.isoformat() if status.applied_at else None,
        "known": status.known,
        "changed": status.changed,
    }


def _step_as_json(step: Step) -> dict[str, Any]:
    migration = step.known.migration
    return {
        "id": step.known.id,
        "phase": step.known.phase.value,
        "direction": step.direction.value,
        "transactional": migration.transactional,
        "needed_by": step.pulled_in_by,
        "required_background_migrations": list(migration.required_background_migrations),
        "queued_background_migrations": list(migration.queued_background_migrations),
        "statements": list(step.statements),
    }
