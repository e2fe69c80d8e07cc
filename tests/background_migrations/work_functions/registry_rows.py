"""Rows of the real tables as a registry of some years ago left them, and calls of work functions on such tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from background_migrations.batching import Batch
from background_migrations.work import WorkContext, WorkFunction

MANIFESTS = ("public", "manifests")
END = 2**63 - 1
# Namespaces 1 to 5 lie in five partitions.
ADD_REPOSITORIES = """
    INSERT INTO top_level_namespaces (id, name) SELECT n, 'group' || n FROM generate_series(1, 5) AS n;
    INSERT INTO repositories (id, top_level_namespace_id, name, path)
    SELECT n, n, 'project', 'group' || n || '/project' FROM generate_series(1, 5) AS n
"""
# Every fourth is an index of images.
ADD_MANIFESTS = """
    INSERT INTO manifests (id, top_level_namespace_id, repository_id, schema_version, media_type_id,
        configuration_media_type_id, digest, payload, total_size)
    SELECT n, 1 + n %% 5, 1 + n %% 5, 2, 1 + n %% 7, nullif(n %% 4, 0), sha256(n::text::bytea), '{}', n
    FROM generate_series(1, %s) AS n
"""
# About one digest in 64 belongs to a partition.
ADD_BLOBS = """
    INSERT INTO blobs (digest, size, media_type_id, id)
    SELECT digest, n, 1 + n %% 7, NULL
    FROM generate_series(1, 64 * 2 * %(count)s) AS n, sha256(n::text::bytea) AS digest
    WHERE satisfies_hash_partition('blobs'::regclass, 64, %(partition)s, digest) LIMIT %(count)s
"""


def add_manifests(connection: psycopg.Connection, count: int = 20) -> None:
    """Add manifests 1 to `count`, older than the trigger that fills the wider twin of their media type.

    Every fourth has no configuration.
    """
    connection.execute(ADD_REPOSITORIES)
    with triggers_off(connection):
        connection.execute(ADD_MANIFESTS, (count,))


def add_blobs(connection: psycopg.Connection, count: int, *, partition: int) -> None:
    """Add blobs that are older than their ids to one partition."""
    with triggers_off(connection):
        added = connection.execute(ADD_BLOBS, {"count": count, "partition": partition})
    assert added.rowcount == count


@contextmanager
def triggers_off(connection: psycopg.Connection) -> Iterator[None]:
    """Let a block write what triggers would change and foreign keys refuse."""
    connection.execute("SET session_replication_role = replica")
    yield
    connection.execute("RESET session_replication_role")


def run_range(
    connection: psycopg.Connection,
    function: WorkFunction,
    *,
    table: tuple[str, str] = MANIFESTS,
    first: int = 1,
    last: int = END,
) -> int:
    """Call a work function for the rows with these ids, both inclusive."""
    return _run(connection, function, Batch(table, "id", first, last, size=1000))


def run_nulls(
    connection: psycopg.Connection, function: WorkFunction, *, table: tuple[str, str] = MANIFESTS, size: int = 1000
) -> int:
    """Call a work function for the next rows that lack something."""
    return _run(connection, function, Batch(table, function.columns[-1], 0, 0, size, null_strategy=True))


def _run(connection: psycopg.Connection, function: WorkFunction, batch: Batch) -> int:
    with connection.cursor() as cursor:
        return function.run(cursor, batch, WorkContext(migration_name="tests", job_id=1))


def pairs(connection: psycopg.Connection, query: str, *values: Any) -> dict[Any, Any]:
    """Return what a query with two columns finds."""
    return dict(connection.execute(query, values).fetchall())
