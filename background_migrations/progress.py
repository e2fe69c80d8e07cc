"""How many rows a migration is about, how far it is and how long it will take; from statistics, never by counting."""

from dataclasses import dataclass

from psycopg import Connection, sql

from background_migrations.batching import Target
from background_migrations.records import MigrationRecord

# Partitions may lie in any schema. A table without any has no tree.
IS_EMPTY = """
    SELECT coalesce((SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree(found)), pg_relation_size(found)) = 0
    FROM to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text)) AS found
"""
# The planner knows partitions, bounds, predicates and shares of NULL.
ESTIMATE_RANGE = sql.SQL("""
    EXPLAIN (FORMAT JSON) SELECT FROM {table} WHERE {column} >= {min} AND {column} <= {max} {matching}
""")
ESTIMATE_NULLS = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {table} WHERE {column} IS NULL {matching}")
CAPPED_PERCENT = 99.9  # the estimate is used up, but the migration is not finished
STORE = "UPDATE public.batched_background_migrations SET total_tuple_count = %s WHERE id = %s"


def estimate_rows(connection: Connection, target: Target, *, migration: MigrationRecord) -> int:
    """Return about how many rows a migration has to handle."""
    schema, name = target.table
    ((empty,),) = connection.execute(IS_EMPTY, {"schema": schema, "name": name})
    if empty:
        return 0
    query = ESTIMATE_NULLS if migration.null_strategy else ESTIMATE_RANGE
    bounds = {"min": sql.Literal(migration.min_value), "max": sql.Literal(migration.max_value)}
    (([plan],),) = connection.execute(query.format(**target.names, **bounds), {})
    return int(plan["Plan"]["Plan Rows"])


def store_total(connection: Connection, migration_id: int, *, total: int) -> None:
    """Keep the estimate beside the migration."""
    connection.execute(STORE, (total, migration_id))


@dataclass(frozen=True)
class Progress:
    """How far a migration is: percent of its rows, rows per second, seconds left; None where nothing is known."""

    percent: float | None
    capped: bool
    rate: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class Pace:
    """What its last jobs took: the mean of their rows and seconds, the pause between two, and how many run at once."""

    rows: float
    seconds: float
    interval: float
    parallel: int

    @property
    def rate(self) -> float | None:
        """Rows per second, pauses included."""
        seconds = self.seconds + self.interval
        return self.rows * self.parallel / seconds if self.rows and seconds > 0 else None


def measure(*, total: int | None, done: int, finished: bool, pace: Pace | None) -> Progress:
    """Return the progress of a migration of about `total` rows, `done` of which are."""
    if finished:
        return Progress(100.0, capped=False, rate=None, seconds_left=0.0)
    rate = pace.rate if pace else None
    if not total:
        return Progress(None, capped=False, rate=rate, seconds_left=None)
    capped = done >= total
    percent = CAPPED_PERCENT if capped else done / total * 100
    seconds_left = None if rate is None or capped else (total - done) / rate
    return Progress(percent, capped=capped, rate=rate, seconds_left=seconds_left)
