"""What tests of claims look at, and a second table and one of NULLs that migrations compete with."""

from background_migrations.batching import NULL_STRATEGY
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import broken

BOUNDS = "SELECT min_value, max_value FROM batched_background_migration_jobs ORDER BY id"
EVENTS = "SELECT kind, reason FROM registry_admin.background_migration_events ORDER BY id"
OTHER_TABLE = "CREATE SCHEMA far; CREATE TABLE far.counters (LIKE public.counters INCLUDING ALL)"
NULLS = """
    CREATE SCHEMA far;
    CREATE TABLE far.nulls (id bigint PRIMARY KEY, value bigint);
    CREATE INDEX ON far.nulls (value) WHERE value IS NULL;
    INSERT INTO far.nulls SELECT generate_series(1, 10);
"""
FILL_NULLS = """
    UPDATE far.nulls SET value = id
    WHERE id IN (SELECT id FROM far.nulls WHERE value IS NULL ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
"""
OVER_NULLS = {
    "function": "fill",
    "table": "far.nulls",
    "column": "value",
    "strategy": NULL_STRATEGY,
    "min_value": 0,
    "max_value": 0,
    "batch_size": 4,
}


def fill_nulls(cursor, batch, context) -> int:
    return cursor.execute(FILL_NULLS, (batch.size,)).rowcount


def equip(bench):
    """Add a work function that fails and one that fills NULLs."""
    bench.functions |= {"broken": WorkFunction(run=broken), "fill": WorkFunction(run=fill_nulls)}
    return bench


def add_second_table(bench):
    """Add a table that is like the first, and 30 rows to both."""
    bench.connection.execute(OTHER_TABLE)
    bench.connection.execute("INSERT INTO far.counters SELECT generate_series(1, 30)")
    bench.fill(30)
    return bench


def names_of(claims):
    return [claim.migration.name for claim in claims]
