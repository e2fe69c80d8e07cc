"""What the metadata database holds and what imports did, for whoever shows it."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import Connection
from psycopg.rows import dict_row

from metadata_import.store import Store

IMPORTS = "SELECT * FROM public.import_statistics ORDER BY id"
TABLES = """
    SELECT to_regclass('registry_admin.import_runs') IS NOT NULL, to_regclass('public.import_statistics') IS NOT NULL
"""
LAST_IMPORT = "SELECT * FROM public.import_statistics ORDER BY id DESC LIMIT 1"


def count_rows(connection: BaseDatabaseWrapper) -> dict[str, int]:
    """Return the number of rows of the main tables, by table; it reads all of them, so it is for small databases."""
    return Store(connection).count_rows()


def has_tables(connection: BaseDatabaseWrapper) -> tuple[bool, bool]:
    """Tell whether our journal is there, and whether the registry's own record of imports is."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        journal, record = cursor.fetchone()
    return journal, record


def recorded_imports(connection: Connection) -> list[dict[str, Any]]:
    """Return the rows of import_statistics, the oldest first; GitLab's registry writes there, too."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(IMPORTS).fetchall()


def last_recorded_import(connection: Connection) -> dict[str, Any] | None:
    """Return the last row of import_statistics, if there is one."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(LAST_IMPORT).fetchone()
