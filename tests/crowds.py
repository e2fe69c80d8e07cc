"""Many background migrations with many jobs, in two statements: what pages have to bear."""

from psycopg import Connection

MIGRATIONS = """
    INSERT INTO batched_background_migrations
        (name, min_value, max_value, batch_size, status, job_signature_name, table_name, column_name,
         total_tuple_count, started_at)
    SELECT 'crowd_' || number, 1, 1000000000, 100, (ARRAY[4, 1, 0, 3, 2])[1 + number %% 5], 'populateBlobsIDColumn',
        'public.blobs', 'id', 1000000, clock_timestamp() - interval '1 day'
    FROM generate_series(1, %(migrations)s) AS number
"""
JOBS = """
    WITH crowd AS (
        SELECT array_agg(id ORDER BY id) AS ids FROM batched_background_migrations WHERE name LIKE 'crowd%%'
    ),
    jobs AS (
        INSERT INTO batched_background_migration_jobs
            (batched_background_migration_id, min_value, max_value, status, failure_error_code, attempts, started_at,
             finished_at)
        SELECT ids[1 + number %% %(migrations)s], number * 100 + 1, number * 100 + 100,
            CASE number %% 50 WHEN 0 THEN 3 ELSE 2 END, CASE number %% 50 WHEN 0 THEN 0 END,
            1, clock_timestamp(), clock_timestamp()
        FROM crowd, generate_series(1, %(jobs)s) AS number
        RETURNING id, batched_background_migration_id, min_value, max_value
    )
    INSERT INTO registry_admin.background_migration_job_progress
        (job_id, background_migration_id, min_value, max_value, next_value, size, sub_batch_size, attempts, worker,
         ended_at, finished_at, rows, seconds)
    SELECT id, batched_background_migration_id, min_value, max_value, max_value, 100, 0, 1, 'host:1',
        statement_timestamp() - make_interval(secs => id %% 86400),
        statement_timestamp() - make_interval(secs => id %% 86400), 100, 0.5
    FROM jobs
"""
TABLES = ("batched_background_migration_jobs", "batched_background_migrations")
OWN = ("background_migration_job_progress", "background_migration_events")


def make_crowd(connection: Connection, *, migrations: int = 200, jobs: int = 100_000) -> None:
    """Insert them, and let the planner know."""
    values = {"migrations": migrations, "jobs": jobs}
    connection.execute(MIGRATIONS, values)
    connection.execute(JOBS, values)
    for table in (*TABLES, *(f"registry_admin.{name}" for name in OWN)):
        connection.execute(f"ANALYZE {table}")
