"""Background migrations for the demonstration: one that a worker is at, one paused, one that has failed.

Their work functions are known to the demonstration's own worker alone, never to one that serves a registry.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import Connection, Cursor

from background_migrations import sync_runner, wiring
from background_migrations.batching import Batch
from background_migrations.running import new_worker
from background_migrations.work import WorkContext, WorkFunction

RUNNING, PAUSED, FAILING = "demo_count_tags", "demo_normalize_names", "demo_convert_sizes"
# Made anew each time: the demonstration begins with something that moves.
TABLES = """
    DROP SCHEMA IF EXISTS demo CASCADE;
    CREATE SCHEMA demo;
    CREATE TABLE demo.tags (id bigint PRIMARY KEY, counted boolean);
    INSERT INTO demo.tags SELECT generate_series(1, 12000);
    CREATE TABLE demo.names (id bigint PRIMARY KEY, name text);
    INSERT INTO demo.names SELECT number, 'Name ' || number FROM generate_series(1, 5000) AS number;
    CREATE TABLE demo.sizes (
        id bigint PRIMARY KEY, kilobytes int, bytes int CONSTRAINT bytes_not_negative CHECK (bytes >= 0)
    );
    INSERT INTO demo.sizes
    SELECT number, CASE number WHEN 250 THEN -4 ELSE number END FROM generate_series(1, 300) AS number;
    ANALYZE demo.tags, demo.names, demo.sizes;
"""
FORGET = """
    WITH demo AS (DELETE FROM public.batched_background_migrations WHERE name = ANY(%(names)s) RETURNING id),
    pieces AS (
        DELETE FROM registry_admin.background_migration_job_progress
        WHERE background_migration_id IN (SELECT id FROM demo)
    ),
    controls AS (
        DELETE FROM registry_admin.background_migration_controls
        WHERE background_migration_id IN (SELECT id FROM demo)
    )
    DELETE FROM registry_admin.background_migration_events WHERE background_migration_id IN (SELECT id FROM demo)
"""
FORGET_JOBS = """
    DELETE FROM public.batched_background_migration_jobs WHERE batched_background_migration_id IN (
        SELECT id FROM public.batched_background_migrations WHERE name = ANY(%(names)s)
    )
"""
QUEUE = """
    INSERT INTO public.batched_background_migrations
        (name, min_value, max_value, batch_size, status, job_signature_name, table_name, column_name, total_tuple_count)
    VALUES (%(running)s, 1, 12000, 200, 1, %(running)s, 'demo.tags', 'id', 12000),
        (%(paused)s, 1, 5000, 100, 0, %(paused)s, 'demo.names', 'id', 5000),
        (%(failing)s, 1, 300, 100, 1, %(failing)s, 'demo.sizes', 'id', 300)
"""
COUNT = "UPDATE demo.tags SET counted = true WHERE id BETWEEN %s AND %s"
NORMALIZE = "UPDATE demo.names SET name = lower(name) WHERE id BETWEEN %s AND %s"
CONVERT = "UPDATE demo.sizes SET bytes = kilobytes * 1024 WHERE id BETWEEN %s AND %s"


def _update(query: str) -> WorkFunction:
    def run(cursor: Cursor, batch: Batch, _context: WorkContext) -> int:
        return cursor.execute(query.encode(), (batch.min_value, batch.max_value)).rowcount

    return WorkFunction(run=run, interval_seconds=2.0)


FUNCTIONS = {RUNNING: _update(COUNT), PAUSED: _update(NORMALIZE), FAILING: _update(CONVERT)}


@contextmanager
def going_on() -> Iterator[None]:
    """Make the three anew, let one fail, and let a worker work on the others while the block runs."""
    with wiring.connectors("demonstration")["registry"]() as connection:
        make_migrations(connection)
    fail()
    worker = new_worker(wiring.rules("demonstration"), once=False, purpose="demonstration", functions=FUNCTIONS)
    thread = threading.Thread(target=worker.run, name="demonstration")
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def make_migrations(connection: Connection) -> None:
    """Make the tables and the three rows, in place of those of an earlier demonstration."""
    with connection.transaction():
        connection.execute(TABLES)
        for query in (FORGET_JOBS, FORGET):
            connection.execute(query, {"names": list(FUNCTIONS)})
        connection.execute(QUEUE, {"running": RUNNING, "paused": PAUSED, "failing": FAILING})


def fail() -> None:
    """Run the one that meets a bad row until it has failed: each job has one attempt."""
    rules = wiring.rules("demonstration", paced=False, max_attempts=1)
    sync_runner.run_to_completion(new_worker(rules, purpose="demonstration", functions=FUNCTIONS), [FAILING])
