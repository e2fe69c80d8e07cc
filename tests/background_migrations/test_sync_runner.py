"""`run`: everything to completion now, and an end in any case."""

import datetime
import threading

import pytest

from background_migrations import services, sync_runner
from background_migrations.status import FailureErrorCode, Status
from background_migrations.throttling import Lookout
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import broken, fall_silent, hand
from tests.background_migrations.conftest import increment

EVENTS = (
    "SELECT name, actor, old_status, new_status, reason FROM registry_admin.background_migration_events ORDER BY id"
)
PIECES = "SELECT attempts, set_aside FROM registry_admin.background_migration_job_progress ORDER BY id"
OTHER_TABLE = "CREATE SCHEMA far; CREATE TABLE far.counters (LIKE public.counters INCLUDING ALL)"
FAILURE = "SELECT failure_error_code FROM batched_background_migrations WHERE name = %s"


class Strain:
    """A signal that always says no."""

    name = "strain"

    def reason(self, connection, table):
        return "there is always something"


@pytest.fixture
def bench(quick_bench):
    quick_bench.functions["broken"] = WorkFunction(run=broken)
    quick_bench.connection.execute(OTHER_TABLE)
    quick_bench.fill(30)
    return quick_bench


def rules(bench, **values):
    return bench.rules(**{"paced": False, "max_attempts": 1, "interval": 100.0, **values})


def run(bench, *names, **values):
    """Do what the command does."""
    chosen = list(names) or None
    sync_runner.prepare(bench.connection, chosen, actor="somebody")
    return sync_runner.run_to_completion(bench.worker(rules=rules(bench, **values)), chosen)


def test_all_migrations_are_run_to_their_end_without_a_pause(bench):
    bench.control(bench.queue("first", batch_size=10), interval_seconds=1_000.0)
    bench.queue("second", table="far.counters", status=0)
    result = run(bench)
    assert (result.finished, result.unfinished) == (("first", "second"), {})
    assert bench.hits() == {1: 30}


def test_only_the_named_ones_are_run(bench):
    bench.queue("wanted")
    bench.queue("paused", status=0)
    bench.queue("active")
    assert run(bench, "wanted").finished == ("wanted",)
    assert (bench.status("paused"), bench.status("active")) == (Status.PAUSED, Status.ACTIVE)


def test_paused_ones_are_resumed_with_an_event(bench):
    bench.queue(status=0)
    run(bench)
    assert bench.rows(EVENTS)[0] == ("count", "somebody", Status.PAUSED, Status.ACTIVE, "to be run now")
    assert bench.status() == Status.FINISHED


def test_failed_ones_get_new_attempts(bench):
    bench.queue(function="broken", batch_size=10)
    assert run(bench).finished == ()
    bench.functions["broken"] = bench.functions["increment"]
    assert run(bench).finished == ("count",)
    assert bench.hits() == {1: 30}


def test_finished_ones_are_left_alone(bench):
    bench.queue(status=2)
    result = run(bench)
    assert (result.finished, result.unfinished) == ((), {})
    assert bench.rows(EVENTS) == []
    assert bench.hits() == {0: 30}


def test_preparing_names_that_no_migration_has_changes_nothing(bench):
    bench.queue(status=0)
    assert run(bench, "missing").finished == ()
    assert bench.status() == Status.PAUSED


def test_no_names_are_not_all_names(bench):
    bench.queue(status=0)
    sync_runner.prepare(bench.connection, [], actor="somebody")
    assert bench.status() == Status.PAUSED


def test_a_run_ends_when_one_fails_and_runs_the_others_to_their_end(bench):
    bench.queue("broken", function="broken", batch_size=10)
    bench.queue("sound", table="far.counters")
    result = run(bench)
    assert result.finished == ("sound",)
    assert list(result.unfinished) == ["broken"]
    assert (bench.status("broken"), bench.one(FAILURE, "broken")) == (Status.FAILED, FailureErrorCode.MAX_JOB_RETRY)


def test_each_job_has_as_many_attempts_as_asked_for(bench):
    bench.queue(function="broken", batch_size=30, max_value=30)
    run(bench, max_attempts=2)
    assert bench.rows(PIECES) == [(2, True)]


def test_a_second_run_counts_attempts_anew(bench):
    bench.queue(function="broken", batch_size=30, max_value=30)
    run(bench)
    run(bench)
    assert bench.rows(PIECES) == [(1, True)]


def test_a_job_whose_worker_was_killed_is_tried_and_not_given_up_for_its_old_attempts(bench):
    bench.queue(max_value=30)
    for _ in range(2):
        with hand(bench) as gone:
            gone.claim()
        fall_silent(bench)
    assert run(bench, max_attempts=2).finished == ("count",)
    assert bench.hits() == {1: 30}


def test_an_unknown_work_function_ends_a_run_with_its_reason(bench):
    bench.queue(function="fromTheNextRelease")
    result = run(bench)
    assert "no work function 'fromTheNextRelease'" in result.unfinished["count"]
    assert bench.status() == Status.ACTIVE


def test_an_invalid_table_ends_a_run_with_its_reason(bench):
    bench.queue(table="public.missing")
    result = run(bench)
    assert "public.missing" in result.unfinished["count"]
    assert bench.one(FAILURE, "count") == FailureErrorCode.INVALID_BBM_TABLE


def test_neither_strain_nor_a_hold_stops_a_run(bench):
    tomorrow = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(days=1)
    bench.control(bench.queue(), hold_until=tomorrow)
    with hand(bench, lookout=Lookout([Strain()])) as worker:
        assert worker.idle().reasons == {"count": "it is on hold"}
    assert run(bench).finished == ("count",)


def test_a_migration_that_is_paused_during_a_run_ends_it(bench):
    bench.control(bench.queue(batch_size=10), sub_batch_size=5)

    def pause_and_go_on(cursor, batch, context):
        if batch.min_value == 6:
            services.pause(bench.connection, ["count"], actor="somebody else")
        return increment(cursor, batch, context)

    bench.functions["increment"] = WorkFunction(run=pause_and_go_on, calls_network=True)
    result = run(bench)
    assert result.unfinished == {"count": "it is paused"}
    assert bench.hits() == {1: 10, 0: 20}


def test_a_migration_that_is_deleted_during_a_run_ends_it(bench):
    bench.queue(batch_size=10)

    def delete(cursor, batch, context):
        bench.connection.execute("DELETE FROM batched_background_migrations")
        return 0

    bench.functions["increment"] = WorkFunction(run=delete, calls_network=True)
    result = run(bench)
    assert (result.finished, result.unfinished) == ((), {})


def test_a_run_waits_for_jobs_that_somebody_else_is_at(bench):
    bench.queue(max_value=30)
    with hand(bench) as other:
        claim = other.claim()
        done = threading.Timer(0.3, other.execute, args=(claim,))
        done.start()
        assert run(bench, grace=60.0).finished == ("count",)
        done.join()
    assert bench.hits() == {1: 30}


def test_several_threads_share_a_run(bench):
    bench.control(bench.queue(batch_size=2, max_value=30), max_parallel_jobs=4)
    sync_runner.prepare(bench.connection, None, actor="somebody")
    worker = bench.worker(rules=rules(bench), concurrency=4)
    result = sync_runner.run_to_completion(worker, None)
    assert result.finished == ("count",)
    assert bench.hits() == {1: 30}


def test_a_stopped_run_says_what_is_left(bench):
    bench.queue(batch_size=10)
    worker = bench.worker(rules=rules(bench))

    def stop(cursor, batch, context):
        worker.stop()
        return increment(cursor, batch, context)

    bench.functions["increment"] = WorkFunction(run=stop)
    result = sync_runner.run_to_completion(worker, None)
    assert result.unfinished == {"count": "it is running"}
    assert bench.hits() == {1: 10, 0: 20}
