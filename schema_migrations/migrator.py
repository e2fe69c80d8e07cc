"""Takes the lock, runs a plan step by step and says what it did. Prints nothing, asks nothing.

A migration and its record commit together; one without a transaction is recorded after its last statement, so a
killed run repeats at most that one, whose statements may run twice.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import psycopg
import structlog
from psycopg import Connection, errors, sql
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from schema_migrations import journal, preflight, recorder
from schema_migrations.errors import (
    BlockedMigrationError,
    InvalidIndexError,
    MigrationFailedError,
    PlanChangedError,
    UnfinishedBackgroundMigrationsError,
)
from schema_migrations.loader import KnownMigration
from schema_migrations.locks import migrator_lock
from schema_migrations.planner import Direction, Selection, Step, plan_down, plan_up
from schema_migrations.watcher import IndexBuild, Watcher

log = structlog.get_logger(__name__)

LOCK_ATTEMPTS = 5
WATCH_SECONDS = 1.0
CONCURRENT_INDEX = re.compile(
    r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>[\w.\"]+)\s+ON\b",
    re.IGNORECASE,
)
INVALID_INDEX = "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid)"


@dataclass(frozen=True)
class BackgroundOutcome:
    """What became of required background migrations: how many were completed just now, which are not finished."""

    completed: int = 0
    unfinished: tuple[str, ...] = ()


class FinishBackgroundMigrations(Protocol):
    """Checks that background migrations are finished; with `run` it completes them first. None means all of them."""

    def __call__(self, names: Sequence[str] | None, *, run: bool) -> BackgroundOutcome: ...


class Reporter(Protocol):
    """Is told what happens while it happens."""

    def waiting(self, holder: str) -> None: ...
    def planned(self, steps: Sequence[Step]) -> None: ...
    def finished(self, step: Step, *, seconds: float) -> None: ...
    def retrying(self, step: Step, *, blockers: str, pause_seconds: float) -> None: ...
    def building(self, build: IndexBuild) -> None: ...


@dataclass(frozen=True)
class Limits:
    """How long to wait, in seconds: for the lock of a statement, for a statement (0: no end), for another migrator."""

    lock_timeout: float = 5.0
    statement_timeout: float = 0.0
    migrator_wait: float = 600.0
    retry_pause: float = 1.0


@dataclass(frozen=True)
class Result:
    """What one run did."""

    steps: tuple[Step, ...]
    background_completed: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Migrator:
    """Applies and undoes schema migrations on one direct connection in autocommit mode.

    `connect` opens another connection to the same database, for watching. `finish_background` is what a migration's
    required background migrations are checked with; without it, a migration that requires some is refused.
    """

    connection: Connection
    connect: Callable[[], Connection]
    known: Sequence[KnownMigration]
    author: journal.Author
    reporter: Reporter
    limits: Limits = Limits()
    finish_background: FinishBackgroundMigrations | None = None
    sleep: Callable[[float], None] = time.sleep

    def up(self, selection: Selection) -> Result:
        """Apply what is pending and selected. Steps that committed stay when a later one fails.

        On an empty database the run is an installation: required background migrations run inline, all others at
        its end. An interrupted installation is taken up again as one.
        """
        started = time.monotonic()
        with self._alone():
            applied = self._applied()
            recorder.create_tables(self.connection)
            journal.create_tables(self.connection)
            if not applied:
                journal.begin_installation(self.connection)
            steps = plan_up(self.known, applied=applied, selection=selection)
            completed = self._run(steps, installing=journal.is_installing(self.connection))
            completed += self._finish_installation()
        return Result(steps, completed, time.monotonic() - started)

    def plan_down(self, selection: Selection) -> tuple[Step, ...]:
        """Return what `down` would undo, for the question that comes before it."""
        return plan_down(self.known, applied=self._applied(), selection=selection)

    def down(self, selection: Selection, *, confirmed: Sequence[Step]) -> Result:
        """Undo the confirmed steps; raises and changes nothing when the plan is another one by now."""
        started = time.monotonic()
        with self._alone():
            journal.create_tables(self.connection)
            steps = self.plan_down(selection)
            if steps != tuple(confirmed):
                raise PlanChangedError
            self._run(steps, installing=False)
        return Result(steps, 0, time.monotonic() - started)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        preflight.check_migratable(self.connection)
        with migrator_lock(
            self.connection,
            wait_seconds=self.limits.migrator_wait,
            on_wait=self.reporter.waiting,
            sleep=self.sleep,
        ):
            yield

    def _applied(self) -> set[str]:
        return {each.id for each in recorder.applied_migrations(self.connection)}

    def _run(self, steps: Sequence[Step], *, installing: bool) -> int:
        self.reporter.planned(steps)
        completed = 0
        with Watcher(
            self.connection.info.backend_pid,
            connect=self.connect,
            poll_seconds=min(WATCH_SECONDS, self.limits.lock_timeout / 3 or WATCH_SECONDS),
            on_index_build=self.reporter.building,
        ) as watcher:
            for step in steps:
                if step.direction is Direction.UP:
                    completed += self._require_background(step.known, run=installing)
                self._run_step(step, watcher=watcher)
        return completed

    def _require_background(self, known: KnownMigration, *, run: bool) -> int:
        names = known.migration.required_background_migrations
        if not names:
            return 0
        if self.finish_background is None:
            raise UnfinishedBackgroundMigrationsError(known.id, names=names)
        outcome = self.finish_background(names, run=run)
        if outcome.unfinished:
            raise UnfinishedBackgroundMigrationsError(known.id, names=outcome.unfinished)
        return outcome.completed

    def _finish_installation(self) -> int:
        """End the installation when nothing is pending any more: background migrations have an empty database."""
        pending = {each.id for each in self.known} - self._applied()
        if pending or not journal.is_installing(self.connection):
            return 0
        completed = self.finish_background(None, run=True).completed if self.finish_background else 0
        journal.finish_installation(self.connection)
        return completed

    def _run_step(self, step: Step, *, watcher: Watcher) -> None:
        began = time.monotonic()

        def before_sleep(state: RetryCallState) -> None:
            pause = state.next_action.sleep if state.next_action else 0.0
            self.reporter.retrying(step, blockers=_blockers(watcher, since=began), pause_seconds=pause)

        retrying = Retrying(
            retry=retry_if_exception_type((errors.LockNotAvailable, errors.DeadlockDetected)),
            stop=stop_after_attempt(LOCK_ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=self.limits.retry_pause, max=30, jitter=self.limits.retry_pause),
            sleep=self.sleep,
            before_sleep=before_sleep,
            reraise=True,
        )
        try:
            retrying(self._attempt, step)
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            blockers = _blockers(watcher, since=began)
            raise BlockedMigrationError(step.known.id, attempts=LOCK_ATTEMPTS, blockers=blockers) from error
        seconds = time.monotonic() - began
        log.info(
            "schema migration run",
            migration_id=step.known.id,
            direction=step.direction.value,
            duration_s=seconds,
        )
        self.reporter.finished(step, seconds=seconds)

    def _attempt(self, step: Step) -> None:
        began = time.monotonic()
        if step.known.migration.transactional:
            with self.connection.transaction():
                self._set_timeouts(step, scope="LOCAL")
                self._execute(step)
                self._record(step, seconds=time.monotonic() - began)
            return
        self._set_timeouts(step, scope="SESSION")
        try:
            self._drop_invalid_indexes(step)
            self._execute(step)
            self._refuse_invalid_indexes(step)
        finally:
            if not self.connection.closed:
                self.connection.execute("RESET lock_timeout; RESET statement_timeout")
        with self.connection.transaction():
            self._record(step, seconds=time.monotonic() - began)

    def _set_timeouts(self, step: Step, *, scope: str) -> None:
        own = step.known.migration
        lock = self.limits.lock_timeout if own.lock_timeout_seconds is None else own.lock_timeout_seconds
        statement = (
            self.limits.statement_timeout if own.statement_timeout_seconds is None else own.statement_timeout_seconds
        )
        for name, seconds in (("lock_timeout", lock), ("statement_timeout", statement)):
            query = sql.SQL("SET {scope} {name} = {milliseconds}").format(
                scope=sql.SQL(scope),
                name=sql.Identifier(name),
                milliseconds=sql.Literal(round(seconds * 1000)),
            )
            self.connection.execute(query)

    def _execute(self, step: Step) -> None:
        for number, statement in enumerate(step.statements, start=1):
            try:
                self.connection.execute(statement.encode())
            except (errors.LockNotAvailable, errors.DeadlockDetected):
                raise
            except psycopg.Error as error:
                raise MigrationFailedError(step.known.id, statement=number, cause=_one_line(error)) from error

    def _record(self, step: Step, *, seconds: float) -> None:
        if step.direction is Direction.UP:
            recorder.add(self.connection, known=step.known)
        else:
            recorder.remove(self.connection, known=step.known)
        journal.add(self.connection, step=step, author=self.author, duration_seconds=seconds)

    def _drop_invalid_indexes(self, step: Step) -> None:
        """Remove what an interrupted concurrent build left behind, which `IF NOT EXISTS` would take for done."""
        for name in _concurrent_indexes(step):
            if self._is_invalid(name):
                log.warning("dropping an invalid index", migration_id=step.known.id, index=name)
                self.connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode())

    def _refuse_invalid_indexes(self, step: Step) -> None:
        for name in _concurrent_indexes(step):
            if self._is_invalid(name):
                raise InvalidIndexError(step.known.id, index=name)

    def _is_invalid(self, index: str) -> bool:
        row = self.connection.execute(INVALID_INDEX, [index]).fetchone()
        return bool(row and row[0])


def _concurrent_indexes(step: Step) -> list[str]:
    return [match["name"] for statement in step.statements for match in CONCURRENT_INDEX.finditer(statement)]


def _blockers(watcher: Watcher, *, since: float) -> str:
    return watcher.blockers_since(since) or "a session that has ended"


def _one_line(error: psycopg.Error) -> str:
    text = error.diag.message_primary or str(error)
    details = [each for each in (error.diag.message_detail, error.diag.message_hint) if each]
    return " ".join([f"{text.strip()}.", *details]).replace("\n", " ")
