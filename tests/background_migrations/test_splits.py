"""Jobs that take too long are cut in two, again and again, until what is left is one slow row."""

import pytest

from background_migrations.status import Status
from tests.background_migrations.by_hand import hand
from tests.background_migrations.conftest import increment
from tests.background_migrations.scenes import (
    FAULTS,
    FILL_NULLS,
    JOBS,
    NULLS,
    OVER_NULLS,
    PIECES,
    SLOW,
    failing_at,
    uses,
)


@pytest.fixture
def bench(quick_bench):
    return quick_bench


def sleeping_at(*slow):
    """Increment, and sleep where a row is slow."""

    def work(cursor, batch, context):
        rows = increment(cursor, batch, context)
        if any(batch.min_value <= row <= batch.max_value for row in slow):
            cursor.execute("SELECT pg_sleep(60)")
        return rows

    return work


def test_time_outs_split_a_job_down_to_the_one_slow_row(bench):
    bench.fill(16)
    bench.control(bench.queue(batch_size=8, max_value=16), job_timeout_seconds=SLOW)
    uses(bench, sleeping_at(6))
    with hand(bench, max_attempts=1) as worker:
        worker.work_off()
    assert bench.rows("SELECT id FROM counters WHERE hits <> 1") == [(6,)]
    assert {row[2] for row in bench.rows(FAULTS)} == {"57014"}
    assert [row[0] for row in bench.rows(FAULTS)] == ["job_split"] * 3 + ["job_set_aside"]
    assert [piece[:2] for piece in bench.rows(PIECES) if piece[5]] == [(6, 6)]
    assert [row[:3] for row in bench.rows(JOBS)] == [(1, 8, Status.FAILED), (9, 16, Status.FINISHED)]
    assert bench.status() == Status.FAILED


def test_halves_are_jobs_of_ours_and_never_rows_of_gitlab_s_table(bench):
    bench.fill(16)
    bench.control(bench.queue(batch_size=16, max_value=16), job_timeout_seconds=SLOW)
    uses(bench, sleeping_at(3))
    with hand(bench, max_attempts=1) as worker:
        worker.work_off()
        assert len(bench.rows(JOBS)) == 1
        uses(bench, increment)
        bench.connection.execute("UPDATE batched_background_migrations SET status = 1")
        worker.work_off()
    assert bench.hits() == {1: 16}
    assert bench.rows(JOBS)[0][2] == Status.FINISHED
    assert bench.status() == Status.FINISHED


def test_each_attempt_before_the_last_one_takes_the_whole_job(bench):
    bench.fill(8)
    bench.control(bench.queue(batch_size=8, max_value=8), job_timeout_seconds=SLOW)
    uses(bench, sleeping_at(8))
    with hand(bench, max_attempts=3) as worker:
        for _ in range(3):
            assert len(bench.rows(PIECES)) <= 1
            worker.execute()
            bench.connection.execute("UPDATE registry_admin.background_migration_job_progress SET retry_at = now()")
    assert [piece[:2] for piece in bench.rows(PIECES)] == [(1, 4), (5, 8)]
    assert [piece[3] for piece in bench.rows(PIECES)] == [0, 0]


def test_a_waiting_for_a_lock_that_times_out_splits_too(bench):
    bench.fill(8)
    bench.queue(batch_size=8, max_value=8)

    def work(cursor, batch, context):
        cursor.execute("SET LOCAL lock_timeout = '10ms'")
        return increment(cursor, batch, context)

    uses(bench, work)
    with bench.database.connect() as other, hand(bench, max_attempts=1) as worker:
        with other.transaction():
            other.execute("SELECT FROM counters WHERE id = 2 FOR UPDATE")
            worker.work_off()
        assert bench.rows("SELECT id FROM counters WHERE hits <> 1") == [(2,)]
    assert {row[2] for row in bench.rows(FAULTS)} == {"55P03"}


def test_sub_batches_are_halved_with_the_job(bench):
    bench.fill(16)
    bench.control(bench.queue(batch_size=16, max_value=16), job_timeout_seconds=SLOW, sub_batch_size=8)
    uses(bench, sleeping_at(1))
    with hand(bench, max_attempts=1) as worker:
        worker.execute()
    assert [piece[:2] for piece in bench.rows(PIECES)] == [(1, 8), (9, 16)]
    sizes = "SELECT size, sub_batch_size FROM registry_admin.background_migration_job_progress ORDER BY min_value"
    assert bench.rows(sizes) == [(8, 4), (8, 4)]


def test_by_the_null_strategy_a_batch_shrinks_to_the_one_slow_row(bench):
    """Which rows come next is the function's choice, so none behind the slow one can be reached."""
    bench.connection.execute(NULLS)
    uses(bench, lambda cursor, batch, context: cursor.execute(FILL_NULLS, (batch.size, 6)).rowcount)
    bench.control(bench.queue(**OVER_NULLS), job_timeout_seconds=SLOW)
    with hand(bench, max_attempts=1) as worker:
        worker.work_off()
    assert bench.rows("SELECT id FROM far.nulls WHERE value IS NOT NULL ORDER BY id") == [(n,) for n in range(1, 6)]
    sizes = "SELECT size FROM registry_admin.background_migration_job_progress WHERE set_aside"
    assert bench.rows(sizes) == [(1,)]
    assert bench.status() == Status.FAILED


def test_what_is_no_time_out_is_never_split(bench):
    bench.fill(8)
    bench.queue(batch_size=8, max_value=8)
    uses(bench, failing_at(6))
    with hand(bench, max_attempts=1) as worker:
        worker.work_off()
    assert [row[0] for row in bench.rows(FAULTS)] == ["job_set_aside"]
