"""What the metadata database holds and what imports did, for whoever shows it."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from metadata_import.store import Store

LIST_STATISTICS = """
    SELECT id, created_at, started_at, finished_at, pre_import, pre_import_started_at, pre_import_finished_at,
        pre_import_error, tag_import, tag_import_started_at, tag_import_finished_at, tag_import_error, blob_import,
        blob_import_started_at, blob_import_finished_at, blob_import_error, repositories_count, tags_count,
        manifests_count, nullif(blobs_count, 0) AS blobs_count, nullif(blobs_size_bytes, 0) AS blobs_size_bytes,
        storage_driver
    FROM import_statistics
    ORDER BY id
"""


def count_rows(connection: BaseDatabaseWrapper) -> dict[str, int]:
    """Return the number of rows of the main tables, by table; it reads all of them, so it is for small databases."""
    return Store(connection).count_rows()


def list_statistics(connection: BaseDatabaseWrapper) -> list[dict[str, Any]]:
    """Return the rows of all imports, oldest first, without the times, errors and blobs that are not there."""
    with connection.cursor() as cursor:
        cursor.execute(LIST_STATISTICS)
        names = [column.name for column in cursor.description]
        found = cursor.fetchall()
    return [{name: value for name, value in zip(names, row, strict=True) if value is not None} for row in found]
