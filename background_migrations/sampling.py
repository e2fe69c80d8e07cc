"""Tries a work function on one batch and takes everything back: what it touches, how long, by which plan."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import Connection, Cursor, sql

from background_migrations import locks, progress
from background_migrations.batching import Batch, next_bounds
from background_migrations.errors import GitLabBusyError, UnknownMigrationError, UnknownWorkFunctionError
from background_migrations.records import MigrationRecord, Rules, read_migration
from background_migrations.sessions import Session
from background_migrations.situation import read_situation
from background_migrations.work import WorkContext, WorkFunction


@dataclass(frozen=True)
class Sample:
    """What one batch took; `total_seconds` is the estimate for all that is left, pauses included, None if unknown."""

    min_value: int
    max_value: int
    rows: int
    seconds: float
    statement: str
    statement_seconds: float
    plan: str
    total_seconds: float | None


@dataclass
class _Statement:
    query: Any
    parameters: Any
    seconds: float


class _WatchedCursor(Cursor[Any]):
    """Remembers the slowest statement that it ran."""

    slowest: _Statement | None = None

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement and time it."""
        started = time.monotonic()
        super().execute(query, params, **options)
        seconds = time.monotonic() - started
        if self.slowest is None or seconds > self.slowest.seconds:
            self.slowest = _Statement(query, params, seconds)
        return self


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Samples on one session; nothing it does commits. What a function asks of the network, it asks for real."""

    session: Session
    functions: Mapping[str, WorkFunction]
    rules: Rules
    options: Mapping[str, Any]

    def sample(self, migration_id: int, *, rows: int | None = None) -> Sample:
        """Run the work function on the next `rows` rows of a migration, by default one sub-batch, and roll it back."""
        connection = self.session.registry
        with connection.transaction(force_rollback=True):
            if not locks.begin_work(
                connection, lock_timeout=self.rules.lock_timeout, statement_timeout=self.rules.job_timeout
            ):
                raise GitLabBusyError
            migration = read_migration(connection, migration_id)
            if migration is None:
                raise UnknownMigrationError(f"id {migration_id}")
            function = self.functions.get(migration.job_signature_name)
            if function is None:
                raise UnknownWorkFunctionError(migration.job_signature_name, known=tuple(self.functions))
            whole = migration.job_size
            size = rows or migration.sub_batch_size_of(function, job_size=whole) or whole
            if function.is_external:
                worked_on = self.session.connection(function.database)
                with worked_on.transaction(force_rollback=True):
                    locks.limit_statements(worked_on, seconds=self.rules.timeout_of(migration))
                    return self._try(worked_on, migration, function, size=size)
            return self._try(connection, migration, function, size=size)

    def _try(self, connection: Connection, migration: MigrationRecord, function: WorkFunction, *, size: int) -> Sample:
        batch, full = self._batch(connection, migration, function, size=size)
        context = WorkContext(migration_name=migration.name, job_id=0, options=self.options)
        with _WatchedCursor(connection) as cursor:
            started = time.monotonic()
            with connection.transaction(force_rollback=True):
                rows = function.run(cursor, batch, context)
            seconds = time.monotonic() - started
            slowest = cursor.slowest
        return Sample(
            min_value=batch.min_value,
            max_value=batch.max_value,
            rows=rows,
            seconds=seconds,
            statement=" ".join(_text(connection, slowest).split()),
            statement_seconds=slowest.seconds if slowest else 0.0,
            plan=_plan(connection, slowest),
            total_seconds=self._total(connection, migration, function, sampled=(size if full else rows, seconds)),
        )

    def _batch(
        self, connection: Connection, migration: MigrationRecord, function: WorkFunction, *, size: int
    ) -> tuple[Batch, bool]:
        """Return what comes next in this migration, and whether that is a full batch."""
        target = migration.target(function)
        if migration.null_strategy:
            return Batch(target.table, target.column, 0, 0, size, null_strategy=True), False
        situation = read_situation(self.session.registry, migration, function=function, rules=self.rules)
        done = situation.last_value
        start = migration.min_value if done is None or done >= migration.max_value else done + 1
        bounds = next_bounds(connection, target, start=start, limit=migration.max_value, size=size)
        return Batch(target.table, target.column, start, bounds.max_value, size), not bounds.last

    def _total(
        self,
        connection: Connection,
        migration: MigrationRecord,
        function: WorkFunction,
        *,
        sampled: tuple[int, float],
    ) -> float | None:
        rows, seconds = sampled
        if rows <= 0:
            return None
        total = progress.estimate_rows(connection, migration.target(function), migration=migration)
        jobs = total / migration.job_size
        return total / rows * seconds + jobs * self.rules.interval_of(migration, function)


def _text(connection: Connection, statement: _Statement | None) -> str:
    query = statement.query if statement else ""
    return query.as_string(connection) if isinstance(query, sql.Composable) else str(query)


def _plan(connection: Connection, statement: _Statement | None) -> str:
    """Run the statement once more, explained; whoever called rolls it back. Not every statement has a plan."""
    if statement is None:
        return ""
    query = f"EXPLAIN (ANALYZE, BUFFERS) {_text(connection, statement)}"
    try:
        with connection.transaction():
            return "\n".join(line for (line,) in connection.execute(query.encode(), statement.parameters))
    except psycopg.errors.SyntaxError:
        return ""
