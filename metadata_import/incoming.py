"""The temporary tables that records travel through, and the binary COPY that fills them.

Rows refer to each other by numbers that are given out here and mean nothing after the write.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

from metadata_import import layout
from metadata_import.manifests import OCTET_STREAM
from metadata_import.records import Blob, Config, Layer, Manifest, RepositoryPart, Skip, SkipReason

# By table: its columns that are copied, in order, with their types; then those that statements fill in.
COPIED_COLUMNS = {
    "incoming_repositories": {
        "repository": "int4",
        "path": "text",
        "namespace": "text",
        "name": "text",
        "is_finished": "bool",
    },
    "incoming_blobs": {"digest": "bytea", "size": "int8"},
    "incoming_repository_blobs": {"position": "int4", "repository": "int4", "digest": "bytea"},
    "incoming_manifests": {
        "manifest": "int4",
        "repository": "int4",
        "digest": "bytea",
        "media_type_id": "int2",
        "schema_version": "int2",
        "payload": "bytea",
        "total_size": "int8",
        "configuration_media_type_id": "int2",
        "configuration_blob_digest": "bytea",
        "configuration_payload": "bytea",
        "artifact_media_type_id": "int8",
        "non_distributable_layers": "bool",
        "non_conformant": "bool",
        "subject_digest": "bytea",
        "level": "int2",
    },
    "incoming_layers": {"position": "int4", "manifest": "int4", "digest": "bytea", "media_type_id": "int2"},
    "incoming_references": {"position": "int4", "manifest": "int4", "child_digest": "bytea"},
    "incoming_tags": {
        "position": "int4",
        "repository": "int4",
        "name": "text",
        "manifest_digest": "bytea",
        "created_at": "timestamptz",
    },
}
FOUND_COLUMNS = {
    "incoming_repositories": {"namespace_id": "int8", "repository_id": "int8"},
    "incoming_manifests": {"namespace_id": "int8", "repository_id": "int8", "id": "int8"},
}

# All of it ends with the transaction. The lookups of a write are cheap and look dear, and compiling them takes seconds.
# PostgreSQL plans each check of a foreign key to a partitioned table anew unless told to keep one plan: 40 % of a
# write. A batch that the server loses in a crash is missing in the journal too, so nothing waits for its disk.
SETTINGS = """
    SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL synchronous_commit = off
"""
# One transaction may write many times (a dry run does), hence IF NOT EXISTS and TRUNCATE.
CREATE_TABLE = "CREATE TEMPORARY TABLE IF NOT EXISTS {table} ({columns}) ON COMMIT DROP"
TRUNCATE_TABLES = "TRUNCATE {tables}"
ANALYZE_TABLES = "ANALYZE {tables}"
COPY_ROWS = "COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)"

Row = tuple[Any, ...]


class IncomingRows:
    """The rows of one write, by temporary table; what the registry holds once is collected once."""

    def __init__(self, *, missing_reason: SkipReason = SkipReason.MEDIA_TYPES_EXHAUSTED) -> None:
        self._missing_reason = missing_reason  # why a manifest is left out whose media type has no id
        self.rows: dict[str, list[Row]] = {}
        self.skips: list[Skip] = []
        self.levels: list[int] = []  # how far manifests are from the subject at the end of their chain

    def add_parts(self, parts: Sequence[RepositoryPart], *, media_type_ids: dict[str, int]) -> None:
        """Take in the parts of any number of repositories, all but the blobs that these share with others."""
        self.rows |= {table: [] for table in COPIED_COLUMNS if table != "incoming_blobs"}
        finished = {part.path for part in parts if part.is_last and part.is_readable}
        numbers: dict[str, int] = {}
        for part in parts:
            if part.path not in numbers:
                numbers[part.path] = len(numbers)
                row = (numbers[part.path], part.path, part.namespace, part.name, part.path in finished)
                self.rows["incoming_repositories"].append(row)
        manifests: dict[tuple[int, str], tuple[str, Manifest]] = {}
        for part in parts:
            for manifest in part.manifests:
                manifests.setdefault((numbers[part.path], manifest.digest), (part.path, manifest))
        level: dict[tuple[int, str | None], int] = {}
        for (number, digest), (path, manifest) in manifests.items():
            level[number, digest] = level.get((number, manifest.subject), -1) + 1
            self._add_manifest(
                manifest,
                path=path,
                repository=number,
                level=level[number, digest],
                media_type_ids=media_type_ids,
            )
        self.levels = sorted(set(level.values()))
        self._keep_first("incoming_repository_blobs", key=slice(1, 3))
        for part in parts:
            self._add_tags(part, repository=numbers[part.path])

    def add_blobs(self, blobs: Iterable[Blob | Config | Layer]) -> None:
        """Take in blobs, whoever holds them; of those with one digest the first counts."""
        sizes: dict[str, int] = {}
        for blob in blobs:
            sizes.setdefault(blob.digest, blob.size)
        self.rows["incoming_blobs"] = [(layout.encode_digest(digest), size) for digest, size in sizes.items()]

    def copy(self, connection: BaseDatabaseWrapper) -> None:
        """Fill the temporary tables of the current transaction with these rows, and nothing else.

        Two statements, and one COPY for each table that has rows.
        """
        tables = sql.SQL(", ").join(map(sql.Identifier, self.rows))
        with connection.cursor() as cursor:
            statements = [sql.SQL(SETTINGS), *map(_create_table, self.rows)]
            statements.append(sql.SQL(TRUNCATE_TABLES).format(tables=tables))
            cursor.execute(sql.SQL("; ").join(statements))
            for table, rows in self.rows.items():
                if rows:
                    _copy_rows(connection, cursor, table=table, rows=rows)
            cursor.execute(sql.SQL(ANALYZE_TABLES).format(tables=tables))

    def _add_manifest(
        self, manifest: Manifest, *, path: str, repository: int, level: int, media_type_ids: dict[str, int]
    ) -> None:
        if missing := missing_media_type(manifest, media_type_ids):
            self.skips.append(Skip(self._missing_reason, layout.revision_link(path, manifest.digest), missing))
            return
        config = manifest.config
        number = len(self.rows["incoming_manifests"])
        self.rows["incoming_manifests"].append(_manifest_row(manifest, number, repository, level, media_type_ids))
        self._add_blobs((config, *manifest.layers) if config else manifest.layers, repository=repository)
        self._add_layers(manifest, number=number, media_type_ids=media_type_ids)
        references = self.rows["incoming_references"]
        for child in dict.fromkeys(manifest.children):
            references.append((len(references), number, layout.encode_digest(child)))

    def _add_blobs(self, described: Iterable[Config | Layer], *, repository: int) -> None:
        rows = self.rows["incoming_repository_blobs"]
        for blob in described:
            rows.append((len(rows), repository, layout.encode_digest(blob.digest)))

    def _add_layers(self, manifest: Manifest, *, number: int, media_type_ids: dict[str, int]) -> None:
        rows = self.rows["incoming_layers"]
        first: dict[str, Layer] = {}
        for layer in manifest.layers:
            first.setdefault(layer.digest, layer)
        for layer in first.values():
            media_type_id = media_type_ids.get(layer.media_type, media_type_ids[OCTET_STREAM])
            rows.append((len(rows), number, layout.encode_digest(layer.digest), media_type_id))

    def _add_tags(self, part: RepositoryPart, *, repository: int) -> None:
        rows = self.rows["incoming_tags"]
        for tag in part.tags:
            rows.append((len(rows), repository, tag.name, layout.encode_digest(tag.digest), tag.created_at))

    def _keep_first(self, table: str, *, key: slice) -> None:
        first: dict[Row, Row] = {}
        for row in self.rows[table]:
            first.setdefault(row[key], row)
        self.rows[table] = list(first.values())


def blobs_of(parts: Iterable[RepositoryPart], *, media_type_ids: dict[str, int]) -> Iterator[Config | Layer]:
    """Yield the configurations and layers of all manifests that can be written, in order, repeated as they come."""
    for manifest in (manifest for part in parts for manifest in part.manifests):
        if not missing_media_type(manifest, media_type_ids):
            if manifest.config:
                yield manifest.config
            yield from manifest.layers


def missing_media_type(manifest: Manifest, media_type_ids: dict[str, int]) -> str | None:
    """Return a media type without which a manifest cannot be written and that has no id; layers can do without."""
    required = (manifest.media_type, manifest.config and manifest.config.media_type, manifest.artifact_media_type)
    return next((name for name in required if name and name not in media_type_ids), None)


def media_types_of(parts: Iterable[RepositoryPart]) -> dict[str, None]:
    """Return every media type that the rows of these parts need an id for, each once, in order."""
    names = {OCTET_STREAM: None}
    for manifest in (manifest for part in parts for manifest in part.manifests):
        names[manifest.media_type] = None
        if manifest.config:
            names[manifest.config.media_type] = None
        if manifest.artifact_media_type:
            names[manifest.artifact_media_type] = None
        names.update(dict.fromkeys(layer.media_type for layer in manifest.layers))
    return names


def _manifest_row(manifest: Manifest, number: int, repository: int, level: int, media_type_ids: dict[str, int]) -> Row:
    config = manifest.config
    return (
        number,
        repository,
        layout.encode_digest(manifest.digest),
        media_type_ids[manifest.media_type],
        manifest.schema_version,
        manifest.payload,
        manifest.total_size,
        media_type_ids[config.media_type] if config else None,
        layout.encode_digest(config.digest) if config else None,
        config.payload if config else None,
        media_type_ids[manifest.artifact_media_type] if manifest.artifact_media_type else None,
        manifest.non_distributable_layers,
        manifest.non_conformant,
        layout.encode_digest(manifest.subject) if manifest.subject else None,
        level,
    )


def _create_table(table: str) -> sql.Composed:
    columns = {**COPIED_COLUMNS[table], **FOUND_COLUMNS.get(table, {})}
    defined = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in columns.items()]
    return sql.SQL(CREATE_TABLE).format(table=sql.Identifier(table), columns=sql.SQL(", ").join(defined))


def _copy_rows(connection: BaseDatabaseWrapper, cursor: Any, *, table: str, rows: list[Row]) -> None:
    columns = COPIED_COLUMNS[table]
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL(COPY_ROWS).format(table=sql.Identifier(table), columns=names)
    with connection.wrap_database_errors, cursor.copy(statement) as copy:
        copy.set_types(list(columns.values()))
        for row in rows:
            copy.write_row(row)
