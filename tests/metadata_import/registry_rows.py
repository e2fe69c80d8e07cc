"""What a registry's tables hold, by natural keys: digests, paths and media types in place of ids."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connections

DIGEST = "CASE get_byte({0}, 0) WHEN 1 THEN 'sha256:' WHEN 2 THEN 'sha512:' END || substr(encode({0}, 'hex'), 3)"
ROWS = {
    "repositories": """
        SELECT r.path, r.name, n.name, r.parent_id
        FROM repositories r JOIN top_level_namespaces n ON n.id = r.top_level_namespace_id
        WHERE r.deleted_at IS NULL
    """,
    "tags": f"""
        SELECT r.path, t.name, {DIGEST.format("m.digest")}
        FROM tags t
        JOIN manifests m ON m.id = t.manifest_id AND m.repository_id = t.repository_id
        JOIN repositories r ON r.id = t.repository_id
    """,
    "manifests": f"""
        SELECT r.path, {DIGEST.format("m.digest")}, m.payload, y.media_type, m.total_size, c.media_type,
            {DIGEST.format("m.configuration_blob_digest")}, m.configuration_payload, m.non_conformant,
            m.non_distributable_layers, {DIGEST.format("s.digest")}, a.media_type, m.schema_version
        FROM manifests m
        JOIN repositories r ON r.id = m.repository_id
        JOIN media_types y ON y.id = m.media_type_id
        LEFT JOIN media_types c ON c.id = m.configuration_media_type_id
        LEFT JOIN media_types a ON a.id = m.artifact_media_type_id
        LEFT JOIN manifests s ON s.id = m.subject_id AND s.repository_id = m.repository_id
    """,
    "layers": f"""
        SELECT r.path, {DIGEST.format("m.digest")}, {DIGEST.format("l.digest")}, l.size, y.media_type
        FROM layers l
        JOIN manifests m ON m.id = l.manifest_id AND m.repository_id = l.repository_id
        JOIN repositories r ON r.id = l.repository_id
        JOIN media_types y ON y.id = l.media_type_id
    """,
    "references": f"""
        SELECT r.path, {DIGEST.format("p.digest")}, {DIGEST.format("c.digest")}
        FROM manifest_references f
        JOIN manifests p ON p.id = f.parent_id AND p.repository_id = f.repository_id
        JOIN manifests c ON c.id = f.child_id AND c.repository_id = f.repository_id
        JOIN repositories r ON r.id = f.repository_id
    """,
    "links": f"""
        SELECT r.path, {DIGEST.format("b.blob_digest")}
        FROM repository_blobs b JOIN repositories r ON r.id = b.repository_id
    """,
    "blobs": f"""
        SELECT {DIGEST.format("b.digest")}, b.size, y.media_type
        FROM blobs b JOIN media_types y ON y.id = b.media_type_id
    """,
}
# The columns by which a row is told from others, where these are not all it has.
KEY_COLUMNS = {"repositories": 1, "manifests": 2, "layers": 3, "blobs": 1}

Row = tuple[Any, ...]


def registry_rows() -> dict[str, set[Row]]:
    """Return all rows of a registry's tables, having seen that no two are alike."""
    found = {table: [_plain(row) for row in fetch(statement)] for table, statement in ROWS.items()}
    assert all(len(set(rows)) == len(rows) for rows in found.values())
    return {table: set(rows) for table, rows in found.items()}


def row_keys(rows: Mapping[str, Iterable[Row]]) -> dict[str, set[Row]]:
    """Return of each row only what it is told by."""
    return {table: {row[: KEY_COLUMNS.get(table, len(row))] for row in rows[table]} for table in rows}


def fetch(statement: str) -> list[Row]:
    """Return the rows of a query on the registry's database."""
    with connections["registry"].cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _plain(row: Row) -> Row:
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
