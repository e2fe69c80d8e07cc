"""A maker of work functions that delete what points at nothing, ahead of a foreign key that will forbid it."""

from collections.abc import Mapping

from psycopg import Cursor, sql

from background_migrations.batching import Batch
from background_migrations.work import WorkContext, WorkFunction

BATCH_SIZE = 1_000  # rows; each may take others along by ON DELETE CASCADE

AND = sql.SQL(" AND ")
DELETE_ORPHANS = sql.SQL("""
    DELETE FROM {table} AS child
    WHERE child.{key} BETWEEN %(min_value)s AND %(max_value)s
        AND {pointing} AND NOT EXISTS (SELECT FROM {parent} AS parent WHERE {meeting})
""")


def delete_orphans(
    parent: tuple[str, str], *, keys: Mapping[str, str], batch_size: int = BATCH_SIZE, sub_batch_size: int = 0
) -> WorkFunction:
    """Make a work function that deletes rows whose parent row does not exist; `keys` maps their columns to its own.

    As with a foreign key, a row with a NULL among those columns points nowhere, and stays.
    """
    if not keys:
        raise ValueError("delete_orphans needs at least one column that points at the parent.")
    pairs = [(sql.Identifier(child), sql.Identifier(own)) for child, own in keys.items()]
    parts = {
        "parent": sql.Identifier(*parent),
        "pointing": AND.join(sql.SQL("child.{} IS NOT NULL").format(child) for child, _own in pairs),
        "meeting": AND.join(sql.SQL("parent.{} = child.{}").format(own, child) for child, own in pairs),
    }

    def delete(cursor: Cursor, batch: Batch, _context: WorkContext) -> int:
        query = DELETE_ORPHANS.format(table=sql.Identifier(*batch.table), key=sql.Identifier(batch.column), **parts)
        cursor.execute(query, {"min_value": batch.min_value, "max_value": batch.max_value})
        return cursor.rowcount

    return WorkFunction(run=delete, columns=tuple(keys), batch_size=batch_size, sub_batch_size=sub_batch_size)
