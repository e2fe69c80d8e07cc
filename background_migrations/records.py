"""A background migration with its controls, as the engine reads it, and the rules it is run by."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import dict_row

from background_migrations import locks
from background_migrations.batching import NULL_STRATEGY, Target
from background_migrations.errors import InvalidTableError
from background_migrations.meter import Meter
from background_migrations.pacing import Adaptation
from background_migrations.status import Status
from background_migrations.throttling import Lookout
from background_migrations.work import WorkFunction

GRACE_SECONDS = 30.0
GITLAB_ATTEMPTS = 5  # of GitLab's own worker, unless it is configured otherwise
# `sub_batch_size` is younger than the oldest schema we work on, hence the detour.
READ = sql.SQL("""
    SELECT m.id, m.name, m.status, m.min_value, m.max_value, m.batch_size, m.job_signature_name, m.table_name,
        m.column_name, m.batching_strategy, m.total_tuple_count, m.failure_error_code,
        coalesce((to_jsonb(m)->>'sub_batch_size')::int, 0) AS sub_batch_size,
        to_jsonb(c) AS controls,
        coalesce((
            SELECT correlation_id FROM registry_admin.background_migration_events
            WHERE background_migration_id = m.id ORDER BY id DESC LIMIT 1
        ), '') AS correlation_id
    FROM public.batched_background_migrations m
    LEFT JOIN registry_admin.background_migration_controls c ON c.background_migration_id = m.id
    WHERE m.id = %(id)s
""")
# The row and the name of its table, in one round trip.
LOCK = sql.SQL("""
    SELECT migration.*, pg_advisory_xact_lock(%(class)s, hashtext(table_name)) IS NULL AS locked
    FROM ({read} FOR NO KEY UPDATE OF m) AS migration
""").format(read=READ)


@dataclass(frozen=True)
class Controls:
    """What operators set for one migration; None is the default. And what keeps it from running now."""

    batch_size: int | None = None
    sub_batch_size: int | None = None
    interval_seconds: float | None = None
    max_parallel_jobs: int | None = None
    hold_until: str | None = None
    job_timeout_seconds: float | None = None
    adaptive: bool | None = None
    target_seconds: float | None = None
    min_batch_size: int | None = None
    max_batch_size: int | None = None
    shares_table: bool | None = None
    throttled_by: str = ""
    throttled_reason: str = ""


CONTROL_NAMES = frozenset(each.name for each in fields(Controls))


@dataclass(frozen=True)
class MigrationRecord:
    """One row of GitLab's table, with our controls of it."""

    id: int
    name: str
    status: Status
    min_value: int
    max_value: int
    batch_size: int
    sub_batch_size: int
    job_signature_name: str
    table_name: str
    column_name: str
    batching_strategy: str | None
    total_tuple_count: int | None
    failure_error_code: int | None
    controls: Controls
    correlation_id: str = ""  # of the last request or command that changed something, which its jobs go on with

    @property
    def null_strategy(self) -> bool:
        """Whether its rows are those whose column is NULL."""
        return self.batching_strategy == NULL_STRATEGY

    @property
    def table(self) -> tuple[str, str]:
        """The schema and name of its table. Raises InvalidTableError."""
        schema, dot, name = self.table_name.partition(".")
        if not (schema and dot and name):
            raise InvalidTableError(self.table_name)
        return schema, name

    @property
    def job_size(self) -> int:
        """The rows of one job."""
        return self.controls.batch_size or self.batch_size

    def sub_batch_size_of(self, function: WorkFunction, *, job_size: int) -> int:
        """Return the rows of one transaction; 0: the whole job."""
        chosen = self.controls.sub_batch_size
        if chosen is None:
            chosen = self.sub_batch_size or function.sub_batch_size
        return chosen if chosen < job_size else 0

    def target(self, function: WorkFunction) -> Target:
        """Return what its batches are cut from. Raises InvalidTableError."""
        return Target(self.table, self.column_name, function.predicate)


MIGRATION_NAMES = frozenset(each.name for each in fields(MigrationRecord))


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How jobs are run where a migration's controls and its work function say nothing. All times in seconds."""

    actor: str
    interval: float = 2.0
    job_timeout: float = 180.0
    max_attempts: int = 5
    grace: float = GRACE_SECONDS  # without a sign of life for so long, a claim is abandoned
    lock_timeout: float = 5.0  # of the short transactions that claim
    target: float = 60.0  # adaptive batch size: how long a job should take
    unfinished: Status = Status.ACTIVE  # how a job is stored until it is done
    lookout: Lookout = field(default_factory=Lookout)
    paced: bool = True  # False: no interval, no hold
    meter: Meter = field(default_factory=Meter)

    def job_attempts(self, attempts: int) -> int:
        """Return what GitLab's table shows of the attempts of a job that may have more.

        Its worker would fail the whole migration over a job that had its last.
        """
        if self.unfinished is not Status.FAILED:
            return attempts
        return min(attempts, self.max_attempts - 1, GITLAB_ATTEMPTS - 1)

    def interval_of(self, migration: MigrationRecord, function: WorkFunction) -> float:
        """Return the seconds between two jobs."""
        chosen = migration.controls.interval_seconds
        return self.default_interval(function) if chosen is None or not self.paced else chosen

    def default_interval(self, function: WorkFunction) -> float:
        """Return the seconds between two jobs where no control says otherwise."""
        if not self.paced:
            return 0.0
        return self.interval if function.interval_seconds is None else function.interval_seconds

    def timeout_of(self, migration: MigrationRecord) -> float:
        """Return the seconds that a statement of a job may take; 0 is no end."""
        chosen = migration.controls.job_timeout_seconds
        return self.job_timeout if chosen is None else chosen

    def adaptation_of(self, migration: MigrationRecord) -> Adaptation | None:
        """Return how the size of its batches adapts, or None when it does not."""
        controls = migration.controls
        if not controls.adaptive:
            return None
        return Adaptation(
            controls.target_seconds or self.target,
            smallest=controls.min_batch_size or max(1, migration.batch_size // 100),
            largest=controls.max_batch_size or migration.batch_size * 10,
        )


def read_migration(connection: Connection, migration_id: int) -> MigrationRecord | None:
    """Read one migration."""
    return _read(connection, READ, {"id": migration_id})


def lock_migration(connection: Connection, migration_id: int) -> MigrationRecord | None:
    """Read one migration; lock its row and its table's name until the transaction ends.

    After a wait for the lock the controls may be older than the row: `with_controls` reads them anew.
    """
    return _read(connection, LOCK, {"class": locks.TABLE_CLASS, "id": migration_id})


def with_controls(migration: MigrationRecord, controls: Mapping[str, Any] | None) -> MigrationRecord:
    """Return the migration with these controls, as JSON of their row."""
    return replace(migration, controls=_controls(controls))


def _controls(row: Mapping[str, Any] | None) -> Controls:
    return Controls(**{name: value for name, value in (row or {}).items() if name in CONTROL_NAMES})


def _read(connection: Connection, query: sql.SQL | sql.Composed, values: Mapping[str, Any]) -> MigrationRecord | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(query, values).fetchone()
    if row is None:
        return None
    facts = {name: value for name, value in row.items() if name in MIGRATION_NAMES}
    return MigrationRecord(**{**facts, "status": Status(row["status"]), "controls": _controls(row["controls"])})
