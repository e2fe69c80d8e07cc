"""What the metadata database holds and what imports did, for whoever shows it."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import Connection
from psycopg.rows import dict_row

from metadata_import.store import Store

IMPORTS = "SELECT * FROM public.import_statistics ORDER BY id"


def count_rows(connection: BaseDatabaseWrapper) -> dict[str, int]:
    """Return the number of rows of the main tables, by table; it reads all of them, so it is for small databases."""
    return Store(connection).count_rows()


def recorded_imports(connection: Connection) -> list[dict[str, Any]]:
    """Return the rows of import_statistics, the oldest first; GitLab's registry writes there, too."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(IMPORTS).fetchall()
