"""What the database holds, for comparison: read-only transactions, and rows in the order of their keys.

Rows come through cursors on the server, so that the memory they take does not grow with the registry.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from metadata_import import layout

ROWS_PER_FETCH = 1_000

# A transaction sees one state of the database throughout, and the server refuses any write in it.
BEGIN_READ_ONLY = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL jit = off"
# Storage sorts names by their bytes; the database's own collation may not.
LIST_REPOSITORIES = 'SELECT path FROM repositories WHERE deleted_at IS NULL ORDER BY path COLLATE "C"'
FIND_REPOSITORY = """
    SELECT top_level_namespace_id, id FROM repositories WHERE path = %(path)s AND deleted_at IS NULL
"""
LIST_TAGS = """
    SELECT t.name, (
        SELECT m.digest FROM manifests m
        WHERE m.top_level_namespace_id = t.top_level_namespace_id AND m.repository_id = t.repository_id
            AND m.id = t.manifest_id
    )
    FROM tags t
    WHERE t.top_level_namespace_id = %(namespace_id)s AND t.repository_id = %(repository_id)s
    ORDER BY t.name COLLATE "C"
"""
FIND_MANIFESTS = """
    SELECT
        m.digest, y.media_type, m.schema_version, sha256(m.payload), m.total_size, c.media_type,
        m.configuration_blob_digest, sha256(m.configuration_payload), m.non_conformant,
        m.non_distributable_layers, a.media_type,
        (
            SELECT s.digest FROM manifests s
            WHERE s.top_level_namespace_id = m.top_level_namespace_id AND s.repository_id = m.repository_id
                AND s.id = m.subject_id
        ),
        ARRAY(
            SELECT l.digest FROM layers l
            WHERE l.top_level_namespace_id = m.top_level_namespace_id AND l.repository_id = m.repository_id
                AND l.manifest_id = m.id
            ORDER BY l.id
        ),
        ARRAY(
            SELECT t.media_type FROM layers l JOIN media_types t ON t.id = l.media_type_id
            WHERE l.top_level_namespace_id = m.top_level_namespace_id AND l.repository_id = m.repository_id
                AND l.manifest_id = m.id
            ORDER BY l.id
        ),
        ARRAY(
            SELECT c.digest FROM manifest_references f
            JOIN manifests c
                ON c.top_level_namespace_id = f.top_level_namespace_id AND c.repository_id = f.repository_id
                AND c.id = f.child_id
            WHERE f.top_level_namespace_id = m.top_level_namespace_id AND f.repository_id = m.repository_id
                AND f.parent_id = m.id
        )
    FROM manifests m
    JOIN media_types y ON y.id = m.media_type_id
    LEFT JOIN media_types c ON c.id = m.configuration_media_type_id
    LEFT JOIN media_types a ON a.id = m.artifact_media_type_id
    WHERE m.top_level_namespace_id = %(namespace_id)s AND m.repository_id = %(repository_id)s
        AND m.digest = ANY (%(digests)s)
"""
# What neither a tag nor an index nor a subject leads to: all else is compared with what storage leads to.
LIST_LOOSE_MANIFESTS = """
    SELECT m.digest
    FROM manifests m
    WHERE m.top_level_namespace_id = %(namespace_id)s AND m.repository_id = %(repository_id)s
        AND m.subject_id IS NULL
        AND NOT EXISTS (
            SELECT FROM tags t
            WHERE t.top_level_namespace_id = m.top_level_namespace_id AND t.repository_id = m.repository_id
                AND t.manifest_id = m.id
        )
        AND NOT EXISTS (
            SELECT FROM manifest_references f
            WHERE f.top_level_namespace_id = m.top_level_namespace_id AND f.repository_id = m.repository_id
                AND f.child_id = m.id
        )
    ORDER BY m.digest
"""
FIND_MISSING_LINKS = """
    SELECT i.digest
    FROM unnest(%(digests)s::bytea[]) AS i (digest)
    WHERE NOT EXISTS (
        SELECT FROM repository_blobs b
        WHERE b.top_level_namespace_id = %(namespace_id)s AND b.repository_id = %(repository_id)s
            AND b.blob_digest = i.digest
        OFFSET 0
    )
"""
LIST_BLOBS = """
    SELECT digest, size FROM blobs
    WHERE digest >= %(low)s AND (%(high)s::bytea IS NULL OR digest < %(high)s)
    ORDER BY digest
"""


@dataclass(frozen=True, slots=True)
class StoredRepository:
    """A repository's place in the database."""

    namespace_id: int
    repository_id: int

    @property
    def key(self) -> dict[str, int]:
        """Return the parameters by which all its rows are found."""
        return {"namespace_id": self.namespace_id, "repository_id": self.repository_id}


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """One manifest as far as it is compared; payloads by their SHA-256."""

    media_type: str
    schema_version: int
    payload: bytes
    total_size: int
    configuration_media_type: str | None
    configuration_digest: str | None
    configuration_payload: bytes | None
    non_conformant: bool
    non_distributable_layers: bool
    artifact_media_type: str | None
    subject: str | None
    layers: dict[str, str]  # digest → media type
    children: frozenset[str]


class Snapshots:
    """Reads one database; every call belongs within `begin`."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    @contextmanager
    def begin(self) -> Iterator[None]:
        """See one state of the database until the end of the block."""
        with transaction.atomic(using=self._connection.alias):
            with self._connection.cursor() as cursor:
                cursor.execute(BEGIN_READ_ONLY)
            yield

    def repository_paths(self) -> Iterator[str]:
        """Yield the path of every repository, sorted."""
        return (path for (path,) in self._stream(LIST_REPOSITORIES))

    def find_repository(self, path: str) -> StoredRepository | None:
        """Return a repository's place, or None."""
        found = self._fetch(FIND_REPOSITORY, path=path)
        return StoredRepository(*found[0]) if found else None

    def tags(self, repository: StoredRepository) -> Iterator[tuple[str, str]]:
        """Yield the name of every tag with the digest of its manifest, sorted by name."""
        rows = self._stream(LIST_TAGS, **repository.key)
        return ((name, layout.decode_digest(digest)) for name, digest in rows)

    def find_manifests(self, repository: StoredRepository, digests: Iterable[str]) -> dict[str, ManifestFacts]:
        """Return those of these manifests that there are, by digest."""
        encoded = [layout.encode_digest(digest) for digest in digests]
        rows = self._fetch(FIND_MANIFESTS, digests=encoded, **repository.key)
        return {layout.decode_digest(row[0]): _manifest_facts(row[1:]) for row in rows}

    def loose_manifests(self, repository: StoredRepository) -> Iterator[str]:
        """Yield the digest of every manifest that nothing in the database leads to."""
        return (layout.decode_digest(digest) for (digest,) in self._stream(LIST_LOOSE_MANIFESTS, **repository.key))

    def find_missing_links(self, repository: StoredRepository, digests: Iterable[str]) -> list[str]:
        """Return those of these blobs that the repository may not read."""
        encoded = [layout.encode_digest(digest) for digest in digests]
        rows = self._fetch(FIND_MISSING_LINKS, digests=encoded, **repository.key)
        return [layout.decode_digest(digest) for (digest,) in rows]

    def blobs(self, low: bytes, high: bytes | None) -> Iterator[tuple[bytes, int]]:
        """Yield every blob from one encoded digest up to, and without, another with its size, sorted."""
        return ((bytes(digest), size) for digest, size in self._stream(LIST_BLOBS, low=low, high=high))

    def _fetch(self, statement: str, **values: Any) -> list[Sequence[Any]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def _stream(self, statement: str, **values: Any) -> Iterator[Sequence[Any]]:
        with self._connection.chunked_cursor() as cursor:
            cursor.execute(statement, values)
            while rows := cursor.fetchmany(ROWS_PER_FETCH):
                yield from rows


def _manifest_facts(row: Sequence[Any]) -> ManifestFacts:
    """Read one row of FIND_MANIFESTS, from its second column on."""
    config, subject, layers, layer_media_types, children = row[5], row[10], row[11], row[12], row[13]
    return ManifestFacts(
        media_type=row[0],
        schema_version=row[1],
        payload=bytes(row[2]),
        total_size=row[3],
        configuration_media_type=row[4],
        configuration_digest=layout.decode_digest(config) if config is not None else None,
        configuration_payload=bytes(row[6]) if row[6] is not None else None,
        non_conformant=row[7],
        non_distributable_layers=row[8],
        artifact_media_type=row[9],
        subject=layout.decode_digest(subject) if subject is not None else None,
        layers=dict(zip(map(layout.decode_digest, layers), layer_media_types, strict=True)),
        children=frozenset(map(layout.decode_digest, children)),
    )
