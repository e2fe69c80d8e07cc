"""Shares the items of an import out among processes, each with a connection of its own.

A child imports nothing of Django's until it is set up, so this module names the engine by its path.
"""

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from queue import Empty
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import django
from django.utils.module_loading import import_string
from structlog.contextvars import bind_contextvars

from metadata_import.errors import WorkerDiedError
from metadata_import.options import ImportOptions
from metadata_import.statistics import ImportKind
from metadata_import.storage.base import StorageDriver

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

    from metadata_import.worker import Increment

STOP_SECONDS = 30.0  # that a child has to end its batch
LOOK_SECONDS = 0.5  # how often a child that waits for work looks whether to stop
WORKER = "metadata_import.shares.shared_worker"


@dataclass(frozen=True, slots=True)
class Share:
    """What all processes of one run have in common; it has to travel to them."""

    driver: StorageDriver
    options: ImportOptions
    run_id: int
    token: uuid.UUID
    alias: str
    database: dict[str, Any]  # Django's parameters of the connection
    log_context: dict[str, Any]  # what every line is logged with


@dataclass(frozen=True, slots=True)
class _Ended:
    """A child's last word about one kind of items."""

    error: BaseException | None = None


class Pool:
    """Processes that import until the end of a `with` block, through all kinds of items.

    Whatever ends the block ends them: they finish the batch that they are writing. Those of a parent that was killed
    end by themselves.
    """

    def __init__(self, share: Share, *, count: int) -> None:
        context = get_context("spawn")
        self._queue: Queue[str | None] = context.Queue()
        self._stop = context.Event()
        self._children: dict[Connection, SpawnProcess] = {}
        for _ in range(count):
            ours, theirs = context.Pipe()
            child = context.Process(target=_run, args=(share, self._queue, self._stop, theirs), daemon=True)
            child.start()
            theirs.close()
            self._children[ours] = child

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._queue.cancel_join_thread()
        self._queue.close()
        for ours, child in self._children.items():
            ours.close()
            _end(child)

    def work(self, kind: ImportKind, names: Sequence[str], *, on_written: "Callable[[Increment], None]") -> None:
        """Import these items; return when all are done. Raises the first error of any process."""
        for name in (*names, *[None] * len(self._children)):
            self._queue.put(name)
        for ours in self._children:
            with suppress(BrokenPipeError):  # a dead one is noticed below
                ours.send(kind)
        busy = set(self._children)
        while busy:
            for ready in wait(list(busy)):
                if isinstance(ready, Connection) and self._hear(ready, on_written):
                    busy.discard(ready)

    def _hear(self, ours: Connection, on_written: "Callable[[Increment], None]") -> bool:
        """Take one message; True says that the sender is done."""
        try:
            said = ours.recv()
        except (EOFError, ConnectionResetError):
            self._children[ours].join()
            raise WorkerDiedError(f"exit code {self._children[ours].exitcode}") from None
        if not isinstance(said, _Ended):
            on_written(said)
            return False
        if said.error is not None:
            raise said.error
        return True


def _end(child: SpawnProcess) -> None:
    child.join(STOP_SECONDS)
    if child.is_alive():
        child.terminate()
        child.join()


# --- In the child -------------------------------------------------------------------------------------------------


class _StoppedError(Exception):
    """Ends a child between two batches."""


def _run(share: Share, queue: "Queue[str | None]", stop: "Event", ours: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which stops us in good order
    threading.Thread(target=_end_with_parent, name="import-parent", daemon=True).start()

    def tell(increment: "Increment") -> None:
        if stop.is_set():
            raise _StoppedError
        ours.send(increment)

    with suppress(_StoppedError, EOFError, OSError):  # the parent has let go of us
        django.setup()
        bind_contextvars(**share.log_context)
        with import_string(WORKER)(share, on_written=tell) as worker:
            while True:
                kind = ours.recv()
                ours.send(_Ended(_error_of(worker, kind, _take(queue, stop))))


def _error_of(worker: Any, kind: ImportKind, names: Iterator[str]) -> BaseException | None:
    try:
        worker.work(kind, names)
    except _StoppedError:
        raise
    except Exception as error:  # travels to the parent
        return error
    return None


def _take(queue: "Queue[str | None]", stop: "Event") -> Iterator[str]:
    while not stop.is_set():
        with suppress(Empty):  # what was put there may be lost with a parent that has given up
            name = queue.get(timeout=LOOK_SECONDS)
            if name is None:
                return
            yield name


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
