"""Takes the lock, runs a plan step by step and says what it did. Prints nothing, asks nothing."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from psycopg import Connection

from schema_migrations import journal, preflight, recorder
from schema_migrations.errors import PlanChangedError, UnfinishedBackgroundMigrationsError
from schema_migrations.loader import KnownMigration
from schema_migrations.locks import migrator_lock
from schema_migrations.planner import Direction, Selection, Step, plan_down, plan_up
from schema_migrations.runner import Limits, StepReporter, StepRunner
from schema_migrations.watcher import IndexBuild, Watcher

WATCH_SECONDS = 1.0
# With this the server ends a statement by itself when whoever sent it has died.
WATCH_CLIENT = "SET client_connection_check_interval = '5s'"


@dataclass(frozen=True)
class BackgroundOutcome:
    """What became of required background migrations: how many were completed just now, which are not finished."""

    completed: int = 0
    unfinished: tuple[str, ...] = ()


class FinishBackgroundMigrations(Protocol):
    """Checks that background migrations are finished; with `run` it completes them first. None means all of them."""

    def __call__(self, names: Sequence[str] | None, *, run: bool) -> BackgroundOutcome: ...


class Reporter(StepReporter, Protocol):
    """Is told what happens while it happens; blocked() and building() come from another thread."""

    def waiting(self, holder: str) -> None: ...
    def planned(self, steps: Sequence[Step]) -> None: ...
    def blocked(self, blockers: str) -> None: ...
    def building(self, build: IndexBuild) -> None: ...


@dataclass(frozen=True)
class Result:
    """What one run did; an installation also says which background migrations it could not finish."""

    steps: tuple[Step, ...]
    seconds: float
    background_completed: int = 0
    background_unfinished: tuple[str, ...] = ()


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
    limits: Limits = field(default_factory=Limits)
    finish_background: FinishBackgroundMigrations | None = None
    sleep: Callable[[float], None] = time.sleep

    def up(self, selection: Selection) -> Result:
        """Apply what is pending and selected. Steps that committed stay when a later one fails.

        On an empty database the run is an installation: required background migrations run inline, all others at
        its end. An interrupted installation is taken up again as one, as long as the registry is empty.
        """
        started = time.monotonic()
        with self._alone():
            applied = self._applied()
            recorder.create_tables(self.connection)
            journal.create_tables(self.connection)
            if not applied:
                journal.begin_installation(self.connection)
            steps = plan_up(self.known, applied=applied, selection=selection)
            completed = self._run(steps)
            rest = self._finish_installation()
        return Result(steps, time.monotonic() - started, completed + rest.completed, rest.unfinished)

    def plan_down(self, selection: Selection) -> tuple[Step, ...]:
        """Return what `down` would undo, for the question that comes before it."""
        return plan_down(self.known, applied=self._applied(), selection=selection)

    def down(self, selection: Selection, *, confirmed: Sequence[Step]) -> Result:
        """Undo the confirmed steps; raises and changes nothing when the plan is another one by now."""
        started = time.monotonic()
        with self._alone():
            steps = self.plan_down(selection)
            if steps != tuple(confirmed):
                raise PlanChangedError
            if steps:
                journal.create_tables(self.connection)
                self._run(steps)
        return Result(steps, time.monotonic() - started)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        preflight.check_migratable(self.connection)
        self.connection.execute(WATCH_CLIENT)
        with migrator_lock(
            self.connection,
            wait_seconds=self.limits.migrator_wait,
            on_wait=self.reporter.waiting,
            sleep=self.sleep,
        ):
            yield

    def _applied(self) -> set[str]:
        return {each.id for each in recorder.applied_migrations(self.connection)}

    def _run(self, steps: Sequence[Step]) -> int:
        self.reporter.planned(steps)
        completed = 0
        with Watcher(
            self.connection.info.backend_pid,
            connect=self.connect,
            poll_seconds=min(WATCH_SECONDS, self.limits.lock_timeout / 3 or WATCH_SECONDS),
            on_blocked=self.reporter.blocked,
            on_index_build=self.reporter.building,
        ) as watcher:
            runner = StepRunner(
                connection=self.connection,
                author=self.author,
                limits=self.limits,
                reporter=self.reporter,
                watcher=watcher,
                sleep=self.sleep,
            )
            for step in steps:
                if step.direction is Direction.UP:
                    completed += self._require_background(step.known)
                runner.run(step)
        return completed

    def _require_background(self, known: KnownMigration) -> int:
        names = known.migration.required_background_migrations
        if not names:
            return 0
        if self.finish_background is None:
            raise UnfinishedBackgroundMigrationsError(known.id, names=names)
        outcome = self.finish_background(names, run=journal.is_installing(self.connection))
        if outcome.unfinished:
            raise UnfinishedBackgroundMigrationsError(known.id, names=outcome.unfinished)
        return outcome.completed

    def _finish_installation(self) -> BackgroundOutcome:
        """End the installation when nothing is pending any more: background migrations have an empty database.

        One that cannot be finished stays for a worker or an operator, since nothing requires it.
        """
        pending = {each.id for each in self.known} - self._applied()
        if pending or not journal.is_installing(self.connection):
            return BackgroundOutcome()
        outcome = self.finish_background(None, run=True) if self.finish_background else BackgroundOutcome()
        journal.finish_installation(self.connection)
        return outcome
