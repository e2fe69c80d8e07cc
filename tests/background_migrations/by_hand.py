"""A worker whose steps a test takes one by one: claim, then execute; nothing waits."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection, Cursor

from background_migrations.batching import Batch
from background_migrations.claims import Claimer, Idle
from background_migrations.jobs import JobRun, Outcome
from background_migrations.pieces import Claim
from background_migrations.records import Rules
from background_migrations.sessions import Connect, Session
from background_migrations.throttling import Lookout
from background_migrations.work import WorkContext
from tests.background_migrations.conftest import Bench

DUE = """
    UPDATE registry_admin.background_migration_job_progress SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL
"""
SILENT = """
    UPDATE registry_admin.background_migration_job_progress SET seen_at = seen_at - interval '1 hour'
    WHERE claim IS NOT NULL
"""
MOST_STEPS = 500


def broken(_cursor: Cursor, _batch: Batch, _context: WorkContext) -> int:
    """Do the work of a function that never works."""
    raise ValueError("it never works")


@dataclass
class Hand:
    """One worker thread in the test's hands. It is also the watch of its jobs."""

    bench: Bench
    session: Session
    rules: Rules
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    stops: bool = False
    after_sub_batch: Callable[[], None] = lambda: None
    instead_of_waiting: Callable[[], None] = lambda: None
    waited: list[float] = field(default_factory=list)
    advances: list[int] = field(default_factory=list)  # rows of each sub-batch

    def look(self) -> Claim | Idle:
        """Claim a job, or learn why there is none."""
        claimer = Claimer(session=self.session, functions=self.bench.functions, rules=self.rules, worker=self.name)
        return claimer.next_claim()

    def claim(self) -> Claim:
        """Claim a job, which there must be."""
        found = self.look()
        assert isinstance(found, Claim), found
        return found

    def idle(self) -> Idle:
        """Find no job, and learn why."""
        found = self.look()
        assert isinstance(found, Idle), found
        return found

    def job(self, claim: Claim) -> JobRun:
        """Return what executes a claim."""
        return JobRun(session=self.session, claim=claim, rules=self.rules, watch=self, options=self.options)

    def execute(self, claim: Claim | None = None) -> Outcome:
        """Execute a claim, or the next one."""
        return self.job(claim or self.claim()).execute()

    def work_off(self) -> list[Outcome]:
        """Go from job to job until none is left, without waiting for the next attempt of a failed one."""
        outcomes = []
        for _ in range(MOST_STEPS):
            self.bench.connection.execute(DUE)
            found = self.look()
            if isinstance(found, Idle):
                return outcomes
            outcomes.append(self.execute(found))
        raise AssertionError(f"there is no end to it: {outcomes[-5:]}")

    def should_stop(self) -> bool:
        return self.stops

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.instead_of_waiting()

    def advanced(self, _claim: Claim, *, rows: int) -> None:
        self.advances.append(rows)
        self.after_sub_batch()


@dataclass
class Flag:
    """A signal that a test raises, with a reason, and lowers."""

    raised: str | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)  # the tables it was asked about

    name = "flag"

    def reason(self, _connection: Connection, table: tuple[str, str]) -> str | None:
        self.asked.append(table)
        return self.raised

    @property
    def lookout(self) -> Lookout:
        """What looks at the flag each time anew."""
        return Lookout([self], fresh_seconds=0)


@contextmanager
def hand(
    bench: Bench, name: str = "hand", *, others: Mapping[str, Connect] | None = None, **rules: Any
) -> Iterator[Hand]:
    """Give a hand with connections of its own; `others` are those of further aliases."""
    session = Session({"registry": bench.database.connect, **(others or {})})
    try:
        yield Hand(bench, session, bench.rules(**rules), name)
    finally:
        session.close()


def fall_silent(bench: Bench) -> None:
    """Let all claims look abandoned: their workers have shown no sign of life for an hour."""
    bench.connection.execute(SILENT)
