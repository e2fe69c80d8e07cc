"""The two files in storage that tell a registry server who manages the metadata: the storage or a database."""

from metadata_import import layout
from metadata_import.errors import PathNotFoundError, StorageError, UnmarkedStorageError
from metadata_import.refusals import DatabaseLockError, ReadOnlyStorageError
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
    for path in (layout.DATABASE_LOCK, layout.FILESYSTEM_LOCK):
        try:
            driver.check_writable(path)
        except StorageError as error:
            raise ReadOnlyStorageError(f"{driver.root}/{path}", reason=error.reason) from error


def switch_to_database(driver: StorageDriver) -> None:
    """Mark the storage as managed by a database, or raise UnmarkedStorageError and leave the marks as they were.

    A server refuses to start while both marks are there, which is better than to start on none.
    """
    try:
        driver.put(layout.DATABASE_LOCK, LOCK_CONTENT)
        try:
            driver.delete(layout.FILESYSTEM_LOCK)
        except StorageError:
            driver.delete(layout.DATABASE_LOCK)
            raise
    except StorageError as error:
        raise UnmarkedStorageError(f"{driver.root}/{layout.DATABASE_LOCK}", reason=error.reason) from error


def switch_to_filesystem(driver: StorageDriver) -> None:
    """Mark the storage as not managed by a database, so that no registry serves from half an import."""
    driver.put(layout.FILESYSTEM_LOCK, LOCK_CONTENT)
    driver.delete(layout.DATABASE_LOCK)
