"""A worker whose claim is not its own any more writes nothing: whoever has it now is not disturbed."""

import pytest

from background_migrations.jobs import Outcome
from background_migrations.status import Status
from tests.background_migrations.by_hand import fall_silent, hand

PIECES = """
    SELECT min_value, max_value, next_value, attempts, claim IS NOT NULL, set_aside, finished_at IS NOT NULL
    FROM registry_admin.background_migration_job_progress ORDER BY min_value, id
"""
FAULTS = """
    SELECT kind, error_class, sqlstate, reason FROM registry_admin.background_migration_events
    WHERE job_id IS NOT NULL ORDER BY id
"""


@pytest.fixture
def bench(quick_bench):
    return quick_bench


def test_a_worker_whose_claim_was_taken_writes_nothing(bench):
    bench.fill(10)
    bench.queue()
    with hand(bench) as zombie, hand(bench) as other:
        old = zombie.claim()
        fall_silent(bench)
        new = other.claim()
        before = bench.rows(PIECES)
        assert zombie.execute(old) is Outcome.LOST
        assert (bench.hits(), bench.rows(PIECES)) == ({0: 10}, before)
        assert other.execute(new) is Outcome.FINISHED
        assert zombie.execute(old) is Outcome.LOST
    assert bench.hits() == {1: 10}


def test_so_is_one_that_had_got_on_though_its_successor_s_attempt_has_the_same_number(bench):
    bench.fill(30)
    bench.control(bench.queue(), sub_batch_size=10)
    with hand(bench) as zombie, hand(bench) as other:

        def be_taken_for_dead():
            fall_silent(bench)
            claims.append(other.claim())

        claims = [zombie.claim()]
        zombie.after_sub_batch = be_taken_for_dead
        assert zombie.execute(claims[0]) is Outcome.LOST
        old, new = claims
        assert (old.piece.attempts, new.piece.attempts, new.piece.next_value) == (1, 1, 11)
        assert bench.hits() == {1: 10, 0: 20}
        assert other.execute(new) is Outcome.FINISHED
    assert bench.hits() == {1: 30}


@pytest.mark.parametrize("ending", ["fail", "stop"])
def test_nor_does_its_failure_or_its_giving_back_disturb_the_successor(bench, ending):
    bench.fill(10)
    bench.queue()
    with hand(bench) as zombie, hand(bench) as other:
        job = zombie.job(zombie.claim())
        fall_silent(bench)
        new = other.claim()
        if ending == "fail":
            assert job.fail(ValueError("too late")) is Outcome.LOST
        else:
            zombie.stops = True
            assert job.execute() is Outcome.LOST
        assert [row[0] for row in bench.rows(FAULTS)] == ["job_abandoned"]
        assert other.execute(new) is Outcome.FINISHED


def test_a_claim_is_not_held_once_its_job_is_finished_by_somebody_else(bench):
    bench.fill(10)
    bench.queue()
    with hand(bench) as worker:
        claim = worker.claim()
        bench.connection.execute("UPDATE batched_background_migration_jobs SET status = 2")
        assert worker.execute(claim) is Outcome.LOST
    assert bench.hits() == {0: 10}


def test_a_claim_is_not_held_once_somebody_else_raised_its_job_s_attempts(bench):
    bench.fill(10)
    bench.queue()
    with hand(bench) as worker:
        claim = worker.claim()
        bench.connection.execute("UPDATE batched_background_migration_jobs SET attempts = attempts + 1")
        assert worker.execute(claim) is Outcome.LOST
    assert bench.hits() == {0: 10}


def test_a_migration_that_is_deleted_meanwhile_ends_its_jobs_quietly(bench):
    bench.fill(30)
    bench.control(bench.queue(), sub_batch_size=10)
    bench.queue("other")
    with hand(bench) as worker:
        worker.after_sub_batch = lambda: bench.connection.execute(
            "DELETE FROM batched_background_migrations WHERE name = 'count'"
        )
        assert worker.execute() is Outcome.LOST
        assert bench.hits() == {1: 10, 0: 20}
        worker.after_sub_batch = lambda: None
        assert worker.work_off() == [Outcome.FINISHED]
    assert bench.status("other") == Status.FINISHED
