"""Working ahead keeps order, bounds and errors."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import pytest

from metadata_import.prefetch import Pace, Prefetcher, map_ahead


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


def test_a_prefetcher_yields_everything_then_the_error():
    def items():
        yield 1
        raise ValueError("broken")

    prefetcher = Prefetcher(items(), limit=2)
    assert next(prefetcher) == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            next(prefetcher)
    prefetcher.close()


def test_a_prefetcher_that_nobody_drains_can_be_closed():
    prefetcher = Prefetcher(count(), limit=2)
    assert next(prefetcher) == 0
    prefetcher.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "import-prefetch"]
