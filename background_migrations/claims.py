"""Finds the next job among all background migrations and claims it, fenced; one short transaction for each look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from background_migrations import locks, outcomes
from background_migrations.batching import STRATEGIES
from background_migrations.errors import (
    BackgroundMigrationError,
    InvalidColumnError,
    InvalidTableError,
    UnknownStrategyError,
    UnknownWorkFunctionError,
)
from background_migrations.events import Fault
from background_migrations.pieces import Claim
from background_migrations.records import MigrationRecord, Rules, lock_migration
from background_migrations.sessions import Session
from background_migrations.status import FailureErrorCode, Status
from background_migrations.throttling import Throttled
from background_migrations.transitions import transition
from background_migrations.turns import Skip, Turn
from background_migrations.work import WorkFunction

GITLAB_PAUSE_SECONDS = 1.0

CANDIDATES = """
    SELECT id, name FROM public.batched_background_migrations
    WHERE status IN (1, 4) AND (%(only)s::text[] IS NULL OR name = ANY(%(only)s::text[]))
    ORDER BY status DESC, id
"""


@dataclass(frozen=True)
class Idle:
    """There is nothing to do now. Wait so many seconds; None: nothing will come by itself."""

    wait_seconds: float | None
    reasons: Mapping[str, str] = field(default_factory=dict)  # by the name of the migration


@dataclass(frozen=True, kw_only=True)
class Claimer:
    """Claims jobs for one worker; `functions` are the ones this release has."""

    session: Session
    functions: Mapping[str, WorkFunction]
    rules: Rules
    worker: str
    only: Sequence[str] | None = None  # names of migrations; None: all

    def next_claim(self) -> Claim | Idle:
        """Claim a job of the first migration that has one, running ones first; what is in the way delays only itself.

        Raises psycopg's errors when the registry's connection is lost.
        """
        waits: list[float] = []
        reasons: dict[str, str] = {}
        only = list(self.only) if self.only is not None else None
        for migration_id, name in self.session.registry.execute(CANDIDATES, {"only": only}).fetchall():
            outcome = self._consider(migration_id)
            if isinstance(outcome, Claim):
                return outcome
            reasons[name] = outcome.reason
            if outcome.wait_seconds is not None:
                waits.append(max(outcome.wait_seconds, 0.0))
        return Idle(min(waits, default=None), reasons)

    def _consider(self, migration_id: int) -> Claim | Skip:
        """Look at one migration; its own faults are noted beside it, so that they stop no other one."""
        try:
            return self._look(migration_id)
        except (InvalidTableError, psycopg.errors.UndefinedTable) as error:
            return self._fail(migration_id, error, code=FailureErrorCode.INVALID_BBM_TABLE)
        except (InvalidColumnError, psycopg.errors.UndefinedColumn) as error:
            return self._fail(migration_id, error, code=FailureErrorCode.INVALID_BBM_COLUMN)
        except BackgroundMigrationError as error:
            return self._note(migration_id, Throttled(error.code, str(error)))
        except psycopg.Error as error:
            if self.session.registry.closed:
                raise
            return self._note(migration_id, Throttled("database_error", Fault.of(error).text))

    def _look(self, migration_id: int) -> Claim | Skip:
        rules = self.rules
        connection = self.session.registry
        with connection.transaction():
            # Should the server crash, a lost claim has lost nothing: what is done under it commits after it.
            if not locks.begin_work(
                connection, lock_timeout=rules.lock_timeout, statement_timeout=rules.job_timeout, durable=False
            ):
                return Skip("GitLab's own worker is at work", GITLAB_PAUSE_SECONDS)
            migration = lock_migration(connection, migration_id)
            if migration is None or migration.status not in (Status.ACTIVE, Status.RUNNING):
                return Skip("it is not active any more")
            return Turn(
                session=self.session,
                migration=migration,
                function=self._function_of(migration),
                rules=rules,
                worker=self.worker,
            ).take()

    def _function_of(self, migration: MigrationRecord) -> WorkFunction:
        function = self.functions.get(migration.job_signature_name)
        if function is None:
            raise UnknownWorkFunctionError(migration.job_signature_name, known=tuple(self.functions))
        if migration.batching_strategy not in STRATEGIES:
            raise UnknownStrategyError(str(migration.batching_strategy))
        return function

    def _fail(self, migration_id: int, error: Exception, *, code: FailureErrorCode) -> Skip:
        reason, actor = Fault.of(error).text, self.rules.actor
        transition(self.session.registry, [migration_id], to=Status.FAILED, actor=actor, reason=reason, code=code)
        return Skip(reason)

    def _note(self, migration_id: int, throttled: Throttled) -> Skip:
        connection = self.session.registry
        with connection.transaction():
            migration = lock_migration(connection, migration_id)
            if migration is not None:
                outcomes.note_throttled(connection, migration, throttled)
        return Skip(throttled.reason)
