"""What becomes of a claimed job: done in sub-batches, failed, or given back."""

import psycopg
import pytest

from background_migrations import jobs
from background_migrations.jobs import GITLAB_PAUSE_SECONDS, Outcome
from background_migrations.locks import GITLAB_KEY
from background_migrations.status import FailureErrorCode, Status
from background_migrations.work import WorkStoppedError
from tests.background_migrations.by_hand import Flag, hand
from tests.background_migrations.conftest import increment
from tests.background_migrations.scenes import (
    FAULTS,
    FILL_NULLS,
    JOBS,
    NOTE,
    NULLS,
    OVER_NULLS,
    PIECES,
    failing_at,
    uses,
)

DONE = "SELECT rows, seconds >= 0, ended_at IS NOT NULL FROM registry_admin.background_migration_job_progress"


@pytest.fixture
def bench(quick_bench):
    return quick_bench


# --- Done -------------------------------------------------------------------------------------------------------------


def test_a_job_is_done_in_sub_batches_each_recorded_with_its_work(bench):
    bench.fill(25)
    bench.control(bench.queue(max_value=25), sub_batch_size=10)
    seen = []
    with hand(bench) as worker:
        worker.after_sub_batch = lambda: seen.append((bench.hits().get(1, 0), bench.rows(PIECES)[0][2]))
        assert worker.execute() is Outcome.FINISHED
    assert seen == [(10, 11), (20, 21), (25, 21)]
    assert worker.advances == [10, 10, 5]
    assert bench.rows(JOBS) == [(1, 25, Status.FINISHED, 1, None)]
    assert bench.rows(DONE) == [(25, True, True)]


def test_rows_done_are_what_the_function_says(bench):
    bench.fill(20)
    bench.control(bench.queue(), sub_batch_size=10)
    uses(bench, lambda cursor, batch, context: 3)
    with hand(bench) as worker:
        worker.execute()
    assert bench.rows(DONE) == [(6, True, True)]


def test_the_function_is_told_what_it_works_for_and_given_its_options(bench):
    bench.fill(5)
    bench.queue("its_name")
    told = []

    def look(cursor, batch, context):
        told.append((batch, context))
        return 0

    uses(bench, look)
    with hand(bench) as worker:
        worker.options = {"client": "a client"}
        claim = worker.claim()
        worker.execute(claim)
    ((batch, context),) = told
    assert (batch.table, batch.column, batch.size) == (("public", "counters"), "id", 100)
    assert (batch.min_value, batch.max_value, batch.null_strategy) == (1, 2**63 - 1, False)
    assert (context.migration_name, context.job_id) == ("its_name", claim.piece.job_id)
    assert (context.options, context.should_stop()) == ({"client": "a client"}, False)


def test_the_null_strategy_goes_on_until_its_batch_is_used_up_or_nothing_is_left(bench):
    bench.connection.execute(NULLS)
    uses(bench, lambda cursor, batch, context: cursor.execute(FILL_NULLS, (batch.size, 0)).rowcount)
    bench.control(bench.queue(**OVER_NULLS), batch_size=10, sub_batch_size=4)
    with hand(bench) as worker:
        worker.work_off()
    assert worker.advances == [4, 4, 2, 4, 2]
    assert bench.status() == Status.FINISHED


def test_a_null_function_that_does_nothing_fails_and_is_not_called_for_ever(bench):
    bench.connection.execute(NULLS)
    uses(bench, lambda cursor, batch, context: 0)
    bench.queue(**OVER_NULLS)
    with hand(bench, max_attempts=3) as worker:
        assert worker.work_off() == [Outcome.FAILED] * 3
    assert {row[1] for row in bench.rows(FAULTS)} == {"NoProgressError"}
    assert bench.status() == Status.FAILED


# --- Failed -----------------------------------------------------------------------------------------------------------


def test_a_failed_sub_batch_is_undone_and_those_before_it_stay(bench):
    bench.fill(30)
    bench.control(bench.queue(), sub_batch_size=10)
    uses(bench, failing_at(15))
    with hand(bench) as worker:
        assert worker.execute() is Outcome.FAILED
        assert bench.hits() == {1: 10, 0: 20}
        assert bench.rows(PIECES)[0][2:] == (11, 1, False, False, False)
        uses(bench, increment)
        worker.work_off()
    assert bench.hits() == {1: 30}


def test_a_failure_is_kept_with_its_class_text_and_sqlstate(bench):
    bench.fill(10)
    bench.queue(batch_size=5)

    def work(cursor, batch, context):
        if batch.min_value == 1:
            raise ValueError("one thing\n   and another")
        return cursor.execute("INSERT INTO counters VALUES (7)").rowcount

    uses(bench, work)
    with hand(bench) as worker:
        assert [worker.execute(), worker.execute()] == [Outcome.FAILED] * 2
    first, second = bench.rows(FAULTS)
    assert first == ("job_failed", "ValueError", "", "one thing and another")
    assert second[:3] == ("job_failed", "UniqueViolation", "23505")
    assert 'violates unique constraint "counters_pkey"' in second[3]
    assert [row[2:] for row in bench.rows(JOBS)] == [(Status.FAILED, 1, FailureErrorCode.UNKNOWN)] * 2


def test_a_retry_that_succeeds_clears_the_failure(bench):
    bench.fill(10)
    bench.queue()
    uses(bench, failing_at(1))
    with hand(bench) as worker:
        worker.execute()
        uses(bench, increment)
        worker.work_off()
    assert [row[2:] for row in bench.rows(JOBS)] == [(Status.FINISHED, 2, None)]
    assert bench.status() == Status.FINISHED


def test_other_jobs_go_on_while_one_is_set_aside_and_only_then_the_migration_fails(bench):
    bench.fill(50)
    bench.queue(batch_size=10, max_value=50)
    uses(bench, failing_at(25))
    with hand(bench, max_attempts=2) as worker:
        worker.work_off()
    assert bench.hits() == {1: 40, 0: 10}
    assert [row[2] for row in bench.rows(JOBS)] == [2, 2, 3, 2, 2]
    assert [row[0] for row in bench.rows(FAULTS)] == ["job_failed", "job_set_aside"]
    assert bench.status() == Status.FAILED


def test_an_attempt_that_got_something_done_does_not_exhaust_a_job(bench):
    bench.fill(30)
    bench.control(bench.queue(), sub_batch_size=10)
    uses(bench, failing_at(30))
    with hand(bench, max_attempts=1) as worker:
        assert worker.work_off() == [Outcome.FAILED] * 2
    assert bench.hits() == {1: 20, 0: 10}
    assert [row[0] for row in bench.rows(FAULTS)] == ["job_failed", "job_set_aside"]


def test_a_function_that_wants_to_end_the_process_fails_its_job_only(bench):
    bench.fill(10)
    bench.queue()

    def leave(cursor, batch, context):
        raise SystemExit(3)

    uses(bench, leave)
    with hand(bench) as worker:
        assert worker.execute() is Outcome.FAILED
    assert [row[1] for row in bench.rows(FAULTS)] == ["WorkAbortedError"]


def test_a_job_whose_connection_is_lost_fails_on_a_new_one_and_nothing_of_it_stays(bench):
    bench.fill(10)
    bench.queue()

    def cut_off(cursor, batch, context):
        increment(cursor, batch, context)
        bench.connection.execute("SELECT pg_terminate_backend(%s)", (cursor.connection.info.backend_pid,))
        return cursor.execute("SELECT 1").rowcount

    uses(bench, cut_off)
    with hand(bench) as worker:
        job = worker.job(worker.claim())
        with pytest.raises(psycopg.OperationalError) as caught:
            job.execute()
        assert job.fail(caught.value) is Outcome.FAILED
        assert bench.hits() == {0: 10}
        assert bench.rows(FAULTS)[0][:3] == ("job_failed", "AdminShutdown", "57P01")
        uses(bench, increment)
        worker.work_off()
    assert bench.hits() == {1: 10}


def test_a_migration_fails_early_when_more_than_half_of_50_jobs_have_failed(bench):
    bench.fill(1_000)
    bench.queue(batch_size=10)
    uses(bench, failing_at(*range(1, 1_001)))
    with hand(bench, max_attempts=1) as worker:
        assert worker.work_off() == [Outcome.FAILED] * 50
    query = "SELECT status, failure_error_code FROM batched_background_migrations"
    assert bench.rows(query) == [(Status.FAILED, FailureErrorCode.UNKNOWN)]
    reason = "SELECT reason FROM registry_admin.background_migration_events WHERE new_status = 3"
    assert bench.one(reason) == "50 of its first 50 jobs failed"


def test_half_of_the_jobs_may_fail_and_all_the_others_are_done(bench):
    bench.fill(600)
    bench.queue(batch_size=10, max_value=600)
    uses(bench, failing_at(*range(15, 601, 20)))
    with hand(bench, max_attempts=1) as worker:
        outcomes = worker.work_off()
    assert (outcomes.count(Outcome.FINISHED), outcomes.count(Outcome.FAILED)) == (30, 30)
    assert bench.hits() == {1: 300, 0: 300}
    assert bench.one("SELECT failure_error_code FROM batched_background_migrations") == FailureErrorCode.MAX_JOB_RETRY


def test_jobs_that_succeeded_at_last_do_not_fail_a_migration_early(bench):
    bench.fill(600)
    bench.queue(batch_size=10, max_value=600)
    tried = set()

    def work(cursor, batch, context):
        if batch.min_value not in tried:
            tried.add(batch.min_value)
            raise ValueError("not yet")
        return increment(cursor, batch, context)

    uses(bench, work)
    with hand(bench) as worker:
        worker.work_off()
    assert (bench.status(), bench.hits()) == (Status.FINISHED, {1: 600})


# --- Given back -------------------------------------------------------------------------------------------------------


def test_a_stopped_worker_gives_its_job_back_after_the_sub_batch_and_no_attempt_is_lost(bench):
    bench.fill(30)
    bench.control(bench.queue(), sub_batch_size=10)
    with hand(bench, max_attempts=1) as worker, hand(bench, max_attempts=1) as other:

        def stop():
            worker.stops = True

        worker.after_sub_batch = stop
        assert worker.execute() is Outcome.RELEASED
        assert bench.hits() == {1: 10, 0: 20}
        assert bench.rows(PIECES)[0][2:] == (11, 0, False, False, False)
        assert other.execute() is Outcome.FINISHED
    assert bench.hits() == {1: 30}
    assert bench.rows(FAULTS) == []


@pytest.mark.parametrize("status", [Status.PAUSED, Status.FAILED, Status.FINISHED])
def test_a_migration_that_is_not_active_any_more_is_given_back_before_the_next_sub_batch(bench, status):
    bench.fill(30)
    bench.control(bench.queue(), sub_batch_size=10)
    with hand(bench) as worker:
        worker.after_sub_batch = lambda: bench.connection.execute(
            "UPDATE batched_background_migrations SET status = %s", (status,)
        )
        assert worker.execute() is Outcome.RELEASED
    assert bench.hits() == {1: 10, 0: 20}
    assert bench.status() == status


def test_a_job_given_back_again_and_again_never_runs_out_of_attempts(bench):
    bench.fill(10)
    bench.queue()
    with hand(bench, max_attempts=1) as worker:
        worker.stops = True
        assert [worker.execute() for _ in range(10)] == [Outcome.RELEASED] * 10
        worker.stops = False
        assert worker.execute() is Outcome.FINISHED


def test_a_function_that_is_told_to_stop_has_its_batch_given_back(bench):
    bench.fill(20)
    bench.control(bench.queue(), sub_batch_size=10)

    def work(cursor, batch, context):
        rows = increment(cursor, batch, context)
        if batch.min_value > 1:
            raise WorkStoppedError
        return rows

    uses(bench, work)
    with hand(bench, max_attempts=1) as worker:
        assert worker.execute() is Outcome.RELEASED
        assert bench.hits() == {1: 10, 0: 10}
        assert bench.rows(FAULTS) == []
        uses(bench, increment)
        assert worker.execute() is Outcome.FINISHED
    assert bench.hits() == {1: 20}


def test_strain_between_two_sub_batches_gives_the_job_back_and_is_shown(bench, monkeypatch):
    monkeypatch.setattr(jobs, "THROTTLING_SECONDS", 0.0)
    bench.fill(30)
    bench.control(bench.queue(), sub_batch_size=10)
    flag = Flag()
    with hand(bench, lookout=flag.lookout) as worker:

        def raise_flag():
            flag.raised = "too many waiters"

        worker.after_sub_batch = raise_flag
        assert worker.execute() is Outcome.RELEASED
        assert bench.hits() == {1: 10, 0: 20}
        assert worker.idle().reasons == {"count": "too many waiters"}
        assert bench.rows(NOTE) == [("flag", "too many waiters")]
        flag.raised, worker.after_sub_batch = None, lambda: None
        assert worker.execute() is Outcome.FINISHED
    assert bench.rows(NOTE) == [("", "")]
    assert bench.hits() == {1: 30}


def test_between_two_sub_batches_gitlab_s_worker_is_waited_for(bench):
    bench.fill(20)
    bench.control(bench.queue(), sub_batch_size=10)
    with bench.database.connect() as gitlab, hand(bench) as worker:

        def come():
            gitlab.execute("SELECT pg_advisory_lock(%s)", (GITLAB_KEY,))
            worker.after_sub_batch = lambda: None

        def go_after_a_while():
            assert bench.hits() == {1: 10, 0: 10}
            if len(worker.waited) == 3:
                gitlab.execute("SELECT pg_advisory_unlock(%s)", (GITLAB_KEY,))

        worker.after_sub_batch, worker.instead_of_waiting = come, go_after_a_while
        assert worker.execute() is Outcome.FINISHED
    assert worker.waited == [GITLAB_PAUSE_SECONDS] * 3
    assert bench.hits() == {1: 20}
