"""The two files in storage that tell a registry server who manages the metadata: the storage or a database."""

from metadata_import import layout
from metadata_import.errors import DatabaseLockError, PathNotFoundError, ReadOnlyStorageError, StorageError
from metadata_import.storage.base import StorageDriver

LOCK_CONTENT = b'{"version":1}'


def refuse_database_lock(driver: StorageDriver) -> None:
    """Raise DatabaseLockError if the storage is marked as managed by a database; a directory there is no lock."""
    try:
        is_locked = not driver.stat(layout.DATABASE_LOCK).is_directory
    except PathNotFoundError:
        return
    if is_locked:
        raise DatabaseLockError(layout.DATABASE_LOCK)


def refuse_read_only(driver: StorageDriver) -> None:
    """Raise ReadOnlyStorageError if the lock files could not be switched later; leaves nothing in storage."""
    try:
        driver.check_writable(layout.DATABASE_LOCK)
    except StorageError as error:
        raise ReadOnlyStorageError(f"{driver.root}/{layout.DATABASE_LOCK}", reason=error.reason) from error


def switch_to_database(driver: StorageDriver) -> None:
    """Mark the storage as managed by a database. Servers refuse to start on both marks, hence the order."""
    driver.delete(layout.FILESYSTEM_LOCK)
    driver.put(layout.DATABASE_LOCK, LOCK_CONTENT)
