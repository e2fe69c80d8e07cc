"""Records → PostgreSQL, in bulk: one statement per table of the registry, from the temporary tables of a write.

The number of statements does not depend on the number of records. Rows that exist are found before anything is
inserted, so that a second run neither fails nor uses up ids. Transactions are the caller's.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from metadata_import import layout
from metadata_import.incoming import IncomingRows, blobs_of, media_types_of
from metadata_import.manifests import OCTET_STREAM
from metadata_import.media_types import MediaTypes
from metadata_import.records import Blob, RepositoryPart, Skip, SkipReason, Written

COUNTED_TABLES = ("repositories", "manifests", "blobs", "tags")

IS_TAGS_TABLE_EMPTY = "SELECT NOT EXISTS (SELECT FROM tags)"
COUNT_ROWS = "SELECT count(*) FROM {table}"
INSERT_STATISTICS = "INSERT INTO import_statistics ({columns}) VALUES ({values})"

# The tables of a registry grow without bound while one write stays small, yet PostgreSQL prices a lookup in 64
# partitions as 64 lookups and would rather join with all of a table, once for each write. So each row of a registry's
# table is looked up by a subquery of its own, which OFFSET 0, LIMIT 1 or a place among the values keeps from being
# turned into a join.
INSERT_NAMESPACES = """
    INSERT INTO top_level_namespaces (name)
    SELECT i.name
    FROM unnest(%(names)s::text[]) AS i (name)
    WHERE NOT EXISTS (SELECT FROM top_level_namespaces n WHERE n.name = i.name OFFSET 0)
    ORDER BY i.name
    ON CONFLICT (name) DO NOTHING
"""
REVIVE_REPOSITORIES = """
    UPDATE repositories
    SET deleted_at = NULL
    WHERE path = ANY (ARRAY(SELECT i.path FROM incoming_repositories i)) AND deleted_at IS NOT NULL
"""
INSERT_REPOSITORIES = """
    INSERT INTO repositories (top_level_namespace_id, name, path)
    SELECT (SELECT n.id FROM top_level_namespaces n WHERE n.name = i.namespace), i.name, i.path
    FROM incoming_repositories i
    WHERE NOT EXISTS (SELECT FROM repositories r WHERE r.path = i.path OFFSET 0)
    ORDER BY i.repository
    ON CONFLICT (path) DO NOTHING
"""
FIND_REPOSITORIES = """
    UPDATE incoming_repositories i
    SET (namespace_id, repository_id) = (
        SELECT r.top_level_namespace_id, r.id FROM repositories r WHERE r.path = i.path
    )
"""
# Ordered by digest: two writers that meet wait for each other instead of deadlocking.
INSERT_BLOBS = """
    INSERT INTO blobs (digest, size, media_type_id)
    SELECT i.digest, i.size, %(media_type_id)s
    FROM incoming_blobs i
    WHERE NOT EXISTS (SELECT FROM blobs b WHERE b.digest = i.digest OFFSET 0)
    ORDER BY i.digest
    ON CONFLICT (digest) DO NOTHING
"""
INSERT_REPOSITORY_BLOBS = """
    INSERT INTO repository_blobs (top_level_namespace_id, repository_id, blob_digest)
    SELECT r.namespace_id, r.repository_id, i.digest
    FROM incoming_repository_blobs i
    JOIN incoming_repositories r USING (repository)
    WHERE NOT EXISTS (
        SELECT FROM repository_blobs b
        WHERE b.top_level_namespace_id = r.namespace_id AND b.repository_id = r.repository_id
            AND b.blob_digest = i.digest
        OFFSET 0
    )
    ORDER BY i.position
    ON CONFLICT (top_level_namespace_id, repository_id, blob_digest) DO NOTHING
"""
# Once for each level: what others have as their subject comes first, so that its id can be looked up.
INSERT_MANIFESTS = """
    INSERT INTO manifests (
        top_level_namespace_id, repository_id, schema_version, media_type_id, configuration_media_type_id,
        configuration_payload, configuration_blob_digest, digest, payload, non_conformant, total_size,
        non_distributable_layers, artifact_media_type_id, subject_id
    )
    SELECT
        r.namespace_id, r.repository_id, i.schema_version, i.media_type_id, i.configuration_media_type_id,
        i.configuration_payload, i.configuration_blob_digest, i.digest, i.payload, i.non_conformant,
        i.total_size, i.non_distributable_layers, i.artifact_media_type_id,
        (
            SELECT s.id FROM manifests s
            WHERE s.top_level_namespace_id = r.namespace_id AND s.repository_id = r.repository_id
                AND s.digest = i.subject_digest
        )
    FROM incoming_manifests i
    JOIN incoming_repositories r USING (repository)
    WHERE i.level = %(level)s AND NOT EXISTS (
        SELECT FROM manifests m
        WHERE m.top_level_namespace_id = r.namespace_id AND m.repository_id = r.repository_id
            AND m.digest = i.digest
        OFFSET 0
    )
    ORDER BY i.manifest
    ON CONFLICT (top_level_namespace_id, repository_id, digest) DO NOTHING
"""
FIND_MANIFESTS = """
    UPDATE incoming_manifests i
    SET namespace_id = r.namespace_id, repository_id = r.repository_id, id = (
        SELECT m.id FROM manifests m
        WHERE m.top_level_namespace_id = r.namespace_id AND m.repository_id = r.repository_id
            AND m.digest = i.digest
    )
    FROM incoming_repositories r
    WHERE r.repository = i.repository
"""
# Registries list the layers of an image by id. Each has the size of its blob: who brought the blob first says it.
INSERT_LAYERS = """
    INSERT INTO layers (top_level_namespace_id, repository_id, manifest_id, digest, media_type_id, size)
    SELECT
        m.namespace_id, m.repository_id, m.id, i.digest, i.media_type_id,
        (SELECT b.size FROM blobs b WHERE b.digest = i.digest)
    FROM incoming_layers i
    JOIN incoming_manifests m USING (manifest)
    WHERE NOT EXISTS (
        SELECT FROM layers l
        WHERE l.top_level_namespace_id = m.namespace_id AND l.repository_id = m.repository_id
            AND l.manifest_id = m.id AND l.digest = i.digest
        OFFSET 0
    )
    ORDER BY i.position
    ON CONFLICT (top_level_namespace_id, repository_id, manifest_id, digest) DO NOTHING
"""
INSERT_REFERENCES = """
    INSERT INTO manifest_references (top_level_namespace_id, repository_id, parent_id, child_id)
    SELECT m.namespace_id, m.repository_id, m.id, c.id
    FROM incoming_references i
    JOIN incoming_manifests m USING (manifest)
    CROSS JOIN LATERAL (
        SELECT c.id FROM manifests c
        WHERE c.top_level_namespace_id = m.namespace_id AND c.repository_id = m.repository_id
            AND c.digest = i.child_digest
        LIMIT 1
    ) c
    WHERE c.id <> m.id AND NOT EXISTS (
        SELECT FROM manifest_references f
        WHERE f.top_level_namespace_id = m.namespace_id AND f.repository_id = m.repository_id
            AND f.parent_id = m.id AND f.child_id = c.id
        OFFSET 0
    )
    ORDER BY i.position
    ON CONFLICT (top_level_namespace_id, repository_id, parent_id, child_id) DO NOTHING
"""
# A tag is as old as its link, unless that comes from a clock ahead of ours; what has no time is of now.
INSERT_TAGS = """
    INSERT INTO tags AS t (top_level_namespace_id, repository_id, manifest_id, name, created_at)
    SELECT r.namespace_id, r.repository_id, m.id, i.name, least(i.created_at, now())
    FROM incoming_tags i
    JOIN incoming_repositories r USING (repository)
    CROSS JOIN LATERAL (
        SELECT m.id FROM manifests m
        WHERE m.top_level_namespace_id = r.namespace_id AND m.repository_id = r.repository_id
            AND m.digest = i.manifest_digest
        LIMIT 1
    ) m
    WHERE NOT EXISTS (
        SELECT FROM tags t
        WHERE t.top_level_namespace_id = r.namespace_id AND t.repository_id = r.repository_id
            AND t.name = i.name AND t.manifest_id = m.id
        OFFSET 0
    )
    ORDER BY i.position
    ON CONFLICT (top_level_namespace_id, repository_id, name)
        DO UPDATE SET manifest_id = EXCLUDED.manifest_id, updated_at = now()
        WHERE t.manifest_id <> EXCLUDED.manifest_id
"""
# Of an import that is begun anew: what was deleted from storage meanwhile must not stay.
DELETE_TAGS = """
    DELETE FROM tags t
    USING registry_admin.import_items i
    JOIN repositories r ON r.path = i.name
    WHERE i.run_id = %(run_id)s AND i.kind = 'repository'
        AND t.top_level_namespace_id = r.top_level_namespace_id AND t.repository_id = r.id
"""
PUBLISH_REPOSITORIES = """
    UPDATE repositories
    SET last_published_at = %(published_at)s
    WHERE path = ANY (ARRAY(SELECT i.path FROM incoming_repositories i WHERE i.is_finished))
        AND (%(again)s OR last_published_at IS NULL)
"""
# Which of these tags name a manifest that the database does not hold, by repository.
FIND_UNKNOWN = """
    SELECT DISTINCT i.path
    FROM unnest(%(paths)s::text[], %(digests)s::bytea[]) AS i (path, digest)
    WHERE NOT EXISTS (
        SELECT FROM manifests m
        WHERE (m.top_level_namespace_id, m.repository_id) = (
                SELECT r.top_level_namespace_id, r.id FROM repositories r WHERE r.path = i.path
            )
            AND m.digest = i.digest
        OFFSET 0
    )
"""
# Tags that have no row after the write: what they name was refused. Asked only when the counts differ.
FIND_LOST_TAGS = """
    SELECT r.path, i.name
    FROM incoming_tags i
    JOIN incoming_repositories r USING (repository)
    WHERE NOT EXISTS (
        SELECT FROM tags t
        WHERE t.top_level_namespace_id = r.namespace_id AND t.repository_id = r.repository_id
            AND t.name = i.name
        OFFSET 0
    )
"""
# Without statistics PostgreSQL takes any index that begins with the repository for as good as the unique one, and each
# lookup reads the whole repository. Worse, the check of a foreign key keeps its plan until a table in it is analyzed,
# and for a partition that was known to be empty the plan is to read all of it. Namespaces come one after another and
# each has a partition, so partitions are looked at one by one. Autovacuum would come a minute late, and never to a dry
# run.
FIND_GROWN = """
    SELECT t.relname, n.nspname, p.relname
    FROM pg_class t
    LEFT JOIN pg_inherits i ON i.inhparent = t.oid
    JOIN pg_class p ON p.oid = coalesce(i.inhrelid, t.oid)
    JOIN pg_namespace n ON n.oid = p.relnamespace
    WHERE t.oid = ANY (%(tables)s::regclass[])
        AND pg_relation_size(p.oid) > 2 * greatest(p.relpages, 1) * current_setting('block_size')::int8
"""
ANALYZE_TABLES = "ANALYZE (SKIP_LOCKED) {tables}"  # another process, or autovacuum, may be at it
ANALYZED_COLUMNS = {
    "repositories": ("top_level_namespace_id",),
    "repository_blobs": ("top_level_namespace_id", "repository_id"),
    "manifests": ("top_level_namespace_id", "repository_id"),
    "layers": ("top_level_namespace_id", "repository_id", "manifest_id"),
    "manifest_references": ("top_level_namespace_id", "repository_id", "parent_id"),
    "tags": ("top_level_namespace_id", "repository_id"),
}


class Store:
    """Writes records to one database."""

    def __init__(self, connection: BaseDatabaseWrapper, *, dynamic_media_types: bool = True) -> None:
        self._connection = connection
        self._media_types = MediaTypes(connection, dynamic=dynamic_media_types)

    def is_tags_table_empty(self) -> bool:
        """Tell whether no tag has ever been written."""
        return bool(self._fetch_number(IS_TAGS_TABLE_EMPTY))

    def count_rows(self) -> dict[str, int]:
        """Return how many rows the main tables hold; reads them whole."""
        return {
            table: self._fetch_number(sql.SQL(COUNT_ROWS).format(table=sql.Identifier(table)))
            for table in COUNTED_TABLES
        }

    def find_unknown(self, parts: Sequence[RepositoryPart]) -> set[str]:
        """Return the repositories among these with a tag whose manifest is not in the database."""
        named = {(part.path, tag.digest) for part in parts for tag in part.tags}
        with self._connection.cursor() as cursor:
            cursor.execute(
                FIND_UNKNOWN,
                {
                    "paths": [path for path, _ in named],
                    "digests": [layout.encode_digest(digest) for _, digest in named],
                },
            )
            return {path for (path,) in cursor.fetchall()}

    def write_shared(self, parts: Sequence[RepositoryPart]) -> dict[str, int]:
        """Write what these parts share with any other: namespaces, blobs, media types; return the rows by table.

        Kept apart so that its transaction is short: whoever meets one of these rows waits for the end of it. All
        writers take them in the same order.
        """
        media_type_ids = self._media_types.resolve(media_types_of(parts))
        incoming = IncomingRows()
        incoming.add_blobs(blobs_of(parts, media_type_ids=media_type_ids))
        incoming.copy(self._connection)
        return {
            "top_level_namespaces": self._run(INSERT_NAMESPACES, names=sorted({part.namespace for part in parts})),
            "blobs": self._run(INSERT_BLOBS, media_type_id=media_type_ids[OCTET_STREAM]),
        }

    def write_repositories(
        self, parts: Sequence[RepositoryPart], *, published_at: datetime, publish_again: bool = True
    ) -> Written:
        """Write these parts, what they share being there; a repository that is finished was published at that time.

        A manifest that no media type can be given to is left out and reported, as are the tags on it.
        """
        media_type_ids = self._media_types.resolve(media_types_of(parts))
        incoming = IncomingRows(missing_reason=self._media_types.missing_reason)
        incoming.add_parts(parts, media_type_ids=media_type_ids)
        incoming.copy(self._connection)
        self._run(REVIVE_REPOSITORIES)
        rows = {"repositories": self._run(INSERT_REPOSITORIES)}
        self._run(FIND_REPOSITORIES)
        rows["repository_blobs"] = self._run(INSERT_REPOSITORY_BLOBS)
        rows["manifests"] = sum(self._run(INSERT_MANIFESTS, level=level) for level in incoming.levels)
        self._run(FIND_MANIFESTS)
        rows["layers"] = self._run(INSERT_LAYERS)
        rows["manifest_references"] = self._run(INSERT_REFERENCES)
        rows["tags"] = self._run(INSERT_TAGS)
        self._run(PUBLISH_REPOSITORIES, published_at=published_at, again=publish_again)
        return Written(rows, tuple(incoming.skips + self._lost_tags(incoming, written=rows["tags"])))

    def delete_tags(self, *, run_id: int) -> None:
        """Delete the tags of every repository that a run was about."""
        self._run(DELETE_TAGS, run_id=run_id)

    def write_blobs(self, blobs: Iterable[Blob]) -> Written:
        """Write those of these blobs that are unknown yet."""
        media_type_ids = self._media_types.resolve([OCTET_STREAM])
        incoming = IncomingRows()
        incoming.add_blobs(blobs)
        incoming.copy(self._connection)
        return Written({"blobs": self._run(INSERT_BLOBS, media_type_id=media_type_ids[OCTET_STREAM])})

    def analyze_grown(self) -> None:
        """Let PostgreSQL look again at the tables that have doubled since. Best outside of a long transaction."""
        with self._connection.cursor() as cursor:
            cursor.execute(FIND_GROWN, {"tables": list(ANALYZED_COLUMNS)})
            grown = [_with_columns(*row) for row in cursor.fetchall()]
            if grown:
                cursor.execute(sql.SQL(ANALYZE_TABLES).format(tables=sql.SQL(", ").join(grown)))

    def write_statistics(self, row: Mapping[str, Any]) -> None:
        """Add the row of one run."""
        statement = sql.SQL(INSERT_STATISTICS).format(
            columns=sql.SQL(", ").join(map(sql.Identifier, row)),
            values=sql.SQL(", ").join(map(sql.Placeholder, row)),
        )
        self._run(statement, **row)

    def _lost_tags(self, incoming: IncomingRows, *, written: int) -> list[Skip]:
        if written >= len(incoming.rows["incoming_tags"]):
            return []
        with self._connection.cursor() as cursor:
            cursor.execute(FIND_LOST_TAGS)
            lost = cursor.fetchall()
        return [Skip(SkipReason.TAG_WITHOUT_MANIFEST, layout.tag_link(path, name)) for path, name in lost]

    def _run(self, statement: str | sql.Composed, **values: Any) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return int(cursor.rowcount)

    def _fetch_number(self, statement: str | sql.Composed) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return int(cursor.fetchone()[0])


def _with_columns(table: str, schema: str, partition: str) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, ANALYZED_COLUMNS[table]))
    return sql.SQL("{} ({})").format(sql.Identifier(schema, partition), columns)
