"""What the database's catalog says of a migration's table: is it there, has it the columns, the index. Reads only."""

from collections.abc import Sequence

from psycopg import Connection

from background_migrations.batching import Target
from background_migrations.errors import InvalidColumnError, InvalidTableError, MissingNullIndexError

WHOLE_NUMBERS = frozenset({"smallint", "integer", "bigint"})

FACTS = """
    SELECT relation IS NOT NULL,
        (
            SELECT jsonb_object_agg(attname, format_type(atttypid, NULL)) FROM pg_attribute
            WHERE attrelid = relation AND attname = ANY(%(columns)s) AND attnum > 0 AND NOT attisdropped
        ),
        EXISTS (
            SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attname = %(column)s
            WHERE indrelid = relation AND indisvalid AND attnum = ANY(indkey)
              AND pg_get_expr(indpred, indrelid) = format('(%%I IS NULL)', %(column)s::text)
        )
    FROM (SELECT to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text)) AS relation) AS found
"""


def check_target(
    connection: Connection, target: Target, *, columns: Sequence[str] = (), null_strategy: bool = False
) -> None:
    """Raise the first thing that is wrong: table, batching column, other columns, or the null strategy's index."""
    schema, name = target.table
    values = {"schema": schema, "name": name, "column": target.column, "columns": [target.column, *columns]}
    (exists, types, has_null_index) = connection.execute(FACTS, values).fetchone() or (False, None, False)
    table = f"{schema}.{name}"
    if not exists:
        raise InvalidTableError(table)
    for column in (target.column, *columns):
        if column not in (types or {}):
            raise InvalidColumnError(table, column=column, reason="does not exist")
    if not null_strategy and types[target.column] not in WHOLE_NUMBERS:
        reason = f"is {types[target.column]}; batches are cut by whole numbers"
        raise InvalidColumnError(table, column=target.column, reason=reason)
    if null_strategy and not has_null_index:
        raise MissingNullIndexError(table, column=target.column)
