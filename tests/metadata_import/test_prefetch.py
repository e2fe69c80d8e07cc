"""Working ahead keeps order, bounds and errors."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import pytest

from metadata_import.prefetch import Pace, Prefetcher, map_ahead
from tests.waiting import until


def slow_pace() -> Pace:
    """A pace that has seen nothing but waiting."""
    pace = Pace(4)
    while pace.items < 4:
        pace.take(lambda: time.sleep(0.1))
    return pace


@pytest.mark.parametrize("pace", [Pace(4), slow_pace()], ids=["computing", "waiting"])
def test_results_keep_the_order_of_the_items(pace):
    with ThreadPoolExecutor(4) as pool:
        assert list(map_ahead(pool, lambda item: item * 2, range(100), pace=pace)) == list(range(0, 200, 2))


def test_no_more_items_than_the_pace_are_taken_ahead():
    taken = []

    def items():
        for number in count():
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        assert list(islice(map_ahead(pool, str, items(), pace=slow_pace()), 3)) == ["0", "1", "2"]
    assert len(taken) == 6


def test_a_pace_quickens_while_items_are_waited_for_and_never_passes_its_limit():
    at_work, most = [], []

    def wait(item: int) -> None:
        at_work.append(item)
        most.append(len(at_work))
        time.sleep(0.02)
        at_work.remove(item)

    with ThreadPoolExecutor(8) as pool:
        list(map_ahead(pool, wait, range(200), pace=Pace(8)))
    assert most[0] == 1
    assert max(most) == 8


def test_a_pace_slows_down_while_the_process_computes():
    pace = slow_pace()
    until(lambda: pace.take(lambda: sum(range(5_000_000))) and pace.items == 1)


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
