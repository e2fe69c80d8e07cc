"""One `manage.py migrate` at a time in each database. The lock ends with its transaction, as a pooler demands."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from django.db import OperationalError, connections
from django.db.backends.utils import CursorWrapper
from psycopg.errors import LockNotAvailable

from registry_project.errors import MigrateBusyError

# Another one than that of the schema migrator, which may call us while it holds its own.
LOCK_KEY = (0x52454749, 2)

LOCK = "SELECT pg_advisory_xact_lock(%s, %s)"
SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"


@contextmanager
def others_kept_out(alias: str, *, wait_seconds: float) -> Iterator[None]:
    """Hold the lock on a connection of its own, since Django commits after each migration.

    Raises MigrateBusyError after `wait_seconds`.
    """
    with closing(connections[alias].copy()) as connection:
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            wait_for_others(cursor, wait_seconds=wait_seconds)
        yield


def wait_for_others(cursor: CursorWrapper, *, wait_seconds: float) -> None:
    """Take the lock until the end of the cursor's transaction. Raises MigrateBusyError after `wait_seconds`."""
    limit_locks(cursor, seconds=max(wait_seconds, 0.001))  # 0 would be no limit
    try:
        cursor.execute(LOCK, LOCK_KEY)
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise MigrateBusyError(waited_seconds=wait_seconds) from error
        raise


def limit_locks(cursor: CursorWrapper, *, seconds: float) -> None:
    """Let statements wait so long for a lock, until the end of the cursor's transaction; 0 is no end."""
    cursor.execute(SET_LOCK_TIMEOUT, [f"{seconds * 1000:.0f}ms"])
