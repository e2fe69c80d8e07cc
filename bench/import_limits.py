"""What an import cannot beat: reading the same files in the plainest way, and copying the same rows in bulk."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
from psycopg import Connection, sql

# In an order that every foreign key allows.
TABLES = ("top_level_namespaces", "repositories", "blobs", "repository_blobs", "manifests", "layers", "tags")
COLUMNS = """
    SELECT column_name FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position
"""
LARGEST_FILE_BYTES = 1024 * 1024
GENERIC_PLANS = "SET LOCAL plan_cache_mode = force_generic_plan"


class PlainReader:
    """Reads a healthy tree with os.scandir and open; what it finds is thrown away."""

    def __init__(self, root: Path) -> None:
        self._base = f"{root}/docker/registry/v2"

    def read_tags(self) -> float:
        """Return the seconds that listing and reading all tag links takes."""
        began = time.monotonic()
        for repository in self._repositories():
            for tag in os.scandir(f"{repository}/_manifests/tags"):
                _read(f"{tag.path}/current/link")
        return time.monotonic() - began

    def read_repositories(self) -> float:
        """Return the seconds for tags, manifests, configurations and the links of layers."""
        began = time.monotonic()
        for repository in self._repositories():
            for tag in os.scandir(f"{repository}/_manifests/tags"):
                self._read_image(repository, _read(f"{tag.path}/current/link").decode())
        return time.monotonic() - began

    def read_blobs(self) -> float:
        """Return the seconds for listing all blobs with their sizes."""
        began = time.monotonic()
        for prefix in os.scandir(f"{self._base}/blobs/sha256"):
            for blob in os.scandir(prefix.path):
                for file in os.scandir(blob.path):
                    file.stat()
        return time.monotonic() - began

    def _repositories(self) -> Iterator[str]:
        for group in os.scandir(f"{self._base}/repositories"):
            for project in os.scandir(group.path):
                yield project.path

    def _read_image(self, repository: str, digest: str) -> None:
        _read(f"{repository}/_manifests/revisions/{digest.replace(':', '/')}/link")
        manifest = json.loads(self._read_blob(digest))
        config = manifest["config"]["digest"]
        self._read_blob(config)
        for linked in (config, *(layer["digest"] for layer in manifest["layers"])):
            _read(f"{repository}/_layers/{linked.replace(':', '/')}/link")

    def _read_blob(self, digest: str) -> bytes:
        checksum = digest.partition(":")[2]
        return _read(f"{self._base}/blobs/sha256/{checksum[:2]}/{checksum}/data")


def copy_rows(source: str, target: str, *, tables: Sequence[str] = TABLES, generic_plans: bool = False) -> float:
    """Copy tables to an empty database through temporary ones; return the seconds that the target took."""
    with psycopg.connect(source) as reading, psycopg.connect(target) as writing:
        rows = {table: _copied_out(reading, table) for table in tables}
        began = time.monotonic()
        writing.execute("SET LOCAL jit = off")
        if generic_plans:
            writing.execute(GENERIC_PLANS)
        for table, content in rows.items():
            _copy_in(writing, table, content)
        writing.commit()
        return time.monotonic() - began


def _copied_out(connection: Connection, table: str) -> list[bytes]:
    query = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT (FORMAT BINARY)").format(sql.Identifier(table))
    with connection.cursor().copy(query) as copy:
        return [bytes(block) for block in copy]


def _copy_in(connection: Connection, table: str, content: Sequence[bytes]) -> None:
    name, incoming = sql.Identifier(table), sql.Identifier(f"incoming_{table}")
    columns = sql.SQL(", ").join(sql.Identifier(column) for (column,) in connection.execute(COLUMNS, (table,)))
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT * FROM {} LIMIT 0").format(incoming, name)
    )
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(incoming)) as copy:
        for block in content:
            copy.write(block)
    insert = sql.SQL("INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {}")
    connection.execute(insert.format(name, incoming, columns=columns))


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, LARGEST_FILE_BYTES)
    finally:
        os.close(descriptor)
