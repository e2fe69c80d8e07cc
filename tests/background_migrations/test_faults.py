"""Workers whose connections end at any moment: every row is done once, and nobody has to help."""

import random
import threading

import pytest

from background_migrations import pacing, presence, sessions
from background_migrations.jobs import Outcome
from background_migrations.status import Status
from tests.proxy import Fault
from tests.waiting import until

ROWS = 240
WORK = b"SET hits = hits + 1"


@pytest.fixture
def bench(quick_bench, monkeypatch):
    monkeypatch.setattr(pacing, "IDLE_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(pacing, "IDLE_LONGEST_SECONDS", 0.1)
    monkeypatch.setattr(pacing, "RETRY_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(presence, "RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr(sessions, "PREPARE_THRESHOLD", None)  # a prepared statement is never spelt out again
    quick_bench.fill(ROWS)
    return quick_bench


@pytest.fixture
def work(bench, through):
    """Run a worker to the end of the migration, on connections through the proxy; `meanwhile` is called until then."""

    def work(meanwhile=lambda: None, **values):
        migration_id = bench.queue(batch_size=20, max_value=ROWS)
        bench.control(migration_id, sub_batch_size=5, max_parallel_jobs=2)
        far = through(bench.database)
        worker = bench.worker(
            connect={"registry": far.connect},
            rules=bench.rules(grace=1.0, max_attempts=100),
            once=False,
            concurrency=2,
            **values,
        )
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            until(lambda: (meanwhile(), bench.status() == Status.FINISHED)[1], seconds=120)
        finally:
            worker.stop()
            thread.join()
        return worker

    return work


@pytest.mark.parametrize(
    ("words", "plan"),
    [
        (WORK, {"fault": Fault.RESET}),
        (WORK, {"fault": Fault.CUT, "loses_answer": True}),
        (b"COMMIT", {"fault": Fault.CUT}),
        (b"COMMIT", {"fault": Fault.RESET, "loses_answer": True}),
    ],
)
def test_a_connection_that_ends_at_the_worst_moment_costs_no_row_and_repeats_none(bench, proxy, work, words, plan):
    for skip in (0, 7, 11):
        proxy.fail_at(words, skip=skip, **plan)
    work()
    assert proxy.struck == 3
    assert bench.hits() == {1: ROWS}


def test_connections_that_end_at_random_cost_no_row_and_repeat_none(bench, proxy, work):
    chance = random.Random(8)
    ended = []

    def disturb():
        if len(ended) < 20 and chance.random() < 0.5:
            proxy.end_all(chance.choice(list(Fault)))
            ended.append(True)

    proxy.delay_seconds = 0.002  # so that something is always under way
    work(disturb)
    assert len(ended) > 3
    assert bench.hits() == {1: ROWS}


def test_while_the_server_is_away_a_worker_waits_and_then_goes_on(bench, proxy, work):
    proxy.is_away = True
    refused = iter(range(40))

    def come_back():
        if next(refused, None) is None:
            proxy.is_away = False

    worker = work(come_back)
    assert worker.counts[Outcome.FINISHED] == ROWS / 20
    assert bench.hits() == {1: ROWS}
