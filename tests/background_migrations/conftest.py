"""A table to work on, background migrations over it, and workers of this process and of others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql

from background_migrations.records import Rules
from background_migrations.work import WorkFunction
from background_migrations.worker import Worker
from tests.background_migrations.worker_process import increment
from tests.conftest import TEMPLATE, Database

TABLE = """
    CREATE TABLE public.counters (id bigint PRIMARY KEY, hits integer NOT NULL DEFAULT 0);
    CREATE INDEX ON public.counters (id) WHERE id IS NULL;
"""
QUEUE = """
    INSERT INTO batched_background_migrations
        (name, min_value, max_value, batch_size, status, job_signature_name, table_name, column_name, batching_strategy)
    VALUES (%(name)s, %(min_value)s, %(max_value)s, %(batch_size)s, %(status)s, %(function)s, %(table)s, %(column)s,
        %(strategy)s)
    RETURNING id
"""
CONTROL = """
    INSERT INTO registry_admin.background_migration_controls (background_migration_id, {names})
    VALUES (%(id)s, {values})
    ON CONFLICT (background_migration_id) DO UPDATE SET ({names}) = ROW ({values})
"""
# Whoever is left of a test before is sent away: no lock of theirs shall be in the way.
EMPTY = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
    DROP TABLE IF EXISTS public.counters;
    DROP SCHEMA IF EXISTS far CASCADE;
    DELETE FROM batched_background_migration_jobs;
    DELETE FROM batched_background_migrations;
    DELETE FROM registry_admin.background_migration_job_progress;
    DELETE FROM registry_admin.background_migration_controls;
    DELETE FROM registry_admin.background_migration_events;
"""


@dataclass
class Bench:
    """A scratch database whose only background migrations are the test's own."""

    database: Database
    connection: psycopg.Connection
    functions: dict[str, WorkFunction] = field(default_factory=lambda: {"increment": WorkFunction(run=increment)})

    def fill(self, rows: int) -> None:
        """Put rows 1..n into public.counters."""
        self.connection.execute("INSERT INTO counters SELECT generate_series(1, %s)", (rows,))
        self.connection.execute("ANALYZE counters")

    def queue(self, name: str = "count", **values: Any) -> int:
        """Insert an active migration over public.counters."""
        row = {
            "name": name,
            "min_value": 1,
            "max_value": 2**63 - 1,
            "batch_size": 100,
            "status": 1,
            "function": "increment",
            "table": "public.counters",
            "column": "id",
            "strategy": None,
        }
        ((migration_id,),) = self.connection.execute(QUEUE, {**row, **values})
        return migration_id

    def control(self, migration_id: int, **values: Any) -> None:
        """Set controls."""
        query = sql.SQL(CONTROL).format(
            names=sql.SQL(", ").join(map(sql.Identifier, values)),
            values=sql.SQL(", ").join(map(sql.Placeholder, values)),
        )
        self.connection.execute(query, {"id": migration_id, **values})

    def rules(self, **values: Any) -> Rules:
        """Rules without pauses."""
        return Rules(**{"actor": "tests", "interval": 0.0, "grace": 5.0, **values})

    def worker(self, *, rules: Rules | None = None, **values: Any) -> Worker:
        """A worker that ends when nothing is left."""
        return Worker(
            **{
                "connect": {"registry": self.database.connect},
                "functions": self.functions,
                "rules": rules or self.rules(),
                "name": "tests",
                "once": True,
                **values,
            }
        )

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        return self.connection.execute(query, values).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        """Return the one value that a query finds."""
        ((value,),) = self.rows(query, *values)
        return value

    def status(self, name: str = "count") -> int:
        """Return a migration's status."""
        return self.one("SELECT status FROM batched_background_migrations WHERE name = %s", name)

    def hits(self) -> dict[int, int]:
        """Return how many rows were done how often."""
        return dict(self.rows("SELECT hits, count(*) FROM counters GROUP BY hits"))


@pytest.fixture
def bench(scratch_copy: Database) -> Iterator[Bench]:
    """A database with an empty table public.counters and no migration queued."""
    with scratch_copy.connect() as connection:
        connection.execute(TABLE)
        connection.execute("DELETE FROM batched_background_migrations")
        yield Bench(scratch_copy, connection)


@pytest.fixture(scope="session")
def shared_database(create_database: Callable[..., Database], template_database: Database) -> Database:
    """A database with the whole schema for all tests that use `quick_bench`."""
    return create_database(template=TEMPLATE)


@pytest.fixture
def quick_bench(shared_database: Database) -> Iterator[Bench]:
    """What `bench` is, in a database that is emptied and not made anew: for many tests. Other tables go in `far`."""
    with shared_database.connect() as connection:
        connection.execute(EMPTY)
        connection.execute(TABLE)
        yield Bench(shared_database, connection)
