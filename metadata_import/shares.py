"""What a process of its own does with its share of an import, once Django is set up in it."""

from collections.abc import Callable, Iterator
from typing import Any

from django.db import connections
from django.utils import timezone

from metadata_import.journal import Journal
from metadata_import.processes import Share
from metadata_import.worker import Increment, Worker


def work_share(
    share: Share,
    *,
    database: tuple[str, dict[str, Any]],
    names: Iterator[str],
    on_written: Callable[[Increment], None],
) -> None:
    """Import the named items on a connection of this process, to the database that the parent uses."""
    alias, parameters = database
    connection = connections[alias]
    connection.settings_dict.update(parameters)
    try:
        journal = Journal(connection, run_id=share.run_id, token=share.token)
        worker = Worker(
            share.driver,
            connection=connection,
            journal=journal,
            options=share.options,
            on_written=on_written,
            clock=timezone.now,
        )
        worker.work(share.kind, names)
    finally:
        connection.close()
