"""Runs one step: its statements with their time-outs and retries, its record, and the check of what it built."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import psycopg
import structlog
from psycopg import Connection, errors, sql
from psycopg.pq import TransactionStatus
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from schema_migrations import indexes, journal, recorder
from schema_migrations.errors import BlockedMigrationError, InvalidIndexError, MigrationFailedError
from schema_migrations.planner import Direction, Step
from schema_migrations.watcher import Watcher

log = structlog.get_logger(__name__)

LOCK_ATTEMPTS = 5
# Others hold what is asked for: it may go better a little later.
PASSING = (errors.LockNotAvailable, errors.DeadlockDetected)


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds: for the lock of a statement, for a statement (0: no end), for another migrator."""

    lock_timeout: float = 5.0
    statement_timeout: float = 0.0
    migrator_wait: float = 600.0
    retry_pause: float = 1.0


class StepReporter(Protocol):
    """Is told how one step goes."""

    def finished(self, step: Step, *, seconds: float) -> None: ...
    def retrying(self, step: Step, *, blockers: str, pause_seconds: float) -> None: ...


@dataclass(frozen=True, kw_only=True)
class StepRunner:
    """Runs steps on one direct connection in autocommit mode.

    A transactional step and its record commit as one. Without a transaction each statement commits by itself and the
    record comes last; a retry begins with the first statement again.
    """

    connection: Connection
    author: journal.Author
    limits: Limits
    reporter: StepReporter
    watcher: Watcher
    sleep: Callable[[float], None]

    def run(self, step: Step) -> None:
        """Run one step and record it. Raises BlockedMigrationError, MigrationFailedError or InvalidIndexError."""
        began = time.monotonic()
        try:
            self._retrying(step, began=began)(self._attempt, step)
        except PASSING as error:
            blockers = self._blockers(since=began)
            raise BlockedMigrationError(step.known.id, attempts=LOCK_ATTEMPTS, blockers=blockers) from error
        seconds = time.monotonic() - began
        log.info("schema migration run", migration_id=step.known.id, direction=step.direction.value, duration_s=seconds)
        self.reporter.finished(step, seconds=seconds)

    def _retrying(self, step: Step, *, began: float) -> Retrying:
        def before_sleep(state: RetryCallState) -> None:
            pause = state.next_action.sleep if state.next_action else 0.0
            self.reporter.retrying(step, blockers=self._blockers(since=began), pause_seconds=pause)

        pause = self.limits.retry_pause
        return Retrying(
            retry=retry_if_exception_type(PASSING),
            stop=stop_after_attempt(LOCK_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=pause, max=30, jitter=pause),
            sleep=self.sleep,
            before_sleep=before_sleep,
            reraise=True,
        )

    def _blockers(self, *, since: float) -> str:
        return self.watcher.blockers_since(since) or "a session that has ended"

    def _attempt(self, step: Step) -> None:
        began = time.monotonic()
        if step.known.migration.transactional:
            with self.connection.transaction():
                self._execute(step, scope="LOCAL")
                self._record(step, seconds=time.monotonic() - began)
            return
        try:
            self._drop_invalid_indexes(step)
            self._execute(step, scope="SESSION")
            self._refuse_invalid_indexes(step)
        finally:
            if not self.connection.closed:
                self.connection.execute("RESET lock_timeout; RESET statement_timeout")
        with self.connection.transaction():
            self._record(step, seconds=time.monotonic() - began)

    def _execute(self, step: Step, *, scope: str) -> None:
        for number, statement in enumerate(step.statements, start=1):
            self._set_timeouts(step, statement, scope=scope)
            try:
                self.connection.execute(statement.encode())
            except PASSING:
                raise
            except psycopg.Error as error:
                raise MigrationFailedError(step.known.id, statement=number, cause=_one_line(error)) from error
            if scope == "LOCAL" and self.connection.info.transaction_status != TransactionStatus.INTRANS:
                cause = "it ended the transaction that the migration and its record must share."
                raise MigrationFailedError(step.known.id, statement=number, cause=cause)

    def _set_timeouts(self, step: Step, statement: str, *, scope: str) -> None:
        own = step.known.migration
        # Giving up would throw a whole index build away, and its waiting stops nobody.
        patient = scope == "SESSION" and indexes.waits_patiently(statement)
        lock = 0.0 if patient else self.limits.lock_timeout
        values = {
            "lock_timeout": lock if own.lock_timeout_seconds is None else own.lock_timeout_seconds,
            "statement_timeout": (
                self.limits.statement_timeout
                if own.statement_timeout_seconds is None
                else own.statement_timeout_seconds
            ),
        }
        settings = [
            sql.SQL("SET {} {} = {}").format(sql.SQL(scope), sql.Identifier(name), sql.Literal(round(seconds * 1000)))
            for name, seconds in values.items()
        ]
        self.connection.execute(sql.SQL("; ").join(settings))

    def _record(self, step: Step, *, seconds: float) -> None:
        if step.direction is Direction.UP:
            recorder.add(self.connection, known=step.known)
        else:
            recorder.remove(self.connection, known=step.known)
        journal.add(self.connection, step=step, author=self.author, duration_seconds=seconds)

    def _drop_invalid_indexes(self, step: Step) -> None:
        """Remove what an interrupted concurrent build left behind, which `IF NOT EXISTS` would take for done."""
        for index in indexes.concurrent_indexes(step.statements):
            if name := indexes.find_invalid(self.connection, index=index):
                log.warning("dropping an invalid index", migration_id=step.known.id, index=name)
                self.connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode())

    def _refuse_invalid_indexes(self, step: Step) -> None:
        for index in indexes.concurrent_indexes(step.statements):
            if name := indexes.find_invalid(self.connection, index=index):
                raise InvalidIndexError(step.known.id, index=name)


def _one_line(error: psycopg.Error) -> str:
    text = error.diag.message_primary or str(error)
    details = [each for each in (error.diag.message_detail, error.diag.message_hint) if each]
    return " ".join([f"{text.strip()}.", *details]).replace("\n", " ")
