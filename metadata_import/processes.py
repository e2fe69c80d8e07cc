"""Shares the items of an import out among processes, each with a connection of its own.

A child imports nothing of Django's until it is set up, so this module names the engine by its path.
"""

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any

import django
import structlog
from django.utils.module_loading import import_string

from metadata_import.errors import WorkerDiedError
from metadata_import.options import ImportOptions
from metadata_import.statistics import ImportKind
from metadata_import.storage.base import StorageDriver

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

    from django.db.backends.base.base import BaseDatabaseWrapper

    from metadata_import.worker import Increment

STOP_SECONDS = 30.0  # that a child has to end its batch
WORK = "metadata_import.shares.work_share"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """What all processes of one pass have in common; it has to travel to them."""

    driver: StorageDriver
    options: ImportOptions
    run_id: int
    token: uuid.UUID
    kind: ImportKind


@dataclass(frozen=True, slots=True)
class _Ended:
    """A child's last word."""

    error: BaseException | None = None


def work(
    share: Share,
    *,
    names: Sequence[str],
    count: int,
    connection: "BaseDatabaseWrapper",
    on_written: "Callable[[Increment], None]",
) -> None:
    """Import these items with so many processes. Raises the first error of any, once all have ended.

    Whatever ends the wait ends the children: they finish the batch that they are writing. Those of a parent that was
    killed end by themselves.
    """
    context = get_context("spawn")
    queue: Queue[str | None] = context.Queue()
    stop = context.Event()
    database = (connection.alias, dict(connection.settings_dict))
    children: dict[Connection, SpawnProcess] = {}
    try:
        for _ in range(count):
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=_run, args=(share, database, queue, stop, sender), daemon=True)
            child.start()
            sender.close()
            children[receiver] = child
        for name in (*names, *[None] * count):
            queue.put(name)
        _listen(children, on_written)
    finally:
        stop.set()
        queue.cancel_join_thread()
        queue.close()
        for receiver, child in children.items():
            _end(receiver, child)


def _listen(children: dict[Connection, SpawnProcess], on_written: "Callable[[Increment], None]") -> None:
    open_ends = dict(children)
    while open_ends:
        for ready in [end for end in wait(list(open_ends)) if isinstance(end, Connection)]:
            try:
                said = ready.recv()
            except EOFError:
                child = open_ends[ready]
                child.join()
                raise WorkerDiedError(f"exit code {child.exitcode}") from None
            if not isinstance(said, _Ended):
                on_written(said)
            elif said.error is None:
                del open_ends[ready]
            else:
                raise said.error


def _end(receiver: Connection, child: SpawnProcess) -> None:
    child.join(STOP_SECONDS)
    if child.is_alive():
        child.terminate()
        child.join()
    receiver.close()


# --- In the child -------------------------------------------------------------------------------------------------


class _StoppedError(Exception):
    """Ends a child between two batches."""


def _run(
    share: Share,
    database: tuple[str, dict[str, Any]],
    queue: "Queue[str | None]",
    stop: "Event",
    sender: Connection,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which stops us in good order
    threading.Thread(target=_end_with_parent, name="import-parent", daemon=True).start()

    def tell(increment: "Increment") -> None:
        sender.send(increment)
        if stop.is_set():
            raise _StoppedError

    error: BaseException | None = None
    try:
        django.setup()
        import_string(WORK)(share, database=database, names=_take(queue, stop), on_written=tell)
    except _StoppedError:
        pass
    except Exception as raised:  # travels to the parent
        error = raised
    sender.send(_Ended(error))


def _take(queue: "Queue[str | None]", stop: "Event") -> Iterator[str]:
    while not stop.is_set() and (name := queue.get()) is not None:
        yield name


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
