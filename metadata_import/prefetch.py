"""Work ahead of whoever consumes it, within bounds: a map over a thread pool, and an iterator run by a thread."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_STOP_POLL_SECONDS = 0.2
_WINDOW_SECONDS = 0.05  # of waiting, between two looks at the pace
_BUSY, _IDLE = 0.8, 0.6  # processor seconds in a second of waiting


class Pace:
    """How many items are worked on at once: more, up to `limit`, while the process waits for them; fewer while it
    computes.

    Threads take turns at the interpreter's lock. Where a storage answers at once they do nothing but that: one thread
    walks the blobs of a local tree in half the time of eight. There are never fewer than `least`.
    """

    def __init__(
        self,
        limit: int,
        *,
        least: int = 1,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self._limit, self._least = limit, least
        self._clock, self._processor = clock, processor
        self._waited = self._computed = 0.0
        self.items = least

    def take(self, result: Callable[[], _Out]) -> _Out:
        """Return the result that is waited for, or worked out, here."""
        began, computed = self._clock(), self._processor()
        try:
            return result()
        finally:
            self._waited += self._clock() - began
            self._computed += self._processor() - computed
            if self._waited >= _WINDOW_SECONDS:
                self._adapt()

    def _adapt(self) -> None:
        busy = self._computed / self._waited
        if busy > _BUSY:
            self.items = max(self._least, self.items // 2)
        elif busy < _IDLE:
            self.items = min(self._limit, self.items * 2)
        self._waited = self._computed = 0.0


def map_ahead(
    executor: Executor, function: Callable[[_In], _Out], items: Iterable[_In], *, pace: Pace
) -> Iterator[_Out]:
    """Yield function(item) for each item, in order, with no more of them begun than the pace allows.

    One at a time is worked out by whoever consumes, without a thread.
    """
    begun: deque[Future[_Out]] = deque()
    for item in items:
        if pace.items == 1 and not begun:
            yield pace.take(partial(function, item))
            continue
        begun.append(executor.submit(function, item))
        while len(begun) >= pace.items:
            yield pace.take(begun.popleft().result)
    while begun:
        yield pace.take(begun.popleft().result)


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
