"""A run of an import as pages show it: how far it is, its steps, its counts and what it left out, in words."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince

from metadata_import import history, runs
from metadata_import.following import UNITS, overall
from metadata_import.history import KILLED, Pass, RunState
from metadata_import.importer import Progress
from metadata_import.models import ImportStatus
from metadata_import.records import FAULTS
from metadata_import.statistics import Counts, ImportKind, Mode, Step, largest_first

MOVING_SECONDS, IDLE_SECONDS = 3, 15
MOST_EXAMPLES = 5
HUNDRED = 100.0
MINUTE_SECONDS = 60
STEPS = {
    Step.PRE_IMPORT: "one: repositories and their manifests",
    Step.TAG_IMPORT: "two: tags",
    Step.BLOB_IMPORT: "three: all other blobs",
}
OPTIONS = {
    Mode.FULL: "",
    Mode.PRE_IMPORT: " --step-one",
    Mode.ALL_REPOSITORIES: " --step-two",
    Mode.COMMON_BLOBS: " --step-three",
}
NEXT_STEPS = {
    KILLED: "Nobody is at it any more: its process ended without a word, or lost the database. What was done is kept; "
    "the same command goes on where it stopped.",
    ImportStatus.INTERRUPTED: "It was stopped by whoever ran it. What was done is kept; the same command goes on where "
    "it stopped.",
    ImportStatus.FAILED: "What was done is kept. Remove the cause; the same command then goes on where it stopped, and "
    "tries again what was left out and may be sound.",
    ImportStatus.ABANDONED: "It was given up for a run from the start.",
}
VISITED = ("repositories", "tags", "manifests", "blobs")
ONLY_INSERTED = ("repository_blobs", "layers", "manifest_references")


@dataclass(frozen=True)
class Line:
    """A run as one line: its state, how far it is, how much it visited."""

    state: RunState
    now: datetime
    passes: Mapping[ImportKind, Pass] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called."""
        return f"import {self.state.run.pk}"

    @property
    def status(self) -> str:
        """Its state by name."""
        return self.state.name

    @property
    def url(self) -> str:
        """Its page."""
        return reverse("admin:metadata_import_importrun_change", args=[self.state.run.pk])

    @property
    def number(self) -> float | None:
        """How far it is, in percent, as far as anybody knows."""
        if self.status == ImportStatus.FINISHED:
            return HUNDRED
        at_work = self._at_work()
        return overall(at_work[0]) * HUNDRED if at_work else None

    @property
    def percent(self) -> str:
        """How far it is, in text; rounded up, what is not finished would look as if it were."""
        if self.number is None:
            return "looking around" if self.state.alive_since else ""
        return f"{self.number if self.status == ImportStatus.FINISHED else min(self.number, 99.9):.1f} %"

    @property
    def width(self) -> str:
        """How long its bar is, as CSS reads it."""
        return f"{self.number or 0:.2f}%"

    @property
    def time_left(self) -> str:
        """How long it will still take at the pace of this attempt, once something is done."""
        at_work = self._at_work()
        if at_work is None:
            return ""
        progress, seconds = at_work
        gained = overall(progress) - overall(
            replace(progress, done=progress.done - self.passes[progress.kind].newly_done)
        )
        return duration((1 - overall(progress)) / gained * seconds) if gained > 0 else ""

    @property
    def rate(self) -> str:
        """How many tags, or blobs, this attempt visits per second."""
        at_work = self._at_work()
        if at_work is None:
            return ""
        progress, seconds = at_work
        newly = self.passes[progress.kind].newly_counted
        count, unit = (newly.tags, "tags") if progress.kind is ImportKind.REPOSITORY else (newly.blobs, "blobs")
        return f"{count / seconds:,.0f} {unit}/s" if count and seconds > 0 else ""

    @property
    def visited(self) -> str:
        """What was visited, as far as that is at hand."""
        if self.passes:
            counts = asdict(sum((each.counts for each in self.passes.values()), Counts()))
        elif self.state.run.report:
            counts = self.state.run.report["counts"]
        else:
            return ""
        return ", ".join(f"{counts[name]:,} {name}" for name in VISITED)

    @property
    def left_out(self) -> str:
        """How many items were left out, once that is known."""
        report = self.state.run.report
        return f"{sum(report['skip_counts'].values()):,}" if report else ""

    def _at_work(self) -> tuple[Progress, float] | None:
        """Return how far it is with what it is at, and for how many seconds this attempt has been at that."""
        kinds = self.state.mode.kinds
        for kind in reversed(kinds):
            began = history.began(self.state, kind)
            if began and self.passes and self.passes[kind].total:
                progress = Progress(kind, self.passes[kind].done, self.passes[kind].total, kinds=kinds)
                return progress, (self.now - began).total_seconds()
        return None


def lines(connection: BaseDatabaseWrapper, states: list[RunState], *, now: datetime) -> list[Line]:
    """Return a line for each; that one at work, of which there is one at most, says how far it is."""
    return [Line(state, now, history.passes(connection, state) if state.alive_since else {}) for state in states]


def pace(states: list[RunState]) -> int:
    """Return the seconds after which a page asks again: soon while an import is at work."""
    return MOVING_SECONDS if any(state.alive_since for state in states) else IDLE_SECONDS


def page_of(connection: BaseDatabaseWrapper, state: RunState, *, now: datetime) -> dict[str, Any]:
    """Return what the page of one run shows."""
    # An end that was recorded says how much there was; else the items say how far it came.
    finished = state.name == ImportStatus.FINISHED and state.run.report is not None
    found = {} if finished else history.passes(connection, state)
    report = history.report_of(connection, state, now=now, found=found)
    return {
        "line": Line(state, now, found),
        "run": state.run,
        "report": report,
        "ended": state.name if state.name == ImportStatus.FAILED else f"was {state.name}",
        "next_step": NEXT_STEPS.get(state.name, ""),
        "command": _command(state),
        "took": duration(report["seconds"]) if report["seconds"] else "",
        "steps": list(_steps(state, found, report)),
        "counts": list(_counts(report)),
        "size": report["counts"]["blobs_size_bytes"],
        "skipped": f"{sum(report['skip_counts'].values()):,}",
        "groups": _groups(connection, state, report["skip_counts"]),
        "every": pace([state]),
    }


def duration(seconds: float) -> str:
    """Return a length of time in words."""
    if seconds < MINUTE_SECONDS:
        return f"{seconds:.1f} s"
    now = timezone.now()
    return timesince(now - timedelta(seconds=seconds), now)


def _command(state: RunState) -> str:
    if state.name in (ImportStatus.FINISHED, ImportStatus.RUNNING, ImportStatus.ABANDONED):
        return ""
    return f"python manage.py database import {shlex.quote(state.run.root)}{OPTIONS[state.mode]}"


def _steps(state: RunState, found: Mapping[ImportKind, Pass], report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for step in state.mode.steps:
        kind = ImportKind.BLOB_PREFIX if step is Step.BLOB_IMPORT else ImportKind.REPOSITORY
        started, finished = runs.times_of(state.run, step)
        seconds = report["steps"].get(step, {}).get("seconds")
        yield {
            "name": STEPS[step],
            "state": "not begun" if started is None else "finished" if finished else state.name,
            "done": f"{found[kind].done:,} of {found[kind].total:,} {UNITS[kind]}"
            if kind in found and found[kind].total
            else "",
            "started": started,
            "took": duration(seconds) if seconds else "",
        }


def _counts(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield what was visited, how many rows of it were new, and how many were visited per second."""
    counts, inserted, rates = report["counts"], report["inserted_rows"], report["rates"]
    for name in (*VISITED, *ONLY_INSERTED):
        visited = f"{counts[name]:,}" if name in counts else ""
        rate = f"{rates[name]:,.0f}" if rates.get(name) else ""
        yield name.replace("_", " "), visited, f"{inserted.get(name, 0):,}", rate


def _groups(connection: BaseDatabaseWrapper, state: RunState, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    if not counts:
        return []
    shown = history.examples(connection, state.run.pk, reasons=list(counts), limit=MOST_EXAMPLES)
    return [
        {
            "reason": reason.replace("_", " "),
            "count": f"{count:,}",
            "may_be_sound": reason in FAULTS,
            "examples": shown[reason],
            "more": f"{count - len(shown[reason]):,}" if count > len(shown[reason]) else "",
        }
        for reason, count in largest_first(counts)
    ]
