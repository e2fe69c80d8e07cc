"""Starts imports for tests: the one place that knows how."""

from pathlib import Path

from django.db import connections

from metadata_import.importer import ImportOptions, import_registry
from metadata_import.statistics import ImportReport
from metadata_import.storage.base import StorageDriver
from metadata_import.storage.filesystem import FilesystemDriver


def import_tree(root: Path, *, driver: StorageDriver | None = None, **options: bool | int) -> ImportReport:
    """Import a tree into the registry's database; options are those of ImportOptions."""
    return import_registry(
        driver or FilesystemDriver(root),
        connection=connections["registry"],
        pending_migrations=lambda: 0,
        options=ImportOptions(**{"concurrency": 2, **options}),
    )
