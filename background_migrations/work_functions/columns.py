"""Makers of work functions that fill a column: with one value where it is NULL, or with what another column holds.

Both work by either batching strategy, and write no row that needs nothing.
"""

from typing import LiteralString

from psycopg import Cursor, sql

from background_migrations.batching import Batch
from background_migrations.work import Work, WorkContext, WorkFunction

BATCH_SIZE = 10_000

FILL_RANGE = sql.SQL("""
    UPDATE {table} SET {column} = {value}
    WHERE {key} BETWEEN %(min_value)s AND %(max_value)s AND {lacking} {matching}
""")
# The order makes the planner walk the index of the NULLs, whatever old statistics say: a scan of the table passes all
# the rows done before. The lock is the one that UPDATE takes; FOR UPDATE would hold up foreign keys that point here.
# From arrays each row is fetched by its place, where a join reads the whole table (1 000 000 rows, 20 000 a batch:
# 9 s, not 19 s). A place is unique within a partition only.
FILL_NULLS = sql.SQL("""
    WITH picked AS MATERIALIZED (
        SELECT tableoid, ctid FROM {table}
        WHERE {column} IS NULL AND {lacking} {matching}
        ORDER BY {column} LIMIT %(size)s
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE {table} AS filled SET {column} = {value}
    FROM unnest(ARRAY(SELECT tableoid FROM picked), ARRAY(SELECT ctid FROM picked)) AS place (in_partition, at_row)
    WHERE filled.ctid = place.at_row AND filled.tableoid = place.in_partition
""")


def backfill_column(
    column: str,
    *,
    value_sql: LiteralString,
    predicate: LiteralString = "",
    batch_size: int = BATCH_SIZE,
    sub_batch_size: int = 0,
) -> WorkFunction:
    """Make a work function that sets a column to a constant SQL expression where it is NULL."""
    name = sql.Identifier(column)
    return WorkFunction(
        run=_fill(name, value=_constant(value_sql), lacking=sql.SQL("{} IS NULL").format(name), predicate=predicate),
        columns=(column,),
        predicate=predicate,
        batch_size=batch_size,
        sub_batch_size=sub_batch_size,
    )


def copy_column(
    source: str,
    *,
    target: str,
    predicate: LiteralString = "",
    batch_size: int = BATCH_SIZE,
    sub_batch_size: int = 0,
) -> WorkFunction:
    """Make a work function that sets a column to what another holds, a NULL too; both must be comparable by `=`.

    By the null strategy it fills what is NULL alone. Where the source may be NULL that needs a predicate that says
    otherwise: those rows stay NULL, and the migration would never end.
    """
    name, value = sql.Identifier(target), sql.Identifier(source)
    # A second run, or rows that a trigger has filled, cost no write; the comparison makes the first run 1 % longer.
    differing = sql.SQL("{} IS DISTINCT FROM {}").format(name, value)
    return WorkFunction(
        run=_fill(name, value=value, lacking=differing, predicate=predicate),
        columns=(source, target),
        predicate=predicate,
        batch_size=batch_size,
        sub_batch_size=sub_batch_size,
    )


def _fill(column: sql.Identifier, *, value: sql.Composable, lacking: sql.Composable, predicate: LiteralString) -> Work:
    matching = sql.SQL("AND ({})").format(_constant(predicate)) if predicate else sql.SQL("")

    def fill(cursor: Cursor, batch: Batch, _context: WorkContext) -> int:
        statement = FILL_NULLS if batch.null_strategy else FILL_RANGE
        query = statement.format(
            table=sql.Identifier(*batch.table),
            key=sql.Identifier(batch.column),
            column=column,
            value=value,
            lacking=lacking,
            matching=matching,
        )
        cursor.execute(query, {"min_value": batch.min_value, "max_value": batch.max_value, "size": batch.size})
        return cursor.rowcount

    return fill


def _constant(text: LiteralString) -> sql.SQL:
    """Return SQL that stands beside parameters, where a percent sign has to be doubled."""
    return sql.SQL(text.replace("%", "%%"))
