"""What a worker is given next: which migration, which batch, when, and how many at once."""

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from background_migrations.jobs import Outcome
from background_migrations.status import Status
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import fall_silent, hand
from tests.background_migrations.competitors import BOUNDS, EVENTS, NULLS, OVER_NULLS, add_second_table, equip, names_of
from tests.background_migrations.conftest import increment

LONG_AGO = """
    UPDATE registry_admin.background_migration_job_progress SET ended_at = ended_at - interval '1 hour'
"""


@pytest.fixture
def bench(quick_bench):
    return equip(quick_bench)


@pytest.fixture
def two_tables(bench):
    return add_second_table(bench)


# --- Which migration --------------------------------------------------------------------------------------------------


def test_running_migrations_come_before_active_ones_and_each_by_its_id(two_tables):
    far = {"table": "far.counters"}
    for name, values in {"first": {}, "second": far, "third": {"status": 4, **far}, "fourth": {"status": 4}}.items():
        two_tables.queue(name, **values)
    two_tables.connection.execute(
        "INSERT INTO registry_admin.background_migration_controls (background_migration_id, shares_table)"
        " SELECT id, true FROM batched_background_migrations"
    )
    with hand(two_tables) as one:
        assert names_of(one.claim() for _ in range(4)) == ["third", "fourth", "first", "second"]


@pytest.mark.parametrize("status", [Status.PAUSED, Status.FINISHED, Status.FAILED])
def test_only_active_and_running_migrations_are_taken_up(bench, status):
    bench.fill(10)
    bench.queue(status=int(status))
    with hand(bench) as worker:
        idle = worker.idle()
    assert (idle.wait_seconds, idle.reasons) == (None, {})
    assert bench.status() == status


def test_the_first_claim_makes_a_migration_running_with_an_estimate_and_a_start(bench):
    bench.fill(1_000)
    bench.queue(min_value=101)
    with hand(bench) as worker:
        worker.claim()
    query = "SELECT status, total_tuple_count, started_at IS NOT NULL FROM batched_background_migrations"
    assert bench.rows(query) == [(Status.RUNNING, 900, True)]
    assert bench.rows(EVENTS) == [("status", "a worker took it up")]


def test_a_migration_without_rows_has_one_job_over_all_of_its_range_and_is_finished(bench):
    bench.queue(max_value=500)
    with hand(bench) as worker:
        assert worker.work_off() == [Outcome.FINISHED]
    assert bench.rows(BOUNDS) == [(1, 500)]
    assert bench.status() == Status.FINISHED


def test_lowering_the_end_of_a_running_migration_finishes_it(bench):
    bench.fill(1_000)
    bench.queue()
    with hand(bench) as worker:
        worker.execute()
        bench.connection.execute("UPDATE batched_background_migrations SET max_value = 50")
        assert worker.work_off() == []
    assert bench.status() == Status.FINISHED


# --- Which batch ------------------------------------------------------------------------------------------------------


def test_batches_follow_one_another_without_gap_and_the_last_one_reaches_to_the_end(bench):
    bench.fill(250)
    bench.queue()
    with hand(bench) as worker:
        worker.work_off()
    assert bench.rows(BOUNDS) == [(1, 100), (101, 200), (201, 2**63 - 1)]
    assert bench.hits() == {1: 250}


def test_batches_are_cut_by_rows_and_not_by_values(bench):
    bench.connection.execute("INSERT INTO counters SELECT n * n FROM generate_series(1, 30) AS n")
    bench.queue(batch_size=10, max_value=900)
    with hand(bench) as worker:
        worker.work_off()
    assert bench.rows(BOUNDS) == [(1, 100), (101, 400), (401, 900)]


@pytest.mark.parametrize(
    ("control", "migration", "function", "expected"),
    [(None, 0, 0, 0), (None, 0, 30, 30), (None, 20, 30, 20), (10, 20, 30, 10), (0, 20, 30, 0), (100, 0, 30, 0)],
)
def test_sub_batches_are_sized_by_control_or_migration_or_function(bench, control, migration, function, expected):
    bench.fill(100)
    bench.functions["increment"] = WorkFunction(run=increment, sub_batch_size=function)
    bench.connection.execute("ALTER TABLE batched_background_migrations ADD COLUMN IF NOT EXISTS sub_batch_size int")
    try:
        migration_id = bench.queue()
        bench.connection.execute("UPDATE batched_background_migrations SET sub_batch_size = %s", (migration,))
        bench.control(migration_id, sub_batch_size=control)
        with hand(bench) as worker:
            assert worker.claim().piece.sub_batch_size == expected
    finally:
        bench.connection.execute("ALTER TABLE batched_background_migrations DROP COLUMN sub_batch_size")


def sizes(bench):
    return [
        size for (size,) in bench.rows("SELECT size FROM registry_admin.background_migration_job_progress ORDER BY id")
    ]


def test_an_adaptive_batch_grows_by_a_fifth_while_jobs_are_quicker_than_their_target(bench):
    bench.fill(10_000)
    bench.control(bench.queue(), adaptive=True, max_batch_size=150)
    with hand(bench) as worker:
        for _ in range(4):
            worker.execute()
    assert sizes(bench) == [100, 120, 144, 150]


def test_an_adaptive_batch_shrinks_at_once_when_jobs_are_too_slow(bench):
    bench.fill(1_000)
    bench.control(bench.queue(), adaptive=True, target_seconds=2.0, min_batch_size=7)
    with hand(bench) as worker:
        worker.execute()
        bench.connection.execute("UPDATE registry_admin.background_migration_job_progress SET seconds = 20")
        worker.execute()
        bench.connection.execute("UPDATE registry_admin.background_migration_job_progress SET seconds = 2000")
        worker.claim()
    assert sizes(bench) == [100, 10, 7]


def test_without_the_control_a_batch_keeps_its_size(bench):
    bench.fill(1_000)
    bench.queue()
    with hand(bench) as worker:
        worker.work_off()
    assert set(sizes(bench)) == {100}


# --- When -------------------------------------------------------------------------------------------------------------


def test_jobs_of_one_migration_keep_their_interval_and_other_migrations_need_not_wait(two_tables):
    two_tables.queue(batch_size=10)
    two_tables.queue("other", table="far.counters", batch_size=10)
    with hand(two_tables, interval=100.0) as worker:
        first = worker.claim()
        worker.execute(first)
        second = worker.claim()
        worker.execute(second)
        assert names_of([first, second]) == ["count", "other"]
        idle = worker.idle()
        assert 90 < idle.wait_seconds <= 100
        assert set(idle.reasons) == {"count", "other"}
        two_tables.connection.execute(LONG_AGO)
        assert names_of([worker.claim()]) == ["count"]


@pytest.mark.parametrize(
    ("control", "function", "longest"), [(None, None, 100.0), (None, 50.0, 50.0), (20.0, 50.0, 20.0)]
)
def test_a_control_beats_the_function_s_interval_and_that_the_rules(bench, control, function, longest):
    bench.fill(30)
    bench.functions["increment"] = WorkFunction(run=increment, interval_seconds=function)
    bench.control(bench.queue(batch_size=10), interval_seconds=control)
    with hand(bench, interval=100.0) as worker:
        worker.execute()
        assert longest - 10 < worker.idle().wait_seconds <= longest


def test_a_failed_attempt_keeps_the_interval_too_and_what_was_given_back_does_not(bench):
    bench.fill(30)
    bench.queue(function="broken", batch_size=10)
    with hand(bench, interval=100.0) as worker:
        worker.execute()
        assert 90 < worker.idle().wait_seconds <= 100
        bench.connection.execute(LONG_AGO)
        worker.stops = True
        assert worker.execute() is Outcome.RELEASED
        worker.claim()


def test_without_pace_there_is_no_interval(bench):
    bench.fill(30)
    bench.queue(batch_size=10)
    with hand(bench, interval=100.0, paced=False) as worker:
        assert worker.work_off() == [Outcome.FINISHED] * 3


def test_a_migration_on_hold_waits_for_its_time_and_nobody_waits_for_it(bench):
    bench.fill(10)
    now = datetime.datetime.now(tz=datetime.UTC)
    migration_id = bench.queue()
    bench.control(migration_id, hold_until=now + datetime.timedelta(hours=1))
    with hand(bench) as worker:
        idle = worker.idle()
        assert 3_500 < idle.wait_seconds <= 3_600
        assert (idle.lasting, idle.reasons) == (True, {"count": "it is on hold"})
        assert bench.status() == Status.ACTIVE
        bench.control(migration_id, hold_until=now - datetime.timedelta(seconds=1))
        worker.claim()


def test_a_hold_stops_a_migration_that_is_running_already_but_not_one_that_is_run_by_hand(bench):
    bench.fill(30)
    migration_id = bench.queue(batch_size=10)
    with hand(bench) as worker, hand(bench, paced=False) as by_hand:
        worker.execute()
        bench.control(migration_id, hold_until=datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(hours=1))
        worker.idle()
        by_hand.claim()


# --- How many at once -------------------------------------------------------------------------------------------------


def test_one_job_of_a_migration_runs_at_a_time_unless_a_control_allows_more(bench):
    bench.fill(100)
    migration_id = bench.queue(batch_size=10)
    with hand(bench) as one, hand(bench) as two, hand(bench) as three:
        one.claim()
        assert "as many jobs as may run" in two.idle().reasons["count"]
        bench.control(migration_id, max_parallel_jobs=2)
        two.claim()
        assert "as many jobs as may run" in three.idle().reasons["count"]
    assert bench.rows(BOUNDS) == [(1, 10), (11, 20)]


def test_jobs_by_the_null_strategy_run_side_by_side_too(bench):
    bench.connection.execute(NULLS)
    bench.control(bench.queue(**OVER_NULLS), max_parallel_jobs=2)
    with hand(bench) as one, hand(bench) as two:
        first, second = one.claim(), two.claim()
        assert [one.execute(first), two.execute(second)] == [Outcome.FINISHED] * 2
        assert bench.one("SELECT count(*) FROM far.nulls WHERE value IS NULL") == 2
        one.work_off()
    assert bench.status() == Status.FINISHED


def test_claims_at_the_same_moment_never_overlap(bench):
    bench.fill(160)
    bench.control(bench.queue(batch_size=10, max_value=160), max_parallel_jobs=8)
    barrier = threading.Barrier(8)

    def claim():
        with hand(bench) as worker:
            barrier.wait(timeout=60)
            return worker.claim()

    with ThreadPoolExecutor(8) as pool:
        pieces = [claim.result(timeout=60).piece for claim in [pool.submit(claim) for _ in range(8)]]
    assert sorted((piece.next_value, piece.max_value) for piece in pieces) == [
        (start, start + 9) for start in range(1, 81, 10)
    ]


def test_of_many_at_the_same_moment_one_gets_the_only_place(bench):
    bench.fill(100)
    bench.queue(batch_size=10)
    barrier = threading.Barrier(6)

    def look():
        with hand(bench) as worker:
            barrier.wait(timeout=60)
            return worker.look()

    with ThreadPoolExecutor(6) as pool:
        found = [each.result(timeout=60) for each in [pool.submit(look) for _ in range(6)]]
    assert sum(hasattr(each, "token") for each in found) == 1
    assert bench.rows(BOUNDS) == [(1, 10)]


def test_two_migrations_never_work_on_the_same_table_unless_a_control_says_so(bench):
    bench.fill(30)
    bench.queue("first", batch_size=10)
    second = bench.queue("second", batch_size=10)
    with hand(bench) as one, hand(bench) as two:
        claim = one.claim()
        assert two.idle().reasons["second"] == "first works on the same table"
        bench.control(second, shares_table=True)
        assert names_of([two.claim()]) == ["second"]
        one.execute(claim)
        assert one.idle().reasons["first"] == "second works on the same table"


def test_whoever_ended_does_not_hold_the_table(bench):
    bench.fill(30)
    bench.queue("first", batch_size=10)
    bench.queue("second", batch_size=10)
    with hand(bench, interval=100.0) as one:
        one.execute()
        assert names_of([one.claim()]) == ["second"]


def test_whoever_vanished_does_not_hold_the_table_for_ever(bench):
    bench.fill(30)
    bench.queue("first", batch_size=10)
    bench.control(bench.queue("second", batch_size=10), batch_size=5)
    with hand(bench) as gone, hand(bench) as other:
        gone.claim()
        fall_silent(bench)
        bench.connection.execute("UPDATE batched_background_migrations SET status = 0 WHERE name = 'first'")
        assert names_of([other.claim()]) == ["second"]
