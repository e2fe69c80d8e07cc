"""What tests of jobs and claims look at, and the tables they are about."""

from background_migrations.batching import NULL_STRATEGY
from background_migrations.work import WorkFunction
from tests.background_migrations.conftest import increment

JOBS = """
    SELECT min_value, max_value, status, attempts, failure_error_code
    FROM batched_background_migration_jobs ORDER BY id
"""
PIECES = """
    SELECT min_value, max_value, next_value, attempts, claim IS NOT NULL, set_aside, finished_at IS NOT NULL
    FROM registry_admin.background_migration_job_progress ORDER BY min_value, id
"""
FAULTS = """
    SELECT kind, error_class, sqlstate, reason FROM registry_admin.background_migration_events
    WHERE job_id IS NOT NULL ORDER BY id
"""
NOTE = "SELECT throttled_by, throttled_reason FROM registry_admin.background_migration_controls"
# By the null strategy: rows whose value is NULL, of which one may be slow.
NULLS = """
    CREATE SCHEMA far;
    CREATE TABLE far.nulls (id bigint PRIMARY KEY, value bigint);
    CREATE INDEX ON far.nulls (value) WHERE value IS NULL;
    INSERT INTO far.nulls SELECT generate_series(1, 16);
"""
FILL_NULLS = """
    UPDATE far.nulls SET value = id
    WHERE id IN (SELECT id FROM far.nulls WHERE value IS NULL ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
      AND CASE WHEN id = %s THEN pg_sleep(60) IS NOT NULL ELSE true END
"""
OVER_NULLS = {
    "table": "far.nulls",
    "column": "value",
    "strategy": NULL_STRATEGY,
    "min_value": 0,
    "max_value": 0,
    "batch_size": 8,
}
SLOW = 0.2  # seconds after which a statement of a job is cancelled


def uses(bench, work, **declared):
    """Let the migrations of the bench use another work function."""
    bench.functions["increment"] = WorkFunction(run=work, **declared)


def failing_at(*broken):
    """Increment, and fail where a row is broken."""

    def work(cursor, batch, context):
        rows = increment(cursor, batch, context)
        if any(batch.min_value <= row <= batch.max_value for row in broken):
            raise ValueError(f"there is something wrong  with\nrows {batch.min_value} to {batch.max_value}")
        return rows

    return work
