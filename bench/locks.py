"""Counts the locks that the shipped migrations hold at once, beside what a server with default settings allows.

Each migration runs in a transaction of its own on a throw-away server; what it holds is read at its end.
"""

import sys
from collections.abc import Iterable, Sequence

import psycopg
from psycopg import Connection

from bench.measures import Measure, report, wants_json
from schema_migrations.loader import load_migrations
from tests.databases import throwaway_server

HELD = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()"
# The size of the lock table: PostgreSQL's documentation of max_locks_per_transaction.
ALLOWED = """
    SELECT current_setting('max_locks_per_transaction')::int
        * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)
"""
LIMIT = 0.8


def main() -> int:
    """Measure, print, and fail when a migration comes too near to what is allowed."""
    as_json = wants_json(__doc__ or "")
    known = load_migrations()
    with throwaway_server() as server, psycopg.connect(server.start().url or "", autocommit=True) as connection:
        allowed = _number(connection, ALLOWED)
        up = _most_locks(connection, [each.migration.up for each in known])
        down = _most_locks(connection, [each.migration.down for each in reversed(known)])
    measures = [Measure("allowed by default", allowed, "locks")]
    for name, most in (("up, the largest migration", up), ("down, the largest migration", down)):
        measures.append(Measure(name, most, "locks", limit=LIMIT, ratio=most / allowed))
    return report(measures, as_json=as_json)


def _most_locks(connection: Connection, migrations: Iterable[Sequence[str]]) -> int:
    most = 0
    for statements in migrations:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement.encode())
            most = max(most, _number(connection, HELD))
    return most


def _number(connection: Connection, query: str) -> int:
    ((number,),) = connection.execute(query.encode())
    return int(number)


if __name__ == "__main__":
    sys.exit(main())
