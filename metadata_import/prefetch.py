"""Work ahead of whoever consumes it, within bounds: a map over a thread pool, and an iterator run by a thread."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_STOP_POLL_SECONDS = 0.2


def map_ahead(
    executor: Executor, function: Callable[[_In], _Out], items: Iterable[_In], *, limit: int
) -> Iterator[_Out]:
    """Yield function(item) for each item, in order, with at most `limit` of them begun or waiting to be taken."""
    begun: deque[Future[_Out]] = deque()
    for item in items:
        begun.append(executor.submit(function, item))
        if len(begun) >= limit:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


@dataclass(frozen=True, slots=True)
class _End:
    """Comes after the last item: how the iterator ended."""

    error: BaseException


class Prefetcher(Iterator[_Out]):
    """Runs an iterator in a thread of its own, at most `limit` items ahead.

    An exception of the iterator is raised to the consumer in its place. After close() the thread has ended.
    """

    def __init__(self, items: Iterable[_Out], *, limit: int) -> None:
        self._items = items
        self._ready: queue.Queue[_Out | _End] = queue.Queue(limit)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="import-prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> _Out:
        item = self._ready.get()
        if isinstance(item, _End):
            self._ready.put(item)  # a second call ends the same way
            raise item.error
        return item

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        end = _End(StopIteration())
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # handed over to the consumer
            end = _End(error)
        self._put(end)

    def _put(self, item: _Out | _End) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._ready.put(item, timeout=_STOP_POLL_SECONDS)
                return True
        return False
