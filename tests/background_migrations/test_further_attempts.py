"""Jobs that failed, or whose worker vanished: when they are tried again, and when no more."""

import pytest

from background_migrations.jobs import Outcome
from background_migrations.pacing import JITTER, RETRY_FIRST_SECONDS
from background_migrations.status import FailureErrorCode, Status
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import broken, fall_silent, hand

BOUNDS = "SELECT min_value, max_value FROM batched_background_migration_jobs ORDER BY id"
JOBS = "SELECT status, attempts, failure_error_code FROM batched_background_migration_jobs ORDER BY id"
EVENTS = "SELECT kind, reason FROM registry_admin.background_migration_events ORDER BY id"
FAILURE = "SELECT failure_error_code FROM batched_background_migrations WHERE name = %s"
FILL_NULLS = """
    UPDATE far.nulls SET value = id
    WHERE id IN (SELECT id FROM far.nulls WHERE value IS NULL ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
"""


def fill_nulls(cursor, batch, context) -> int:
    return cursor.execute(FILL_NULLS, (batch.size,)).rowcount


@pytest.fixture
def bench(quick_bench):
    quick_bench.functions |= {"broken": WorkFunction(run=broken), "fill": WorkFunction(run=fill_nulls)}
    return quick_bench


def test_a_failed_job_waits_longer_after_each_attempt_and_new_batches_go_first(bench):
    bench.fill(30)
    bench.queue(function="broken", batch_size=10)
    pauses = """
        SELECT attempts, extract(epoch FROM retry_at - ended_at)::float8
        FROM registry_admin.background_migration_job_progress ORDER BY id LIMIT 1
    """
    with hand(bench) as worker:
        for attempt in (1, 2, 3):
            assert worker.execute() is Outcome.FAILED
            ((attempts, seconds),) = bench.rows(pauses)
            wanted = RETRY_FIRST_SECONDS * 2 ** (attempt - 1)
            assert attempts == attempt
            assert wanted * (1 - JITTER) - 0.01 <= seconds <= wanted * (1 + JITTER) + 0.01
            bench.connection.execute(
                "UPDATE registry_admin.background_migration_job_progress SET retry_at = clock_timestamp()"
            )
        bench.connection.execute(
            "UPDATE registry_admin.background_migration_job_progress SET retry_at = clock_timestamp() + interval '1 h'"
        )
        claims = [worker.claim().piece]
    assert [(piece.next_value, piece.attempts) for piece in claims] == [(11, 1)]


def test_a_failed_job_whose_time_has_come_goes_before_the_next_batch(bench):
    bench.fill(30)
    bench.queue(function="broken", batch_size=10)
    with hand(bench) as worker:
        worker.execute()
        bench.connection.execute("UPDATE registry_admin.background_migration_job_progress SET retry_at = now()")
        assert worker.claim().piece.attempts == 2
    assert bench.rows(BOUNDS) == [(1, 10)]


def test_until_the_next_attempt_the_migration_waits_and_does_not_end(bench):
    bench.fill(10)
    bench.queue(function="broken")
    with hand(bench) as worker:
        worker.execute()
        idle = worker.idle()
    assert 1 <= idle.wait_seconds <= RETRY_FIRST_SECONDS * (1 + JITTER)
    assert bench.status() == Status.RUNNING


def test_a_claim_without_a_sign_of_life_is_taken_over_and_told(bench):
    bench.fill(10)
    bench.queue()
    with hand(bench, "the old one") as gone, hand(bench, "the new one") as other:
        job_id = gone.claim().piece.job_id
        assert other.idle().reasons["count"].startswith("its last jobs are being worked on")
        fall_silent(bench)
        claim = other.claim()
    assert (claim.piece.job_id, claim.piece.attempts, claim.piece.abandoned) == (job_id, 2, True)
    assert bench.rows(EVENTS)[-1] == ("job_abandoned", "worker the old one showed no sign of life any more")


def test_a_job_that_took_its_last_worker_with_it_is_set_aside(bench):
    bench.fill(20)
    bench.queue(batch_size=10)
    for _ in range(2):
        with hand(bench, "brave", max_attempts=2) as gone:
            gone.claim()
        fall_silent(bench)
    with hand(bench, max_attempts=2) as worker:
        assert worker.work_off() == [Outcome.FINISHED]
    assert bench.rows(JOBS) == [(Status.FAILED, 2, 0), (Status.FINISHED, 1, None)]
    assert bench.hits() == {0: 10, 1: 10}
    assert bench.status() == Status.FAILED
    assert bench.rows(EVENTS)[-2:] == [
        ("job_set_aside", "worker brave showed no sign of life any more in attempt 2, the last one"),
        ("status", "1 of its jobs had their last attempt and nothing else is left"),
    ]


def test_an_attempt_after_one_that_got_something_done_is_not_counted(bench):
    bench.fill(30)
    bench.control(bench.queue(), sub_batch_size=10)
    with hand(bench, max_attempts=1) as gone, hand(bench, max_attempts=1) as other:

        def vanish():
            raise KeyboardInterrupt

        gone.after_sub_batch = vanish
        with pytest.raises(KeyboardInterrupt):
            gone.execute()
        fall_silent(bench)
        claim = other.claim()
        assert (claim.piece.next_value, claim.piece.attempts) == (11, 1)
        assert other.execute(claim) is Outcome.FINISHED
    assert bench.hits() == {1: 30}


def test_when_only_exhausted_jobs_are_left_the_migration_fails_with_max_job_retry(bench):
    bench.fill(30)
    bench.queue(function="broken", batch_size=10)
    with hand(bench, max_attempts=2) as worker:
        assert worker.work_off() == [Outcome.FAILED] * 6
    assert bench.status() == Status.FAILED
    assert bench.one(FAILURE, "count") == FailureErrorCode.MAX_JOB_RETRY
    assert bench.rows(EVENTS)[-1] == ("status", "3 of its jobs had their last attempt and nothing else is left")


def test_jobs_that_gitlab_s_worker_left_unfinished_are_done_once_nothing_else_is_left(bench):
    bench.fill(30)
    migration_id = bench.queue(batch_size=10, max_value=30)
    bench.connection.cursor().executemany(
        """
        INSERT INTO batched_background_migration_jobs
            (batched_background_migration_id, min_value, max_value, status, failure_error_code, attempts)
        VALUES (%s, %s, %s, %s, %s, %s)
        """,
        [(migration_id, 1, 10, 3, 0, 2), (migration_id, 11, 20, 1, None, 0)],
    )
    with hand(bench) as worker:
        assert worker.work_off() == [Outcome.FINISHED] * 3
    assert bench.rows(BOUNDS) == [(1, 10), (11, 20), (21, 30)]
    assert bench.hits() == {1: 30}
    assert [row[0] for row in bench.rows(JOBS)] == [Status.FINISHED] * 3


def test_on_gitlab_s_database_an_unfinished_job_is_stored_as_failed(bench):
    bench.fill(10)
    bench.queue()
    with hand(bench, unfinished=Status.FAILED) as worker:
        claim = worker.claim()
        assert bench.rows(JOBS) == [(Status.FAILED, 1, None)]
        worker.execute(claim)
    assert bench.rows(JOBS) == [(Status.FINISHED, 1, None)]
