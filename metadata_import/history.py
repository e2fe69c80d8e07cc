"""What the journal knows of runs, for whoever shows them: by a fixed number of statements, whatever their size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from metadata_import import runs
from metadata_import.journal import SUM_INSERTED
from metadata_import.models import ImportRun, ImportStatus
from metadata_import.statistics import Counts, ImportKind, ImportReport, Mode, Step, StepTimes, facts, largest_first

KILLED = "killed"  # still called running by its row, while nobody holds the lease for it
SKIPS_AT_ONCE = 5_000

# As whoever wants the lease sees it: silent for too long, or its session is gone.
HOLDERS = """
    SELECT holder, taken_at FROM registry_admin.import_leases l
    WHERE seen_at >= clock_timestamp() - make_interval(secs => %(grace)s)
        AND (backend_pid IS NULL OR EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.backend_pid))
"""
# What was visited since this attempt began gives its rate.
PASSES = """
    SELECT kind, count(*), count(finished_at),
        count(*) FILTER (WHERE finished_at >= %(since)s),
        coalesce(sum(tags), 0), coalesce(sum(manifests), 0), coalesce(sum(blobs), 0),
        coalesce(sum(blobs_size_bytes), 0)::int8,
        coalesce(sum(tags) FILTER (WHERE finished_at >= %(since)s), 0),
        coalesce(sum(manifests) FILTER (WHERE finished_at >= %(since)s), 0),
        coalesce(sum(blobs) FILTER (WHERE finished_at >= %(since)s), 0),
        coalesce(sum(blobs_size_bytes) FILTER (WHERE finished_at >= %(since)s), 0)::int8
    FROM registry_admin.import_items WHERE run_id = %(run)s GROUP BY kind
"""
COUNT_SKIPS = "SELECT reason, count(*) FROM registry_admin.import_skips WHERE run_id = %(run)s GROUP BY reason"
# One child of two indexes is read, and found wanting, twice. An index leads to the next ones of a reason.
NEXT_SKIPS = """
    SELECT DISTINCT ON (left(path, 500) COLLATE "C", path COLLATE "C") kind, item, path, detail
    FROM registry_admin.import_skips
    WHERE run_id = %(run)s AND reason = %(reason)s
        AND (left(path, 500) COLLATE "C", path COLLATE "C") > (left(%(after)s, 500), %(after)s)
    ORDER BY left(path, 500) COLLATE "C", path COLLATE "C", id LIMIT %(limit)s
"""
EXAMPLES = """
    SELECT r.reason, s.path, s.detail
    FROM unnest(%(reasons)s::text[]) AS r (reason), LATERAL (
        SELECT path, detail FROM registry_admin.import_skips
        WHERE run_id = %(run)s AND reason = r.reason
        ORDER BY left(path, 500) COLLATE "C" LIMIT %(limit)s
    ) AS s
"""


@dataclass(frozen=True, slots=True)
class Pass:
    """How far a run is with one kind of items."""

    kind: ImportKind
    total: int = 0
    done: int = 0
    newly_done: int = 0  # since this attempt began
    counts: Counts = field(default_factory=Counts)
    newly_counted: Counts = field(default_factory=Counts)


class FoundSkip(NamedTuple):
    """Something that was left out, with the item of the run to which it belongs."""

    reason: str
    kind: str
    item: str
    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class RunState:
    """A run, and since when the present attempt has been alive: None where nobody is at it."""

    run: ImportRun
    alive_since: datetime | None

    @property
    def name(self) -> str:
        """The status, told apart from that of a run whose process is gone."""
        killed = self.run.status == ImportStatus.RUNNING and self.alive_since is None
        return KILLED if killed else str(self.run.status)

    @property
    def mode(self) -> Mode:
        """Which steps it takes."""
        return Mode(self.run.mode)


def recent_runs(
    connection: BaseDatabaseWrapper, *, grace: float, limit: int, before: int | None = None
) -> list[RunState]:
    """Return the newest runs, or those before one, newest first."""
    found = ImportRun.objects.using(connection.alias).order_by("-id")
    if before is not None:
        found = found.filter(pk__lt=before)
    return _states(connection, list(found[:limit]), grace=grace)


def find_run(connection: BaseDatabaseWrapper, run_id: int, *, grace: float) -> RunState | None:
    """Return one run, if it is there."""
    found = list(ImportRun.objects.using(connection.alias).filter(pk=run_id))
    return next(iter(_states(connection, found, grace=grace)), None)


def passes(connection: BaseDatabaseWrapper, state: RunState) -> dict[ImportKind, Pass]:
    """Return how far a run is with each kind of items that it goes through; it reads all items of the run."""
    since = state.alive_since or state.run.started_at
    found = {kind: Pass(kind) for kind in state.mode.kinds}
    for kind, total, done, newly_done, *sums in _fetch(connection, PASSES, run=state.run.pk, since=since):
        of_repositories = kind == ImportKind.REPOSITORY
        whole = Counts(done if of_repositories else 0, *map(int, sums[:4]))
        newly = Counts(newly_done if of_repositories else 0, *map(int, sums[4:]))
        found[ImportKind(kind)] = Pass(ImportKind(kind), total, done, newly_done, whole, newly)
    return found


def began(state: RunState, kind: ImportKind) -> datetime | None:
    """Return since when this attempt has been at one kind of items, while it is."""
    step = Step.BLOB_IMPORT if kind is ImportKind.BLOB_PREFIX else Step.PRE_IMPORT
    started, finished = runs.times_of(state.run, step)
    if state.alive_since is None or started is None or finished is not None:
        return None
    return max(started, state.alive_since)


def report_of(
    connection: BaseDatabaseWrapper, state: RunState, *, now: datetime, found: Mapping[ImportKind, Pass] | None = None
) -> dict[str, Any]:
    """Return the report that the last attempt left, else what the journal knows so far; the skips are counted only.

    Until an attempt has ended, its rates are those since it began, and seconds and rates of one that was killed are 0.
    """
    if state.run.report is not None:
        counts = largest_first(state.run.report["skip_counts"])  # PostgreSQL keeps no order of keys
        return {**state.run.report, "skip_counts": dict(counts)}
    return facts(_report_so_far(connection, state, found or passes(connection, state), now=now))


def examples(
    connection: BaseDatabaseWrapper, run_id: int, *, reasons: Sequence[str], limit: int
) -> dict[str, list[tuple[str, str]]]:
    """Return the first paths and details that were left out for each of these reasons."""
    found: dict[str, list[tuple[str, str]]] = {reason: [] for reason in reasons}
    for reason, path, detail in _fetch(connection, EXAMPLES, run=run_id, reasons=list(reasons), limit=limit):
        found[reason].append((path, detail))
    return found


def skip_pages(
    connection: BaseDatabaseWrapper, run_id: int, *, reason: str, at_once: int = SKIPS_AT_ONCE
) -> Iterator[list[FoundSkip]]:
    """Yield what was left out for a reason, by path, each once; so many at a time, and no transaction stays open."""
    after: str | None = ""
    while after is not None:
        rows = _fetch(connection, NEXT_SKIPS, run=run_id, reason=reason, after=after, limit=at_once)
        if rows:
            yield [FoundSkip(reason, *row) for row in rows]
        after = rows[-1][2] if len(rows) == at_once else None


def _states(connection: BaseDatabaseWrapper, found: list[ImportRun], *, grace: float) -> list[RunState]:
    """Ask who is at it, if one of these may be."""
    open_runs = [run for run in found if run.status == ImportStatus.RUNNING]
    holders = dict(_fetch(connection, HOLDERS, grace=grace)) if open_runs else {}
    return [RunState(run, holders.get(run.actor) if run in open_runs else None) for run in found]


def _report_so_far(
    connection: BaseDatabaseWrapper, state: RunState, found: Mapping[ImportKind, Pass], *, now: datetime
) -> ImportReport:
    run = state.run
    counted = _fetch(connection, COUNT_SKIPS, run=run.pk)
    return ImportReport(
        storage_driver=run.storage_driver,
        root=run.root,
        mode=state.mode,
        dry_run=False,
        attempts=run.attempts,
        started_at=run.started_at,
        finished_at=run.ended_at,
        seconds=(now - state.alive_since).total_seconds() if state.alive_since else 0.0,
        steps=tuple(_steps_so_far(state, now=now)),
        counts=sum((each.counts for each in found.values()), Counts()),
        newly_counted=sum((each.newly_counted for each in found.values()), Counts()),
        inserted_rows=dict(_fetch(connection, SUM_INSERTED, run=run.pk)),
        skip_counts=dict(counted),
        is_marked=run.is_marked,
    )


def _steps_so_far(state: RunState, *, now: datetime) -> Iterator[StepTimes]:
    for step in state.mode.steps:
        started, finished = runs.times_of(state.run, step)
        if started is not None:
            yield StepTimes(step, started, finished, seconds=_seconds(state, started, finished or now))


def _seconds(state: RunState, started: datetime, ended: datetime) -> float:
    """Return how long this attempt has been at a step."""
    if state.alive_since is None:
        return 0.0
    return max((ended - max(started, state.alive_since)).total_seconds(), 0.0)


def _fetch(connection: BaseDatabaseWrapper, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found
