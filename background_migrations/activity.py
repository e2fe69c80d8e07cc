"""What happens now and what happened lately, for charts and tiles: a fixed number of queries, each over an index."""

import datetime
from dataclasses import dataclass
from typing import TypeVar

from psycopg import Connection
from psycopg.rows import class_row

from background_migrations.reports import EventReport
from background_migrations.sessions import PURPOSE

T = TypeVar("T")
HOUR_STEP, DAY_STEP = datetime.timedelta(minutes=1), datetime.timedelta(minutes=30)
HOUR_SLOTS, DAY_SLOTS = 60, 48
RECENT_SECONDS = 60  # a worker beats several times in that
MOST_POINTS = 200
SESSIONS = f"{PURPOSE} "  # how the sessions of workers are called, before the name of the worker
CURVE_SLOTS = 60

# The last slot is not over: its rates are those of the time that has passed in it.
THROUGHPUT = """
    WITH slots AS (
        SELECT at, least(%(step)s, greatest(statement_timestamp() - at, interval '1 second')) AS length
        FROM date_bin(%(step)s, statement_timestamp(), 'epoch') AS last,
            generate_series(last - %(step)s * (%(slots)s - 1), last, %(step)s) AS at
    ),
    done AS (
        SELECT date_bin(%(step)s, ended_at, 'epoch') AS at, sum(rows) AS rows,
            count(*) FILTER (WHERE finished_at IS NOT NULL) AS jobs
        FROM registry_admin.background_migration_job_progress
        WHERE ended_at >= statement_timestamp() - %(step)s * %(slots)s GROUP BY 1
    )
    SELECT at, (coalesce(rows, 0) / extract(epoch FROM length))::float8 AS rows_per_second,
        (coalesce(jobs, 0) * 60 / extract(epoch FROM length))::float8 AS jobs_per_minute
    FROM slots LEFT JOIN done USING (at) ORDER BY at
"""
# One that waits for work keeps its sessions, whose name PostgreSQL cuts to 63 bytes; behind a pooler they show nothing.
WORKERS = """
    WITH at_work AS (
        SELECT DISTINCT worker FROM registry_admin.background_migration_job_progress
        WHERE worker <> '' AND ((finished_at IS NULL AND seen_at > statement_timestamp() - %(recent)s)
            OR ended_at > statement_timestamp() - %(recent)s)
    ),
    connected AS (
        SELECT DISTINCT substr(application_name, length(%(sessions)s) + 1) AS worker FROM pg_stat_activity
        WHERE datname = current_database() AND starts_with(application_name, %(sessions)s)
    )
    SELECT worker FROM at_work
    UNION SELECT worker FROM connected
    WHERE NOT EXISTS (SELECT FROM at_work WHERE starts_with(at_work.worker, connected.worker))
    ORDER BY worker
"""
RECENT_EVENTS = """
    SELECT background_migration_id AS migration_id, name, created_at, kind, actor, job_id, old_status, new_status,
        reason, error_class, sqlstate, correlation_id
    FROM registry_admin.background_migration_events ORDER BY id DESC LIMIT %(limit)s
"""
JOBS_OVER_TIME = """
    SELECT * FROM (
        SELECT ended_at, size, seconds FROM registry_admin.background_migration_job_progress
        WHERE background_migration_id = %(id)s AND ended_at IS NOT NULL AND finished_at IS NOT NULL
        ORDER BY ended_at DESC LIMIT %(limit)s
    ) AS last_jobs ORDER BY ended_at
"""
ROWS_OVER_TIME = """
    WITH done AS (
        SELECT ended_at, size FROM registry_admin.background_migration_job_progress
        WHERE background_migration_id = %(id)s AND ended_at IS NOT NULL AND finished_at IS NOT NULL
    ),
    span AS (SELECT min(ended_at) AS first, greatest(max(ended_at) - min(ended_at), '1 second') AS length FROM done)
    SELECT max(ended_at) AS at, sum(sum(size)) OVER (ORDER BY slot)::float8 AS rows
    FROM (
        SELECT ended_at, size, floor(extract(epoch FROM ended_at - first) / extract(epoch FROM length) * %(slots)s)
            AS slot
        FROM done, span
    ) AS slots GROUP BY slot ORDER BY slot
"""
FAILED_JOBS = """
    WITH failed AS (
        SELECT id, min_value, max_value, attempts FROM public.batched_background_migration_jobs
        WHERE batched_background_migration_id = %(id)s AND status <> 2 AND failure_error_code IS NOT NULL
        ORDER BY id DESC LIMIT %(limit)s
    ),
    faults AS (
        SELECT DISTINCT ON (job_id) job_id, created_at, error_class, sqlstate, reason
        FROM registry_admin.background_migration_events
        WHERE background_migration_id = %(id)s AND error_class <> '' AND job_id IN (SELECT id FROM failed)
        ORDER BY job_id, id DESC
    )
    SELECT id, min_value, max_value, attempts, created_at, coalesce(error_class, '') AS error_class,
        coalesce(sqlstate, '') AS sqlstate, coalesce(reason, '') AS reason
    FROM failed LEFT JOIN faults ON job_id = id ORDER BY id DESC
"""


@dataclass(frozen=True)
class Throughput:
    """What all workers did in one slot of time."""

    at: datetime.datetime
    rows_per_second: float
    jobs_per_minute: float


@dataclass(frozen=True, kw_only=True)
class NamedEvent(EventReport):
    """An event, with the migration it happened to."""

    migration_id: int
    name: str


@dataclass(frozen=True)
class JobPoint:
    """The size and the seconds of one finished job."""

    ended_at: datetime.datetime
    size: int
    seconds: float


@dataclass(frozen=True)
class RowsPoint:
    """How many rows were done at a time."""

    at: datetime.datetime
    rows: float


@dataclass(frozen=True)
class FailedJob:
    """A job that failed, and the last error that it met; empty where no worker of ours wrote one down."""

    id: int
    min_value: int
    max_value: int
    attempts: int
    created_at: datetime.datetime | None
    error_class: str
    sqlstate: str
    reason: str


def last_hour(connection: Connection) -> list[Throughput]:
    """Return the throughput of each minute of the last hour."""
    return _read(connection, Throughput, THROUGHPUT, step=HOUR_STEP, slots=HOUR_SLOTS)


def last_day(connection: Connection) -> list[Throughput]:
    """Return the throughput of each half hour of the last day."""
    return _read(connection, Throughput, THROUGHPUT, step=DAY_STEP, slots=DAY_SLOTS)


def workers_seen(connection: Connection) -> list[str]:
    """Return the names of workers that held or ended a job in the last minute, or wait for work now."""
    values = {"recent": datetime.timedelta(seconds=RECENT_SECONDS), "sessions": SESSIONS}
    return [str(name) for (name,) in connection.execute(WORKERS, values)]


def recent_events(connection: Connection, *, limit: int) -> list[NamedEvent]:
    """Return the last events of all migrations, newest first."""
    return _read(connection, NamedEvent, RECENT_EVENTS, limit=limit)


def jobs_over_time(connection: Connection, migration_id: int) -> list[JobPoint]:
    """Return the last finished jobs of a migration, oldest first."""
    return _read(connection, JobPoint, JOBS_OVER_TIME, id=migration_id, limit=MOST_POINTS)


def rows_over_time(connection: Connection, migration_id: int) -> list[RowsPoint]:
    """Return how the rows done of a migration grew, in a few dozen points."""
    return _read(connection, RowsPoint, ROWS_OVER_TIME, id=migration_id, slots=CURVE_SLOTS)


def failed_jobs(connection: Connection, migration_id: int, *, limit: int) -> list[FailedJob]:
    """Return the last failed jobs of a migration with their errors, newest first."""
    return _read(connection, FailedJob, FAILED_JOBS, id=migration_id, limit=limit)


def _read(connection: Connection, kind: type[T], query: str, **values: object) -> list[T]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query.encode(), values).fetchall()
