"""What a process of its own needs for its share of an import, once Django is set up in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connections
from django.utils import timezone

from metadata_import.journal import Journal
from metadata_import.processes import Share
from metadata_import.worker import Increment, Worker


@contextmanager
def shared_worker(share: Share, *, on_written: Callable[[Increment], None]) -> Iterator[Worker]:
    """Give a worker with a connection of this process to the database that the parent uses."""
    connection = connections[share.alias]
    connection.settings_dict.update(share.database)
    try:
        yield Worker(
            share.driver,
            connection=connection,
            journal=Journal(connection, run_id=share.run_id, token=share.token),
            options=share.options,
            on_written=on_written,
            clock=timezone.now,
        )
    finally:
        connection.close()
