"""What the metadata database holds, for whoever shows it."""

from django.db.backends.base.base import BaseDatabaseWrapper

from metadata_import.store import Store


def count_rows(connection: BaseDatabaseWrapper) -> dict[str, int]:
    """Return the number of rows of the main tables, by table; it reads all of them, so it is for small databases."""
    return Store(connection).count_rows()
