"""Finds the next job among all background migrations and claims it, fenced; one short transaction for each look."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
import structlog

from background_migrations import facts, locks, outcomes
from background_migrations.batching import STRATEGIES
from background_migrations.correlation import correlated
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

log = structlog.get_logger(__name__)

GITLAB_PAUSE_SECONDS = 1.0
FAULT_PAUSE_SECONDS = 5.0  # doubles with each fault in a row
LONGEST_FAULT_PAUSE_SECONDS = 300.0
# Somebody holds a lock that we need, or ours was the deadlock's: nothing is wrong.
LOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

CANDIDATES = """
    SELECT id, name FROM public.batched_background_migrations
    WHERE status IN (1, 4) AND (%(only)s::text[] IS NULL OR name = ANY(%(only)s::text[]))
    ORDER BY status DESC, id
"""


@dataclass(frozen=True)
class Idle:
    """There is nothing to do now. Wait so many seconds; None: nothing will come by itself.

    `lasting`: nothing will come soon either, or only if a fault goes away.
    """

    wait_seconds: float | None
    reasons: Mapping[str, str] = field(default_factory=dict)  # by the name of the migration
    lasting: bool = False


@dataclass
class _Faults:
    """What went wrong in a row with one migration, here: until when to leave it alone, and its vain cuts."""

    count: int = 0
    vain_cuts: int = 0
    until: float = 0.0
    reason: str = ""


@dataclass(kw_only=True)
class Claimer:
    """Claims jobs for one thread of a worker; `functions` are the ones this release has."""

    session: Session
    functions: Mapping[str, WorkFunction]
    rules: Rules
    worker: str
    only: Sequence[str] | None = None  # names of migrations; None: all
    clock: Callable[[], float] = time.monotonic
    _faults: dict[int, _Faults] = field(default_factory=dict)

    def next_claim(self) -> Claim | Idle:
        """Claim a job of the first migration that has one, running ones first; what is in the way delays only itself.

        Raises psycopg's errors when the registry's connection is lost.
        """
        skips: dict[str, Skip] = {}
        only = list(self.only) if self.only is not None else None
        for migration_id, name in self.session.registry.execute(CANDIDATES, {"only": only}).fetchall():
            outcome = self._consider(migration_id)
            if isinstance(outcome, Claim):
                return outcome
            skips[name] = outcome
        waits = [skip for skip in skips.values() if skip.wait_seconds is not None]
        return Idle(
            min((max(skip.wait_seconds or 0.0, 0.0) for skip in waits), default=None),
            reasons={name: skip.reason for name, skip in skips.items()},
            lasting=all(skip.lasting for skip in waits),
        )

    def _consider(self, migration_id: int) -> Claim | Skip:
        """Look at one migration; its own faults are noted beside it, so that they stop no other one."""
        faults = self._faults.setdefault(migration_id, _Faults())
        if (left := faults.until - self.clock()) > 0:
            return Skip(faults.reason, left, lasting=True)
        try:
            outcome = self._look(migration_id, vain_cuts=faults.vain_cuts)
        except LOCKED as error:
            return Skip(Fault.of(error).text, GITLAB_PAUSE_SECONDS)
        except (psycopg.Error, BackgroundMigrationError) as error:
            if self.session.registry_is_lost:
                raise
            return self._contain(migration_id, error, faults)
        del self._faults[migration_id]
        return outcome

    def _contain(self, migration_id: int, error: Exception, faults: _Faults) -> Skip:
        faults.count += 1
        faults.vain_cuts += isinstance(error, psycopg.errors.QueryCanceled)
        faults.reason = Fault.of(error).text
        # A plan that the server keeps may be what is wrong, after the table was changed.
        self.session.close()
        try:
            skip = self._record(migration_id, error, faults)
        except psycopg.Error as worse:
            log.warning(
                "fault cannot be noted",
                component=facts.component(self.rules),
                bbm_id=migration_id,
                error=faults.reason,
                text=str(worse),
            )
            skip = Skip(faults.reason)
        if skip.wait_seconds is None and isinstance(error, psycopg.Error):
            pause = min(FAULT_PAUSE_SECONDS * 2 ** (faults.count - 1), LONGEST_FAULT_PAUSE_SECONDS)
            faults.until = self.clock() + pause
            return Skip(faults.reason, pause, lasting=True)
        return skip

    def _record(self, migration_id: int, error: Exception, faults: _Faults) -> Skip:
        """Write down what is wrong with a migration; fail it when that will not change by itself."""
        rules, connection = self.rules, self.session.registry
        with connection.transaction():
            locks.begin_work(connection, lock_timeout=rules.lock_timeout, statement_timeout=rules.job_timeout)
            migration = lock_migration(connection, migration_id)
            if migration is None:
                return Skip("it is gone")
            code = _permanent(error)
            if faults.vain_cuts and not migration.batch_size >> faults.vain_cuts:
                code = FailureErrorCode.UNKNOWN
            if code is None:
                name = error.code if isinstance(error, BackgroundMigrationError) else "database_error"
                outcomes.note_throttled(connection, migration, Throttled(name, faults.reason))
                failed = False
            else:
                with correlated(migration.correlation_id):
                    failed = bool(
                        transition(
                            connection,
                            [migration_id],
                            to=Status.FAILED,
                            actor=rules.actor,
                            reason=faults.reason,
                            code=code,
                        )
                    )
        if failed:
            self._tell_failed(migration, faults.reason)
        return Skip(faults.reason)

    def _look(self, migration_id: int, *, vain_cuts: int) -> Claim | Skip:
        rules = self.rules
        connection = self.session.registry
        with connection.transaction():
            # Should the server crash, a lost claim has lost nothing: what is done under it commits after it.
            if not locks.begin_work(
                connection,
                lock_timeout=rules.lock_timeout,
                statement_timeout=rules.job_timeout,
                idle_timeout=rules.grace,
                durable=False,
            ):
                return Skip("GitLab's own worker is at work", GITLAB_PAUSE_SECONDS)
            migration = lock_migration(connection, migration_id)
            if migration is None or migration.status not in (Status.ACTIVE, Status.RUNNING):
                return Skip("it is not active any more")
            if migration.controls.job_timeout_seconds is not None:
                locks.limit_statements(connection, seconds=rules.timeout_of(migration))
            with correlated(migration.correlation_id):
                outcome = Turn(
                    session=self.session,
                    migration=migration,
                    function=self._function_of(migration),
                    rules=rules,
                    worker=self.worker,
                    vain_cuts=vain_cuts,
                ).take()
        if isinstance(outcome, Skip) and outcome.failed:
            self._tell_failed(migration, outcome.failed)
        return outcome

    def _tell_failed(self, migration: MigrationRecord, reason: str) -> None:
        with correlated(migration.correlation_id):
            facts.tell_failed(log, migration, rules=self.rules, reason=reason)

    def _function_of(self, migration: MigrationRecord) -> WorkFunction:
        function = self.functions.get(migration.job_signature_name)
        if function is None:
            raise UnknownWorkFunctionError(migration.job_signature_name, known=tuple(self.functions))
        if migration.batching_strategy not in STRATEGIES:
            raise UnknownStrategyError(str(migration.batching_strategy))
        return function


def _permanent(error: Exception) -> FailureErrorCode | None:
    if isinstance(error, InvalidTableError | psycopg.errors.UndefinedTable):
        return FailureErrorCode.INVALID_BBM_TABLE
    if isinstance(error, InvalidColumnError | psycopg.errors.UndefinedColumn):
        return FailureErrorCode.INVALID_BBM_COLUMN
    return None
