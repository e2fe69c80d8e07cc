"""The loop of background migrations: claim, execute, wait; in as many threads as asked for, until stopped."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog

from background_migrations import facts
from background_migrations.claims import Claimer, Idle
from background_migrations.correlation import correlated
from background_migrations.jobs import JobRun, Outcome
from background_migrations.meter import Meter
from background_migrations.pacing import IDLE_LONGEST_SECONDS, idle_pause
from background_migrations.pieces import Claim
from background_migrations.presence import Bell, Presence
from background_migrations.records import Rules
from background_migrations.sessions import REGISTRY, Connect, Session
from background_migrations.work import WorkFunction

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.2
MOST_FAULTS = 5  # turns in a row in which nothing went right, before `once` gives up


def _ignore(_claim: Claim, *, rows: int) -> None:
    """Tell nobody."""


@dataclass(kw_only=True)
class Worker:
    """Runs jobs in `concurrency` threads, each on connections of its own.

    With `once` it ends by itself when nothing can be done any more, not even later. `reasons` then say, by the name
    of the migration, what is in the way.
    """

    connect: Mapping[str, Connect]
    functions: Mapping[str, WorkFunction]
    rules: Rules
    name: str
    concurrency: int = 1
    once: bool = False
    only: Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    stop_seconds: float = 30.0  # after a stop: how long a sub-batch may go on before it is cancelled
    on_advance: Callable[..., None] = _ignore
    on_beat: Callable[[], None] = lambda: None  # again and again, while all threads are alive
    reasons: Mapping[str, str] = field(default_factory=dict, init=False)
    counts: Counter[Outcome] = field(default_factory=Counter, init=False)
    bell: Bell = field(default_factory=Bell, init=False)
    _sessions: list[Session] = field(default_factory=list, init=False)
    _ended_well: int = field(default=0, init=False)

    def run(self) -> bool:
        """Work until stopped, or with `once` until nothing is left; say whether every thread ended as it should."""
        log.info(
            "worker started",
            component=facts.component(self.rules),
            worker=self.name,
            threads=self.concurrency,
            bbm_job_interval_s=self.rules.interval,
            bbm_max_attempts=self.rules.max_attempts,
        )
        threads: list[threading.Thread] = []

        def beat() -> None:
            if all(thread.is_alive() for thread in threads):
                self.on_beat()

        presence = Presence(self.connect[REGISTRY], grace=self.rules.grace, bell=self.bell, on_beat=beat)
        threads += [
            threading.Thread(target=copy_context().run, args=(self._lane, presence), name=f"lane-{number}", daemon=True)
            for number in range(self.concurrency)
        ]
        for thread in (*threads, presence):
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive() and not self.bell.stopped:
                    thread.join(LOOK_SECONDS)
            return self._end(threads)
        finally:
            self.bell.stop()
            presence.end()

    def stop(self) -> None:
        """Let every thread end after its sub-batch; may be called from anywhere, a signal handler too."""
        self.bell.stop()

    def _end(self, threads: Sequence[threading.Thread]) -> bool:
        _join(threads, seconds=self.stop_seconds)
        if any(thread.is_alive() for thread in threads):
            log.warning(
                "cancelling what still runs", component=facts.component(self.rules), duration_s=self.stop_seconds
            )
            for session in self._sessions:
                session.cancel()
            _join(threads, seconds=self.stop_seconds)
        return self._ended_well == len(threads)

    def _lane(self, presence: Presence) -> None:
        session = Session(self.connect)
        self._sessions.append(session)
        claimer = Claimer(session=session, functions=self.functions, rules=self.rules, worker=self.name, only=self.only)
        lane = _Lane(self, session, presence, claimer)
        try:
            lane.loop()
        finally:
            self._ended_well += lane.ended_well
            session.close()


@dataclass
class _Lane:
    """One thread's loop. It is also the watch of the jobs it runs."""

    worker: Worker
    session: Session
    presence: Presence
    claimer: Claimer
    ended_well: bool = False
    _interrupted: tuple[JobRun, BaseException] | None = None

    @property
    def meter(self) -> Meter:
        """Who counts."""
        return self.worker.rules.meter

    def loop(self) -> None:
        """Go from job to job until stopped; with `once`, until nothing is left or nothing goes right any more."""
        faults = idle_turns = 0
        while not self.should_stop():
            rung, began = self.worker.bell.rung, time.monotonic()
            try:
                outcome = self._turn()
            except Exception as error:
                # What is wrong now, a server away or a fault of ours, must not end the worker.
                self._tell(error, first=not faults)
                self.session.close()
                faults += 1
                outcome = Idle(0.0 if faults == 1 else None, self.worker.reasons, lasting=True)
            else:
                faults = 0
            self.meter.turned(time.monotonic() - began)
            if isinstance(outcome, Outcome):
                self.worker.counts[outcome] += 1
                idle_turns = 0
                continue
            self.worker.reasons = outcome.reasons
            idle_turns += 1
            if self.worker.once and self._is_done(outcome, faults=faults, idle_turns=idle_turns):
                break
            longest = idle_pause(idle_turns - 1)
            pause = longest if outcome.wait_seconds is None else min(outcome.wait_seconds, longest)
            began = time.monotonic()
            self.worker.bell.wait(pause, since=rung)
            self.meter.slept(time.monotonic() - began)
        self.ended_well = faults == 0 or self.should_stop()

    def _tell(self, error: Exception, *, first: bool) -> None:
        """Log why a turn failed: a database that is away is nobody's mistake, all else is an error, once in a row."""
        is_ours = first and not isinstance(error, psycopg.Error)
        log.log(
            logging.ERROR if is_ours else logging.WARNING,
            "turn failed",
            component=facts.component(self.worker.rules),
            error=type(error).__name__,
            text=str(error),
            exc_info=error if is_ours else None,
        )

    def _is_done(self, idle: Idle, *, faults: int, idle_turns: int) -> bool:
        """Say whether nothing is left that is worth waiting for."""
        if faults:
            return faults >= MOST_FAULTS
        if idle.wait_seconds is None:
            return True
        return idle.lasting and (idle_turns >= MOST_FAULTS or idle.wait_seconds > IDLE_LONGEST_SECONDS)

    def should_stop(self) -> bool:
        """Whether the worker is to end."""
        return self.worker.bell.stopped

    def wait(self, seconds: float) -> None:
        """Wait, unless the worker is to end."""
        self.worker.bell.wait(seconds)

    def advanced(self, claim: Claim, *, rows: int) -> None:
        """Pass on that a sub-batch committed."""
        self.worker.on_advance(claim, rows=rows)

    def _turn(self) -> Outcome | Idle:
        self._settle_interrupted()
        worker = self.worker
        claim = self.claimer.next_claim()
        if isinstance(claim, Idle):
            return claim
        job = JobRun(session=self.session, claim=claim, rules=worker.rules, watch=self, options=worker.options)
        with self.presence.holding(claim.token), correlated(claim.migration.correlation_id):
            began = time.monotonic()
            self.meter.claimed(claim.job, size=claim.piece.size)
            try:
                outcome = job.execute()
            except Exception as error:
                self._interrupted = (job, error)
                raise
            self.meter.ended(claim.job, outcome=outcome.value, size=claim.piece.size, seconds=time.monotonic() - began)
            return outcome

    def _settle_interrupted(self) -> None:
        """Record on a new connection what became of a job whose connection was lost."""
        if self._interrupted is None:
            return
        job, error = self._interrupted
        try:
            with correlated(job.claim.migration.correlation_id):
                job.fail(error)
        except psycopg.OperationalError:
            raise  # once more when the server is there again
        except Exception:
            self._interrupted = None  # the claim ends with its grace time
            raise
        self._interrupted = None


def _join(threads: Sequence[threading.Thread], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(timeout=max(deadline - time.monotonic(), 0))
