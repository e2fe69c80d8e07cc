"""Work ahead of whoever consumes it, within bounds: a map over a thread pool, and batches gathered by a thread."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

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
    executor: Executor,
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    *,
    pace: Pace,
    weigh: Callable[[_In], int] = lambda _: 0,
    limit: float = math.inf,
) -> Iterator[_Out]:
    """Yield function(item) for each item, in order, with no more of them begun than the pace allows.

    Nor is a third one begun while those that are weigh more than the limit: so the first are done first.
    One at a time is worked out by whoever consumes, without a thread.
    """
    begun: deque[tuple[Future[_Out], int]] = deque()
    weight = 0
    for item in items:
        if pace.items == 1 and not begun:
            yield pace.take(partial(function, item))
            continue
        begun.append((executor.submit(function, item), weigh(item)))
        weight += begun[-1][1]
        while len(begun) >= pace.items or (len(begun) > 1 and weight > limit):
            future, freed = begun.popleft()
            weight -= freed
            yield pace.take(future.result)
    while begun:
        yield pace.take(begun.popleft()[0].result)


class Batches(Iterator[list[_Out]]):
    """Runs an iterator in a thread of its own and gives out, as a batch, what has come of it meanwhile.

    A batch that weighs less than `limit` is given `seconds` after the one before; one that is heavier stops the thread.
    An exception of the iterator is raised to the consumer after all that came before it. After close() the thread has
    ended.
    """

    def __init__(self, items: Iterable[_Out], *, weigh: Callable[[_Out], float], limit: float, seconds: float) -> None:
        self._items, self._weigh, self._limit, self._seconds = items, weigh, limit, seconds
        self._batch: list[_Out] = []
        self._weight, self._given = 0.0, time.monotonic()
        self._end: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="import-prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> list[_Out]:
        with self._changed:
            self._changed.wait_for(lambda: self._batch or self._end)
            if not self._batch and self._end:
                raise self._end
            left = self._given + self._seconds - time.monotonic()
            self._changed.wait_for(lambda: self._is_full() or self._end, timeout=max(0.0, left))
            batch, self._batch, self._weight, self._given = self._batch, [], 0.0, time.monotonic()
            self._changed.notify_all()
            return batch

    def close(self) -> None:
        """Stop the thread and wait for it."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _is_full(self) -> bool:
        return self._weight >= self._limit

    def _run(self) -> None:
        end: BaseException = StopIteration()
        try:
            for item in self._items:
                if not self._add(item):
                    return
        except BaseException as error:  # handed over to the consumer
            end = error
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def _add(self, item: _Out) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._is_full())
            self._batch.append(item)
            self._weight += self._weigh(item)
            self._changed.notify_all()
            return not self._stopped
