"""Lanes: worker threads that take turns and rest after every commit, so that a test can try any order of commits."""

import enum
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
from psycopg.pq import TransactionStatus

from background_migrations import services
from background_migrations.claims import Claimer, Idle
from background_migrations.jobs import JobRun, Outcome
from background_migrations.pieces import Claim
from background_migrations.records import Rules
from background_migrations.sessions import Session
from background_migrations.status import Status
from background_migrations.work import WorkFunction
from tests.background_migrations.conftest import Bench
from tests.conftest import Database

AN_HOUR_LATER = """
    UPDATE registry_admin.background_migration_job_progress
    SET retry_at = retry_at - interval '1 hour', seen_at = seen_at - interval '1 hour'
"""
LONGEST = 3_000  # commits; what has not ended by then goes round in circles
LONGEST_SECONDS = 60  # between two commits; whoever needs more waits for what never comes
TIME_OUT = "DO $$ BEGIN RAISE EXCEPTION 'it takes too long' USING ERRCODE = 'query_canceled'; END $$"


class Killed(BaseException):
    """The end of a lane's process, between two of its commits."""


class Fault(enum.Enum):
    """How a call of the work function ends after it has changed its rows."""

    NONE = "it does not fail"
    ERROR = "an error"
    TIMEOUT = "a statement's time-out"


class WatchedConnection(psycopg.Connection):
    """Calls `at_rest` whenever no transaction of its own is open: after each commit, rollback and lone statement."""

    at_rest: Callable[[], None] = staticmethod(lambda: None)

    def wait(self, *arguments, **options):
        try:
            return super().wait(*arguments, **options)
        finally:
            if self.info.transaction_status is TransactionStatus.IDLE:
                self.at_rest()


def watched(database: Database, at_rest: Callable[[], None]) -> WatchedConnection:
    """Open a watched connection in autocommit mode."""
    connection = WatchedConnection.connect(database.url, autocommit=True, prepare_threshold=None)
    connection.at_rest = at_rest
    return connection


class Lane(threading.Thread):
    """A worker's thread, which goes on only when told to, up to its next rest. It is also the watch of its jobs."""

    def __init__(self, crew: "Crew", name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.claim: Claim | None = None
        self.is_idle = False
        self.outcomes: list[Outcome] = []
        self.gives_back = False  # its job, before the next sub-batch
        self._crew, self._error, self._killed = crew, None, False
        self._go, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        self.start()

    def advance(self) -> None:
        """Let it go on to its next rest; raise what went wrong there."""
        self._go.release()
        assert self._rests.acquire(timeout=LONGEST_SECONDS), f"{self.name} has come to no rest"
        if self._error is not None:
            raise self._error

    def kill(self) -> None:
        """End it where it rests; its claim stays behind."""
        self._killed = True
        self._go.release()
        self.join(timeout=LONGEST_SECONDS)

    def run(self) -> None:
        session = Session({"registry": lambda: watched(self._crew.bench.database, self._rest)})
        try:
            self._await()
            self._work(session)
        except Killed:
            pass
        except BaseException as error:
            self._error = error
        finally:
            session.close()
            self._rests.release()

    def should_stop(self) -> bool:
        stops, self.gives_back = self.gives_back, False
        return stops

    def wait(self, seconds: float) -> None:
        pass

    def advanced(self, claim: Claim, *, rows: int) -> None:
        pass

    def _work(self, session: Session) -> None:
        crew = self._crew
        claimer = Claimer(session=session, functions=crew.functions, rules=crew.rules, worker=self.name)
        while True:
            claim = claimer.next_claim()
            self.is_idle = isinstance(claim, Idle)
            if isinstance(claim, Claim):
                self.claim = claim
                self.outcomes.append(JobRun(session=session, claim=claim, rules=crew.rules, watch=self).execute())
                self.claim = None

    def _rest(self) -> None:
        self._rests.release()
        self._await()

    def _await(self) -> None:
        self._go.acquire()
        if self._killed:
            raise Killed


class Crew:
    """Lanes over one database. Their work functions fail as `faults` say, call by call, then no more."""

    def __init__(self, bench: Bench, *, lanes: int, rules: Rules, faults: Iterable[Fault] = ()) -> None:
        self.bench, self.rules = bench, rules
        self.functions = {
            name: replace(function, run=self._failing(function)) for name, function in bench.functions.items()
        }
        self.before_work: Callable[[Lane], None] = lambda lane: None
        self._faults: Iterator[Fault] = iter(faults)
        self.lanes = [Lane(self, f"lane {number}") for number in range(lanes)]

    def advance(self, number: int, *, times: int = 1) -> None:
        """Let one lane go on, so many commits."""
        for _ in range(times):
            self.lanes[number % len(self.lanes)].advance()

    def replace(self, number: int) -> None:
        """Kill one lane and put another one in its place."""
        number %= len(self.lanes)
        self.lanes[number].kill()
        self.lanes[number] = Lane(self, f"{self.lanes[number].name}, again")

    def give_back(self, number: int) -> None:
        """Let one lane give its job back before its next sub-batch."""
        self.lanes[number % len(self.lanes)].gives_back = True

    def finish(self, name: str) -> None:
        """Let all go on in turn until a migration is finished, helped whenever there is nothing for anybody to do."""
        for number in range(LONGEST):
            if self.bench.status(name) == Status.FINISHED and not any(lane.claim for lane in self.lanes):
                return
            self.advance(number)
            self.help(name)
        raise AssertionError("It has not come to an end.")

    def help(self, name: str) -> None:
        """Do what an operator does when all lanes are idle, and let time pass."""
        if not all(lane.is_idle for lane in self.lanes):
            return
        status = self.bench.status(name)
        if status == Status.PAUSED:
            services.resume(self.bench.connection, [name], actor="tests")
        elif status == Status.FAILED:
            services.restart(self.bench.connection, name, actor="tests")
        self.sleep()

    def sleep(self) -> None:
        """Let an hour pass in which no lane does anything: all their claims look abandoned."""
        self.bench.connection.execute(AN_HOUR_LATER)

    def _failing(self, function: WorkFunction):
        def run(cursor, batch, context) -> int:
            self.before_work(threading.current_thread())
            rows = function.run(cursor, batch, context)
            fault = next(self._faults, Fault.NONE)
            if fault is Fault.TIMEOUT:
                cursor.execute(TIME_OUT)
            if fault is Fault.ERROR:
                raise RuntimeError("it was told to fail")
            return rows

        return run


@contextmanager
def crew(bench: Bench, **values) -> Iterator[Crew]:
    """A crew, all of which ends with the block."""
    made = Crew(bench, **values)
    try:
        yield made
    finally:
        for lane in made.lanes:
            lane.kill()
