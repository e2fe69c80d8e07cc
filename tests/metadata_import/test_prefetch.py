"""Working ahead keeps order, bounds and errors."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import pytest

from metadata_import.prefetch import Batches, Pace, map_ahead


def pace_of(*, busy: float, items: int = 4) -> Pace:
    """A pace in a process that is so busy, each time that it is looked at."""
    beats, processor = count(), count(0, busy)
    pace = Pace(8, clock=beats.__next__, processor=processor.__next__)
    pace.items = items
    return pace


@pytest.mark.parametrize("busy", [0, 0.7, 1])
def test_results_keep_the_order_of_the_items(busy):
    with ThreadPoolExecutor(4) as pool:
        found = map_ahead(pool, lambda item: item * 2, range(100), pace=pace_of(busy=busy))
        assert list(found) == list(range(0, 200, 2))


def test_no_more_items_than_the_pace_are_taken_ahead():
    taken = []

    def items():
        for number in count():
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        assert list(islice(map_ahead(pool, str, items(), pace=pace_of(busy=0.7)), 3)) == ["0", "1", "2"]
    assert len(taken) == 6


@pytest.mark.parametrize(
    ("busy", "items", "then"),
    [
        (0, 1, [2, 4, 8, 8]),
        (0.5, 1, [2, 4, 8, 8]),
        (0.7, 4, [4, 4, 4, 4]),
        (0.9, 8, [4, 2, 1, 1]),
        (2, 8, [4, 2, 1, 1]),
    ],
)
def test_a_pace_quickens_while_items_are_waited_for_and_slows_down_while_the_process_computes(busy, items, then):
    pace = pace_of(busy=busy, items=items)
    assert [pace.take(lambda: pace.items) and pace.items for _ in range(4)] == then


def test_a_pace_never_goes_below_its_least():
    pace = Pace(8, least=4, clock=count().__next__, processor=count().__next__)
    assert [pace.take(lambda: pace.items) and pace.items for _ in range(2)] == [4, 4]


def test_as_many_items_are_worked_on_at_once_as_the_pace_allows():
    together = threading.Barrier(8, timeout=60)
    with ThreadPoolExecutor(8) as pool:
        found = map_ahead(pool, lambda _: together.wait(), range(16), pace=pace_of(busy=0.7, items=8))
        assert sorted(found) == sorted([*range(8), *range(8)])


def test_heavy_items_wait_for_the_ones_before_all_but_the_next_one():
    begun = []

    def weigh(item: int) -> int:
        begun.append(item)
        return item

    with ThreadPoolExecutor(8) as pool:
        found = map_ahead(pool, str, [3, 3, 3, 9, 9, 1], pace=pace_of(busy=0.7, items=8), weigh=weigh, limit=6)
        assert (next(found), begun) == ("3", [3, 3, 3])
        assert (next(found), next(found), begun) == ("3", "3", [3, 3, 3, 9])
        assert (next(found), begun) == ("9", [3, 3, 3, 9, 9])
        assert list(found) == ["9", "1"]


def gather(items, *, limit=10.0, seconds=60.0) -> Batches:
    return Batches(items, weigh=float, limit=limit, seconds=seconds)


def test_batches_hold_everything_in_order_then_comes_the_error():
    def items():
        yield from range(5)
        raise ValueError("broken")

    batches = gather(items())
    assert next(batches) == [0, 1, 2, 3, 4]
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            next(batches)
    batches.close()


def test_a_batch_is_as_heavy_as_the_limit_and_nothing_is_read_beyond_it():
    taken = []

    def items():
        for number in count(1):
            taken.append(number)
            yield number

    batches = gather(items(), limit=6.0)
    assert next(batches) == [1, 2, 3]
    assert next(batches) == [4, 5]
    assert next(batches) == [6]
    batches.close()
    assert len(taken) <= 8


def test_a_batch_does_not_wait_for_what_is_slow_to_come():
    written = threading.Event()

    def items():
        yield 1
        yield 2
        written.wait(60)
        yield 3

    batches = gather(items(), seconds=0.5)
    assert next(batches) == [1, 2]
    written.set()
    assert list(batches) == [[3]]
    batches.close()


def test_batches_that_nobody_wants_can_be_closed():
    batches = gather(count())
    assert next(batches)[0] == 0
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "import-prefetch"]
