"""Executes a claimed piece of a job in sub-batches and records each. Loops over sub-batches only; claims nothing."""

import enum
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg
import structlog
from psycopg import Connection

from background_migrations import catalog, facts, locks, outcomes
from background_migrations.batching import Batch, any_null, next_bounds
from background_migrations.errors import InvalidColumnError, InvalidTableError, NoProgressError, WorkAbortedError
from background_migrations.events import Fault
from background_migrations.outcomes import Half
from background_migrations.pieces import Claim
from background_migrations.records import Rules
from background_migrations.sessions import Session
from background_migrations.situation import read_situation
from background_migrations.status import Status
from background_migrations.work import WorkContext, WorkStoppedError

log = structlog.get_logger(__name__)

GITLAB_PAUSE_SECONDS = 0.5
OTHERS_PAUSE_SECONDS = 1.0
THROTTLING_SECONDS = 5.0  # between looks at the signals while a job runs
# By SQLSTATE: a statement's or a lock's time-out, an idle transaction's, a transaction's.
TIMEOUTS = frozenset({"57014", "55P03", "25P03", "25P04"})
WORKING = frozenset({Status.ACTIVE, Status.RUNNING})


class Outcome(enum.Enum):
    """What became of a claim."""

    FINISHED = "finished"  # the piece is done
    RELEASED = "released"  # given back, to be gone on with
    FAILED = "failed"  # an attempt failed; it is recorded
    LOST = "lost"  # somebody else has it by now


class Refusal(enum.Enum):
    """Why a sub-batch may not begin."""

    GITLAB_WORKS = "GitLab's own worker is at work"
    NOT_OURS = "the claim is somebody else's by now"
    NOT_ACTIVE = "the migration is not active any more"
    TAKEN = "others are at all the rows that are left"


class Watch(Protocol):
    """Says when to stop, waits, and is told of each sub-batch that committed."""

    def should_stop(self) -> bool: ...
    def wait(self, seconds: float) -> None: ...
    def advanced(self, claim: Claim, *, rows: int) -> None: ...


@dataclass(frozen=True)
class _SubBatch:
    """What is to be done in one transaction, and whether the piece ends with it."""

    batch: Batch
    last: bool
    rows: int = 0
    seconds: float = 0.0


@dataclass(kw_only=True)
class JobRun:
    """The execution of one claim, in one thread. A lost connection is raised; `fail` then records it on a new one."""

    session: Session
    claim: Claim
    rules: Rules
    watch: Watch
    options: Mapping[str, Any] = field(default_factory=dict)
    _next_value: int = field(init=False)
    _sub_batches: int = field(init=False, default=0)
    _rows: int = field(init=False, default=0)
    _began: float = field(init=False, default_factory=time.monotonic)
    _looked_at: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._next_value = self.claim.piece.next_value

    def execute(self) -> Outcome:
        """Work the claim off until it is done, fails, or has to be given back. Raises when the connection is lost."""
        try:
            while (outcome := self._step()) is None:
                pass
        except WorkStoppedError:
            return self._release()
        except Exception as error:
            if self.session.registry_is_lost:
                raise
            if isinstance(error, psycopg.errors.QueryCanceled) and self.watch.should_stop():
                return self._release()
            return self.fail(error)
        self._log(f"job {outcome.value}", job_status=outcome.value)
        return outcome

    def fail(self, error: BaseException) -> Outcome:
        """Record that this attempt failed, unless the claim is not ours any more."""
        fault, claim, connection = Fault.of(error), self.claim, self.session.registry
        # What got something done was no vain attempt.
        exhausted = claim.piece.attempts >= self.rules.max_attempts and not self._sub_batches
        half = self._half() if exhausted and fault.sqlstate in TIMEOUTS else None
        with connection.transaction():
            self._begin(connection)
            if outcomes.holds(connection, claim, rules=self.rules) is None:
                return self._lose()
            kind = outcomes.fail(connection, claim, fault=fault, exhausted=exhausted, half=half, rules=self.rules)
        self.rules.meter.failed(claim.job, kind=kind)
        self._log("job failed", job_status=Outcome.FAILED.value, error=fault.error_class, text=fault.text)
        if reason := self._fail_migration(error):
            facts.tell_failed(log, claim.migration, rules=self.rules, reason=reason)
        return Outcome.FAILED

    # --- One sub-batch --------------------------------------------------------------------------------------------

    def _step(self) -> Outcome | None:
        """Do one sub-batch, or give way; None: there is more to do."""
        if self.watch.should_stop() or self._is_throttled():
            return self._release()
        began = time.monotonic()
        done = self._external() if self.claim.function.is_external else self._local()
        if done is Refusal.GITLAB_WORKS:
            self.watch.wait(GITLAB_PAUSE_SECONDS)
            return None
        if done is Refusal.NOT_OURS:
            return self._lose()
        if isinstance(done, Refusal):
            return self._release(pause=OTHERS_PAUSE_SECONDS if done is Refusal.TAKEN else 0.0)
        self._sub_batches += 1
        self._rows += done.rows
        if not done.batch.null_strategy and not done.last:
            self._next_value = done.batch.max_value + 1
        seconds = time.monotonic() - began
        self.rules.meter.worked(self.claim.job, rows=done.rows, seconds=seconds, work_seconds=done.seconds)
        log.debug(
            "sub-batch done",
            component=facts.component(self.rules),
            job_id=self.claim.piece.job_id,
            sub_batch_count=self._sub_batches,
            sub_batch_start=done.batch.min_value,
            sub_batch_end=done.batch.max_value,
            sub_batch_size=done.batch.size,
            rows=done.rows,
            duration_s=round(seconds, 3),
        )
        self.watch.advanced(self.claim, rows=done.rows)
        return Outcome.FINISHED if done.last else None

    def _local(self) -> _SubBatch | Refusal:
        """Let the work and its record commit as one."""
        connection = self.session.registry
        with connection.transaction():
            if (refusal := self._enter(connection)) is not None:
                return refusal
            return self._record(connection, self._work(connection, self._sub_batch()))

    def _external(self) -> _SubBatch | Refusal:
        """Let the work commit by itself, then its record: no transaction is open on the registry while it waits."""
        connection = self.session.registry
        with connection.transaction():
            if (refusal := self._enter(connection)) is not None:
                return refusal
            sub_batch = self._sub_batch()
        function, timeout = self.claim.function, self.rules.timeout_of(self.claim.migration)
        done = self._work(self.session.limited(function.database, statement_timeout=timeout), sub_batch)
        with connection.transaction():
            self._begin(connection)
            if outcomes.holds(connection, self.claim, rules=self.rules) is None:
                return Refusal.NOT_OURS
            return self._record(connection, done)

    def _begin(self, connection: Connection) -> bool:
        timeout = self.rules.timeout_of(self.claim.migration)
        return locks.begin_work(connection, lock_timeout=0, statement_timeout=timeout)

    def _enter(self, connection: Connection) -> Refusal | None:
        if not self._begin(connection):
            return Refusal.GITLAB_WORKS
        status = outcomes.holds(connection, self.claim, rules=self.rules)
        if status is None:
            return Refusal.NOT_OURS
        return None if status in WORKING else Refusal.NOT_ACTIVE

    def _sub_batch(self) -> _SubBatch:
        claim, piece = self.claim, self.claim.piece
        if claim.migration.null_strategy:
            left = piece.size - self._rows
            size = min(piece.sub_batch_size or left, left)
            batch = Batch(claim.target.table, claim.target.column, 0, 0, size, null_strategy=True)
            return _SubBatch(batch, last=size == left)
        size, end, last = piece.sub_batch_size or piece.size, piece.max_value, True
        if piece.sub_batch_size:
            with self._reading() as connection:
                bounds = next_bounds(connection, claim.target, start=self._next_value, limit=end, size=size)
            end, last = bounds.max_value, bounds.last
        return _SubBatch(Batch(claim.target.table, claim.target.column, self._next_value, end, size), last)

    def _work(self, connection: Connection, sub_batch: _SubBatch) -> _SubBatch:
        claim = self.claim
        context = WorkContext(
            migration_name=claim.migration.name,
            job_id=claim.piece.job_id,
            options=self.options,
            should_stop=self.watch.should_stop,
        )
        started = time.monotonic()
        with connection.cursor() as cursor:
            try:
                rows = claim.function.run(cursor, sub_batch.batch, context)
            except Exception:
                raise
            except BaseException as error:
                # It must not end the thread: SystemExit, a cancelled task's error.
                raise WorkAbortedError(type(error).__name__) from error
        # The null strategy has come to its end when it finds fewer rows than it may do; or nowhere.
        last = sub_batch.last or (sub_batch.batch.null_strategy and rows < sub_batch.batch.size)
        return _SubBatch(sub_batch.batch, last, rows, time.monotonic() - started)

    def _record(self, connection: Connection, done: _SubBatch) -> _SubBatch | Refusal:
        if done.batch.null_strategy and done.rows == 0 and not self._rows and self._stands_still(connection):
            return Refusal.TAKEN
        if done.last:
            outcomes.finish(connection, self.claim, rows=done.rows, seconds=done.seconds)
        else:
            next_value = 0 if done.batch.null_strategy else done.batch.max_value + 1
            outcomes.advance(connection, self.claim, next_value=next_value, rows=done.rows, seconds=done.seconds)
        return done

    def _stands_still(self, connection: Connection) -> bool:
        """Say whether others are at all the rows that are left to do. Raises NoProgressError when nobody is."""
        claim = self.claim
        with self._reading() as reading:
            if not any_null(reading, claim.target):
                return False
        situation = read_situation(connection, claim.migration, function=claim.function, rules=self.rules)
        if situation.live <= 1:
            raise NoProgressError(claim.migration.table_name, column=claim.target.column)
        return True

    # --- Giving back ----------------------------------------------------------------------------------------------

    def _release(self, *, pause: float = 0.0) -> Outcome:
        connection = self.session.registry
        with connection.transaction():
            self._begin(connection)
            if outcomes.holds(connection, self.claim, rules=self.rules) is None:
                return self._lose()
            outcomes.release(connection, self.claim, rules=self.rules, pause=pause)
        return Outcome.RELEASED

    def _lose(self) -> Outcome:
        outcomes.let_go(self.session.registry, self.claim)
        return Outcome.LOST

    def _fail_migration(self, error: BaseException) -> str:
        """Fail the migration when this error says that no other job can do better, or when most jobs have failed.

        Return why, if it failed now.
        """
        claim, rules, connection = self.claim, self.rules, self.session.registry
        if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            try:
                with self._reading() as reading:
                    catalog.check_target(reading, claim.target, columns=claim.function.columns)
            except (InvalidTableError, InvalidColumnError) as missing:
                return outcomes.fail_for_target(connection, claim.migration, missing, actor=rules.actor)
        with connection.transaction():
            self._begin(connection)
            return outcomes.fail_early(connection, claim.migration, actor=rules.actor)

    def _is_throttled(self) -> bool:
        if time.monotonic() - self._looked_at < THROTTLING_SECONDS:
            return False
        self._looked_at = time.monotonic()
        with self._reading() as connection:
            throttled = self.rules.lookout.throttled(connection, self.claim.target.table)
        if throttled is not None:
            self.rules.meter.throttled(throttled.signal)
        return throttled is not None

    def _half(self) -> Half | None:
        """Return where what is left can be cut in two; None when it is a single row, or cannot be looked at."""
        try:
            with self.session.registry.transaction(), self._reading() as connection:
                return self._find_half(connection)
        except psycopg.Error:
            if self.session.registry_is_lost:
                raise
            return None

    def _find_half(self, connection: Connection) -> Half | None:
        claim, size = self.claim, self.claim.piece.size
        in_one_go = max(1, min(claim.piece.sub_batch_size or size, size) // 2)
        while (size := size // 2) >= 1:
            sub_batch_size = in_one_go if in_one_go < size else 0
            if claim.migration.null_strategy:
                return Half(claim.piece.max_value, size, sub_batch_size)
            bounds = next_bounds(
                connection, claim.target, start=self._next_value, limit=claim.piece.max_value, size=size
            )
            if not bounds.last:
                return Half(bounds.max_value, size, sub_batch_size)
        return None

    def _reading(self) -> AbstractContextManager[Connection]:
        return self.session.reading(
            self.claim.function.database, statement_timeout=self.rules.timeout_of(self.claim.migration)
        )

    def _log(self, event: str, **more: Any) -> None:
        log.info(
            event,
            component=facts.component(self.rules),
            **facts.of_claim(self.claim),
            sub_batch_count=self._sub_batches,
            rows=self._rows,
            duration_s=round(time.monotonic() - self._began, 3),
            **more,
        )
