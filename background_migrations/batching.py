"""Where a batch starts and ends: by the order of a column, or by what is still NULL. Reads only, keeps no state."""

from dataclasses import dataclass

from psycopg import Connection, sql

NULL_STRATEGY = "NullKeySetBatchingStrategy"  # the reference's name; NULL in the table means keyset
STRATEGIES = frozenset({None, NULL_STRATEGY})


@dataclass(frozen=True)
class Batch:
    """The rows that one call of a work function is to handle.

    Keyset: the rows of `table` with min_value <= column <= max_value, both inclusive, that match the predicate.
    Null strategy: the next `size` rows whose column is NULL, in any order; the bounds are 0.
    """

    table: tuple[str, str]  # schema and name
    column: str
    min_value: int
    max_value: int
    size: int  # rows, an upper limit for the null strategy and a hint for keyset
    null_strategy: bool = False


@dataclass(frozen=True)
class Target:
    """The table, column and predicate that batches are cut from."""

    table: tuple[str, str]
    column: str
    predicate: str = ""  # constant SQL, without WHERE

    @property
    def names(self) -> dict[str, sql.Composable]:
        """The parts of queries that are run with parameters, if with none then with an empty set of them."""
        predicate = self.predicate.replace("%", "%%")
        matching = sql.SQL("AND ({})").format(sql.SQL(predicate)) if predicate else sql.SQL("")
        return {"table": sql.Identifier(*self.table), "column": sql.Identifier(self.column), "matching": matching}


@dataclass(frozen=True)
class Bounds:
    """The inclusive ends of a batch; `last` when no row lies behind it within the limits."""

    min_value: int
    max_value: int
    last: bool


# Two rows: the end of this batch, and whether there is a next one.
ENDS = sql.SQL("""
    SELECT {column} FROM {table}
    WHERE {column} >= %(start)s AND {column} <= %(limit)s {matching}
    ORDER BY {column} OFFSET %(skip)s LIMIT 2
""")
ANY_NULL = sql.SQL("SELECT EXISTS (SELECT FROM {table} WHERE {column} IS NULL {matching})")


def next_bounds(connection: Connection, target: Target, *, start: int, limit: int, size: int) -> Bounds:
    """Return the batch of `size` rows from `start` on; it reaches to `limit` when no row is left behind it.

    Rows that share one value stay together, so a batch may hold more rows than its size.
    """
    query = ENDS.format(**target.names)
    values = {"start": start, "limit": limit, "skip": size - 1}
    # A plan that is kept knows no bounds; where few rows match it may read all that is left.
    rows = connection.execute(query, values, prepare=False if target.predicate else None).fetchall()
    if len(rows) < len(("end of this batch", "start of the next")) or rows[0][0] == limit:
        return Bounds(start, limit, last=True)
    return Bounds(start, rows[0][0], last=False)


def any_null(connection: Connection, target: Target) -> bool:
    """Say whether a row is left whose column is NULL."""
    (found,) = connection.execute(ANY_NULL.format(**target.names), {}).fetchone() or (False,)
    return bool(found)
