"""Working ahead keeps order, bounds and errors."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import pytest

from metadata_import.prefetch import Prefetcher, map_ahead


def test_results_keep_the_order_of_the_items():
    with ThreadPoolExecutor(4) as pool:
        assert list(map_ahead(pool, lambda item: item * 2, range(100), limit=8)) == list(range(0, 200, 2))


def test_no_more_items_than_the_limit_are_taken_ahead():
    taken = []

    def items():
        for number in count():
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        assert list(islice(map_ahead(pool, str, items(), limit=4), 3)) == ["0", "1", "2"]
    assert len(taken) == 6


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
