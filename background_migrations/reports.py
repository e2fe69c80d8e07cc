"""What is shown of background migrations, their jobs and events: a fixed number of queries, however many there are."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row, dict_row

from background_migrations.errors import UnknownMigrationError
from background_migrations.progress import Pace, Progress, measure
from background_migrations.status import Status
from background_migrations.work import WorkFunction

# Jobs without a piece were done by GitLab's worker; they count with the migration's own batch size.
MIGRATIONS = """
    WITH jobs AS (
        SELECT batched_background_migration_id AS id, count(*) AS all_jobs,
            count(*) FILTER (WHERE status = 2) AS finished,
            count(*) FILTER (WHERE status <> 2 AND failure_error_code IS NOT NULL) AS failed
        FROM public.batched_background_migration_jobs GROUP BY batched_background_migration_id
    ),
    pieces AS (
        SELECT background_migration_id AS id,
            count(*) FILTER (WHERE finished_at IS NOT NULL) AS finished,
            sum(CASE WHEN finished_at IS NULL THEN least(rows, size) ELSE size END) AS rows,
            count(*) FILTER (WHERE finished_at IS NULL AND claim IS NOT NULL
                AND seen_at > statement_timestamp() - %(grace)s) AS running
        FROM registry_admin.background_migration_job_progress GROUP BY background_migration_id
    )
    SELECT m.id, m.name, m.status, m.job_signature_name, m.table_name, m.column_name, m.min_value, m.max_value,
        m.batch_size, m.batching_strategy, m.total_tuple_count, m.failure_error_code,
        m.created_at, m.updated_at, m.started_at, m.finished_at,
        coalesce(jobs.all_jobs, 0) AS jobs, coalesce(jobs.finished, 0) AS jobs_finished,
        coalesce(jobs.failed, 0) AS jobs_failed, coalesce(pieces.running, 0) AS jobs_running,
        (coalesce(pieces.rows, 0) + greatest(jobs.finished - coalesce(pieces.finished, 0), 0) * m.batch_size::numeric)
            ::bigint AS rows_done,
        CASE WHEN m.status IN (1, 4) THEN coalesce(c.throttled_by, '') ELSE '' END AS throttled_by,
        CASE WHEN m.status IN (1, 4) THEN coalesce(c.throttled_reason, '') ELSE '' END AS throttled_reason,
        c.interval_seconds, coalesce(c.max_parallel_jobs, 1) AS max_parallel_jobs,
        recent.rows AS recent_rows, recent.seconds AS recent_seconds
    FROM public.batched_background_migrations m
    LEFT JOIN registry_admin.background_migration_controls c ON c.background_migration_id = m.id
    LEFT JOIN jobs USING (id)
    LEFT JOIN pieces USING (id)
    LEFT JOIN LATERAL (
        SELECT avg(size)::float8 AS rows, avg(seconds)::float8 AS seconds FROM (
            SELECT size, seconds FROM registry_admin.background_migration_job_progress
            WHERE background_migration_id = m.id AND ended_at IS NOT NULL AND finished_at IS NOT NULL
            ORDER BY ended_at DESC LIMIT 20
        ) AS last_jobs
    ) AS recent ON m.status IN (1, 4)
    WHERE (%(names)s::text[] IS NULL OR m.name = ANY(%(names)s::text[]))
      AND (%(id)s::bigint IS NULL OR m.id = %(id)s)
    ORDER BY m.id
"""
JOBS = """
    SELECT * FROM (
        SELECT j.id, j.min_value, j.max_value, j.status, j.attempts, j.failure_error_code,
            j.created_at, j.started_at, j.finished_at,
            coalesce(p.pieces, 0) AS pieces, p.rows, p.seconds, p.next_value, p.retry_at,
            CASE WHEN j.status = 2 THEN 'finished'
                WHEN p.worker IS NOT NULL THEN 'running'
                WHEN p.set_aside THEN 'set aside'
                WHEN j.failure_error_code IS NOT NULL THEN 'failed'
                ELSE 'waiting' END AS state,
            p.worker
        FROM public.batched_background_migration_jobs j
        LEFT JOIN LATERAL (
            SELECT count(*) AS pieces, sum(rows)::bigint AS rows, sum(seconds) AS seconds,
                min(next_value) FILTER (WHERE finished_at IS NULL) AS next_value,
                min(retry_at) FILTER (WHERE finished_at IS NULL AND NOT set_aside) AS retry_at,
                coalesce(bool_and(set_aside) FILTER (WHERE finished_at IS NULL), false) AS set_aside,
                min(worker) FILTER (WHERE finished_at IS NULL AND claim IS NOT NULL
                    AND seen_at > statement_timestamp() - %(grace)s) AS worker
            FROM registry_admin.background_migration_job_progress WHERE job_id = j.id
        ) AS p ON true
        WHERE j.batched_background_migration_id = %(id)s AND j.id > %(after)s
          AND (NOT %(failed)s OR (j.status <> 2 AND j.failure_error_code IS NOT NULL))
          AND (%(state)s::text IS NULL OR (j.status = 2) = (%(state)s = 'finished'))
    ) AS job
    WHERE %(state)s::text IS NULL OR state = %(state)s ORDER BY id LIMIT %(limit)s
"""
JOB_STATES = ("waiting", "running", "failed", "set aside", "finished")
EVENTS = """
    SELECT created_at, kind, actor, job_id, old_status, new_status, reason, error_class, sqlstate, correlation_id
    FROM registry_admin.background_migration_events
    WHERE background_migration_id = %(id)s ORDER BY id DESC LIMIT %(limit)s
"""
FIND = "SELECT id FROM public.batched_background_migrations WHERE name = %(which)s"
FIND_ID = "SELECT id FROM public.batched_background_migrations WHERE id = %(which)s"


@dataclass(frozen=True, kw_only=True)
class MigrationReport:
    """A background migration as people see it. Times are aware; `rows_done` is an estimate where jobs were split."""

    id: int
    name: str
    status: Status
    job_signature_name: str
    table_name: str
    column_name: str
    min_value: int
    max_value: int
    batch_size: int
    batching_strategy: str | None
    total_tuple_count: int | None
    failure_error_code: int | None
    created_at: datetime.datetime
    updated_at: datetime.datetime | None
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    jobs: int
    jobs_finished: int
    jobs_failed: int
    jobs_running: int
    rows_done: int
    throttled_by: str
    throttled_reason: str
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """A job as people see it; `next_value` is how far it is, `worker` who has it now."""

    id: int
    min_value: int
    max_value: int
    status: int
    state: str
    attempts: int
    failure_error_code: int | None
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    pieces: int
    rows: int | None
    seconds: float | None
    next_value: int | None
    retry_at: datetime.datetime | None
    worker: str | None


@dataclass(frozen=True, kw_only=True)
class EventReport:
    """Something that happened; the newest come first."""

    created_at: datetime.datetime
    kind: str
    actor: str
    job_id: int | None
    old_status: int | None
    new_status: int | None
    reason: str
    error_class: str
    sqlstate: str
    correlation_id: str


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What the reports need of the rules and of this release, to say how long something will take."""

    functions: Mapping[str, WorkFunction]
    interval: float
    grace: float


def migration_reports(
    connection: Connection, *, defaults: Defaults, names: Sequence[str] | None = None
) -> list[MigrationReport]:
    """Return all background migrations, or these, by id; one query. Raises UnknownMigrationError."""
    found = _migration_reports(connection, defaults, names=list(names) if names is not None else None)
    missing = set(names or ()) - {each.name for each in found}
    if missing:
        raise UnknownMigrationError(min(missing))
    return found


def migration_report(connection: Connection, migration_id: int, *, defaults: Defaults) -> MigrationReport:
    """Return one background migration; one query. Raises UnknownMigrationError."""
    for found in _migration_reports(connection, defaults, migration_id=migration_id):
        return found
    raise UnknownMigrationError(migration_id)


def _migration_reports(
    connection: Connection, defaults: Defaults, *, names: list[str] | None = None, migration_id: int | None = None
) -> list[MigrationReport]:
    values = {"grace": datetime.timedelta(seconds=defaults.grace), "names": names, "id": migration_id}
    with connection.cursor(row_factory=dict_row) as cursor:
        return [_report(row, defaults) for row in cursor.execute(MIGRATIONS, values)]


def job_reports(
    connection: Connection,
    migration: str | int,
    *,
    grace: float,
    failed_only: bool = False,
    state: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[JobReport]:
    """Return jobs of one migration, in one state or in any, with an id above `after`, by id.

    Raises UnknownMigrationError.
    """
    values = {
        "id": migration_id(connection, migration),
        "grace": datetime.timedelta(seconds=grace),
        "failed": failed_only,
        "state": state,
        "after": after,
        "limit": limit,
    }
    with connection.cursor(row_factory=class_row(JobReport)) as cursor:
        return cursor.execute(JOBS, values).fetchall()


def event_reports(connection: Connection, name: str, *, limit: int = 100) -> list[EventReport]:
    """Return the last events of one migration. Raises UnknownMigrationError."""
    with connection.cursor(row_factory=class_row(EventReport)) as cursor:
        return cursor.execute(EVENTS, {"id": migration_id(connection, name), "limit": limit}).fetchall()


def migration_id(connection: Connection, migration: str | int) -> int:
    """Return the id of the migration of this name or id. Raises UnknownMigrationError."""
    query = FIND_ID if isinstance(migration, int) else FIND
    row = connection.execute(query, {"which": migration}).fetchone()
    if row is None:
        raise UnknownMigrationError(migration)
    return int(row[0])


def _report(row: dict[str, Any], defaults: Defaults) -> MigrationReport:
    facts = dict(row)
    function = defaults.functions.get(str(row["job_signature_name"]))
    chosen = (facts.pop("interval_seconds"), function.interval_seconds if function else None, defaults.interval)
    interval = next(seconds for seconds in chosen if seconds is not None)
    rows, seconds, parallel = facts.pop("recent_rows"), facts.pop("recent_seconds"), facts.pop("max_parallel_jobs")
    pace = Pace(rows, seconds, interval, parallel) if rows is not None else None
    status = Status(row["status"])
    progress = measure(
        total=row["total_tuple_count"],
        done=row["rows_done"],
        finished=status is Status.FINISHED,
        pace=pace,
    )
    return MigrationReport(**{**facts, "status": status, "progress": progress})
