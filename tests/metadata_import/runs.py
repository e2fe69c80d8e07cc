"""Starts imports for tests: the one place that knows how."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connections

from metadata_import.importer import Progress, ignore_progress, import_registry
from metadata_import.options import ImportOptions, Resume
from metadata_import.statistics import ImportReport
from metadata_import.storage.base import StorageDriver
from metadata_import.storage.filesystem import FilesystemDriver


def import_tree(
    root: Path,
    *,
    driver: StorageDriver | None = None,
    on_progress: Callable[[Progress], None] = ignore_progress,
    **options: Any,
) -> ImportReport:
    """Import a tree into the registry's database, from the start; options are those of ImportOptions."""
    return import_registry(
        driver or FilesystemDriver(root),
        connection=connections["registry"],
        pending_migrations=lambda: 0,
        on_progress=on_progress,
        options=ImportOptions(**{"reads_in_flight": 2, "resume": Resume.RESTART, **options}),
    )
