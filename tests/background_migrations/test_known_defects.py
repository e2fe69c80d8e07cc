"""What goes wrong with background migrations in the registry that we take over from, and must not go wrong here."""

import io
import itertools
import json
import threading
import time

import pytest
from django.core.management import call_command
from django.db import connections

from background_migrations import reports, services, sync_runner
from background_migrations.errors import InvalidTransitionError
from background_migrations.jobs import Outcome
from background_migrations.progress import estimate_rows
from background_migrations.records import read_migration
from background_migrations.reports import Defaults
from background_migrations.status import FailureErrorCode, Status
from background_migrations.work import WorkFunction
from background_migrations.work_functions import WORK_FUNCTIONS
from schema_migrations.errors import UnknownBackgroundMigrationError
from schema_migrations.loader import load_migrations
from tests.background_migrations.by_hand import hand
from tests.background_migrations.conftest import increment
from tests.background_migrations.lanes import crew
from tests.schema_migrations.declared import folders, module

JOBS = "SELECT min_value, max_value, status FROM batched_background_migration_jobs ORDER BY id"
PROGRESS = "registry_admin.background_migration_job_progress"
LONG_SECONDS = 30  # what takes so long has hung


@pytest.fixture
def bench(quick_bench):
    """Thirty rows and work functions that fail."""
    quick_bench.fill(30)
    return quick_bench


@pytest.fixture
def worker(bench):
    """One worker thread in the test's hands."""
    with hand(bench) as worker:
        yield worker


def failing(*, when=lambda batch: True) -> WorkFunction:
    """Add 1 in every row, and then fail, when told to."""

    def run(cursor, batch, context) -> int:
        rows = increment(cursor, batch, context)
        if when(batch):
            raise RuntimeError("it is broken")
        return rows

    return WorkFunction(run=run)


def times(count: int):
    """Say yes so often, then no."""
    left = iter(range(count))
    return lambda batch: next(left, None) is not None


def report(bench, name="count"):
    defaults = Defaults(functions=bench.functions, interval=0.0, grace=5.0)
    (found,) = reports.migration_reports(bench.connection, defaults=defaults, names=[name])
    return found


# --- A job and its record -----------------------------------------------------------------------------------------


def test_what_a_broken_attempt_did_is_undone_with_its_record(bench, worker):
    """There, the work commits apart from its record: a crash in between repeats the batch."""
    bench.functions["increment"] = failing(when=times(2))
    bench.queue(batch_size=10, max_value=30)
    assert worker.execute() is Outcome.FAILED
    assert bench.hits() == {0: 30}
    assert bench.rows(f"SELECT next_value, rows, finished_at FROM {PROGRESS}") == [(1, 0, None)]
    worker.work_off()
    assert bench.hits() == {1: 30}


def test_an_attempt_that_takes_too_long_counts_and_its_job_is_split_after_the_last_one(bench, worker):
    """There, the time-out takes the record of the attempt with it: the same batch is tried for ever."""

    def slow_with_many(cursor, batch, context) -> int:
        rows = increment(cursor, batch, context)
        if rows > 10:
            cursor.execute("SELECT pg_sleep(%s)", (LONG_SECONDS,))
        return rows

    bench.functions["increment"] = WorkFunction(run=slow_with_many)
    bench.control(bench.queue(batch_size=20, max_value=30), job_timeout_seconds=0.2)
    worker.rules = bench.rules(max_attempts=2)
    assert worker.execute() is Outcome.FAILED
    assert bench.one("SELECT attempts FROM batched_background_migration_jobs") == 1
    worker.work_off()
    assert bench.hits() == {1: 30}
    kinds = bench.rows("SELECT kind, sqlstate FROM registry_admin.background_migration_events WHERE job_id IS NOT NULL")
    assert kinds == [("job_failed", "57014"), ("job_split", "57014")]
    assert bench.rows(JOBS) == [(1, 20, Status.FINISHED), (21, 30, Status.FINISHED)]


def test_a_job_that_succeeds_at_last_carries_no_failure_any_more(bench, worker):
    """There, it keeps the code of the attempt that failed."""
    bench.functions["increment"] = failing(when=times(1))
    bench.queue(batch_size=30, max_value=30)
    codes = "SELECT status, failure_error_code FROM batched_background_migration_jobs"
    worker.execute()
    assert bench.rows(codes) == [(Status.FAILED, FailureErrorCode.UNKNOWN)]
    worker.work_off()
    assert bench.rows(codes) == [(Status.FINISHED, None)]


@pytest.mark.parametrize(
    ("newer", "signal"),
    [({"function": "newer"}, "unknown_work_function"), ({"strategy": "newer"}, "unknown_batching_strategy")],
)
def test_a_migration_of_a_later_release_waits_visibly_and_stops_no_other(bench, worker, newer, signal):
    """There, it is an error under a wrong code that ends the turn: whatever comes behind it never runs."""
    bench.queue("later", max_value=30, **newer)
    bench.queue("count", max_value=30)
    worker.work_off()
    assert (bench.status("count"), bench.hits()) == (Status.FINISHED, {1: 30})
    waiting = report(bench, "later")
    assert (waiting.status, waiting.failure_error_code, waiting.throttled_by) == (Status.ACTIVE, None, signal)
    assert "'newer'" in waiting.throttled_reason
    bench.functions["newer"] = bench.functions["increment"]
    bench.connection.execute("UPDATE batched_background_migrations SET batching_strategy = NULL")
    worker.work_off()
    assert (report(bench, "later").status, report(bench, "later").throttled_by) == (Status.FINISHED, "")


def test_a_batch_that_fails_waits_longer_each_time_and_counts_as_no_progress(bench, worker):
    """There, it resets the back-off, and its rows are added to those that are done."""
    bench.functions["increment"] = failing()
    bench.queue(batch_size=30, max_value=30)
    pauses = []
    for _ in range(4):
        assert worker.execute() is Outcome.FAILED
        pauses.append(bench.one(f"SELECT extract(epoch FROM retry_at - ended_at) FROM {PROGRESS}"))
        assert worker.idle().wait_seconds is not None
        bench.connection.execute(f"UPDATE {PROGRESS} SET retry_at = clock_timestamp()")
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0]
    assert (report(bench).rows_done, report(bench).progress.percent, bench.hits()) == (0, 0, {0: 30})


@pytest.mark.parametrize("error", [None, RuntimeError("it is broken")])
def test_the_null_strategy_gives_up(bench, worker, error):
    """There, attempts belong to jobs that are never retried, and each next job covers the same rows: without end."""
    bench.connection.execute("CREATE SCHEMA far; CREATE TABLE far.nulls AS SELECT NULL::bigint AS value")
    bench.connection.execute("CREATE INDEX ON far.nulls (value) WHERE value IS NULL")

    def idle(cursor, batch, context) -> int:
        if error:
            raise error
        return 0

    bench.functions["idle"] = WorkFunction(run=idle)
    names = {"table": "far.nulls", "column": "value", "function": "idle", "strategy": "NullKeySetBatchingStrategy"}
    bench.queue(min_value=0, max_value=0, **names)
    worker.rules = bench.rules(max_attempts=3)
    assert worker.work_off() == [Outcome.FAILED] * 3
    assert bench.rows("SELECT attempts, failure_error_code FROM batched_background_migration_jobs") == [(3, 0)]
    assert (bench.status(), report(bench).failure_error_code) == (Status.FAILED, FailureErrorCode.MAX_JOB_RETRY)


def test_a_broken_job_takes_no_record_of_others_with_it(bench):
    """There, the run-now loop does five jobs in one transaction, and the fifth can throw away the records of four."""
    bench.functions["increment"] = failing(when=lambda batch: batch.min_value == 21)
    bench.queue(batch_size=10, max_value=30)
    worker = bench.worker(rules=bench.rules(max_attempts=1, paced=False))
    sync_runner.run_to_completion(worker, None)
    statuses = [status for _, _, status in bench.rows(JOBS)]
    assert statuses == [Status.FINISHED, Status.FINISHED, Status.FAILED]
    assert (bench.hits(), bench.status()) == ({1: 20, 0: 10}, Status.FAILED)


def test_a_job_without_attempts_left_does_not_stop_those_that_have_some(bench, worker):
    """There, the first failed job that is out of attempts fails the migration, whatever the others may yet do."""
    seen = []

    def broken_first_and_shaky_third(cursor, batch, context) -> int:
        seen.append(batch.min_value)
        if batch.min_value == 1 or (batch.min_value == 21 and seen.count(21) < 3):
            raise RuntimeError("it is broken")
        return increment(cursor, batch, context)

    bench.functions["increment"] = WorkFunction(run=broken_first_and_shaky_third)
    bench.queue(batch_size=10, max_value=30)
    worker.rules = bench.rules(max_attempts=3)
    worker.work_off()
    assert (seen.count(1), seen.count(11), seen.count(21)) == (3, 1, 3)
    assert [status for _, _, status in bench.rows(JOBS)] == [Status.FAILED, Status.FINISHED, Status.FINISHED]
    assert (bench.hits(), bench.status()) == ({1: 20, 0: 10}, Status.FAILED)


# --- The loop -----------------------------------------------------------------------------------------------------


def test_a_worker_begins_at_once_and_ends_at_once_while_it_waits(bench):
    """There, the start waits for up to a minute, and no signal reaches a sleep of up to forty."""
    began = threading.Event()
    bench.control(bench.queue(batch_size=10, max_value=30), interval_seconds=3_600)
    worker = bench.worker(once=False, on_advance=lambda claim, rows: began.set())
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert began.wait(LONG_SECONDS)
    for _ in range(1_000):
        time.sleep(0 if worker.reasons else 0.01)
    worker.stop()
    thread.join(LONG_SECONDS)
    assert not thread.is_alive()
    assert bench.hits() == {1: 10, 0: 20}


def test_migrations_follow_one_another_without_a_pause(bench, worker):
    """There, a turn that finishes a migration counts as one that found nothing, and the next one waits longer."""
    for name in ("first", "second", "third"):
        bench.queue(name, max_value=30)
    assert worker.execute() is Outcome.FINISHED
    # The same look finishes the first one and takes up the second.
    assert worker.claim().migration.name == "second"
    assert (bench.status("first"), bench.status("second")) == (Status.FINISHED, Status.RUNNING)


def test_locks_of_applications_are_not_in_our_way(bench, worker):
    """There, one number that anybody may use is the only lock; we share it for their sake, and use two of our own."""
    bench.queue(batch_size=10, max_value=30)
    with bench.database.connect() as application:
        application.execute("SELECT pg_advisory_lock(number) FROM generate_series(2, 100) AS number")
        application.execute("SELECT pg_advisory_lock(0), pg_advisory_lock(-1), pg_advisory_lock(0, 1)")
        application.execute("SELECT pg_advisory_lock(1, number) FROM generate_series(0, 100) AS number")
        worker.work_off()
    assert bench.status() == Status.FINISHED


def test_at_work_we_only_share_the_lock_that_others_may_use(bench, worker):
    """There, it is held exclusively, and so keeps out whoever chose the same number."""
    held = []

    def run(cursor, batch, context) -> int:
        held.extend(bench.rows("SELECT classid::bigint, objid::bigint, mode FROM pg_locks WHERE locktype = 'advisory'"))
        return increment(cursor, batch, context)

    bench.functions["increment"] = WorkFunction(run=run)
    bench.queue(max_value=30)
    worker.work_off()
    assert held == [(0, 1, "ShareLock")]


# --- Operators ----------------------------------------------------------------------------------------------------


def test_a_restarted_migration_gets_new_attempts(bench, worker):
    """There, the attempts stay as they are, so that it fails again at once."""
    bench.functions["increment"] = failing(when=times(3))
    bench.queue(max_value=30)
    worker.rules = bench.rules(max_attempts=2)
    assert worker.work_off() == [Outcome.FAILED] * 2
    assert bench.status() == Status.FAILED
    services.restart(bench.connection, "count", actor="tests")
    assert worker.work_off() == [Outcome.FAILED, Outcome.FINISHED]
    assert (bench.status(), bench.hits()) == (Status.FINISHED, {1: 30})


def test_a_finished_migration_cannot_be_restarted(bench, worker):
    """There, any migration can, and goes through its failed jobs or ends at once."""
    bench.queue(max_value=30)
    worker.work_off()
    with pytest.raises(InvalidTransitionError):
        services.restart(bench.connection, "count", actor="tests")
    assert bench.status() == Status.FINISHED


BY_HAND = "UPDATE batched_background_migrations SET status = 0 WHERE name = %s"


@pytest.mark.parametrize(
    "pause",
    [
        lambda bench, name: bench.connection.execute(BY_HAND, (name,)),
        lambda bench, name: services.pause(bench.connection, [name], actor="tests"),
    ],
)
def test_a_pause_is_obeyed_whenever_it_comes(bench, pause):
    """There, statuses are written without a look at the one before: a pause that comes in between is lost."""
    for commits in itertools.count():
        bench.connection.execute("UPDATE counters SET hits = 0")
        name = f"after {commits}"
        bench.control(bench.queue(name, batch_size=20, max_value=30), sub_batch_size=7)
        with crew(bench, lanes=1, rules=bench.rules()) as one:
            one.advance(0, times=commits)
            if bench.status(name) == Status.FINISHED:
                break
            pause(bench, name)
            hits = bench.hits()
            one.advance(0, times=10)
            assert (one.lanes[0].is_idle, bench.status(name), bench.hits()) == (True, Status.PAUSED, hits)
            services.resume(bench.connection, [name], actor="tests")
            one.advance(0, times=20)
        assert (bench.status(name), bench.hits()) == (Status.FINISHED, {1: 30})
    assert commits > 8


@pytest.fixture
def broken(committed_db, monkeypatch):
    """A migration of Django's own database whose second job fails."""
    monkeypatch.setitem(WORK_FUNCTIONS, "broken", failing(when=lambda batch: batch.min_value > 1))
    with connections["registry"].cursor() as cursor:
        cursor.execute("CREATE TABLE public.counters (id bigint PRIMARY KEY, hits integer NOT NULL DEFAULT 0)")
        cursor.execute("INSERT INTO counters VALUES (1), (2); ANALYZE counters")
        cursor.execute(
            "INSERT INTO batched_background_migrations "
            "(name, max_value, batch_size, status, job_signature_name, table_name, column_name) "
            "VALUES ('broken', 2, 1, 1, 'broken', 'public.counters', 'id')"
        )
        yield
        cursor.execute("DROP TABLE public.counters")


def test_a_run_that_fails_says_so_by_its_exit_code(broken):
    """There, it tries again every ten seconds, for ever."""
    with pytest.raises(SystemExit) as caught:
        call_command("background_migrate", "run", "broken", "--max-job-retry", "1", stderr=io.StringIO())
    assert caught.value.code == 1


def test_the_status_shows_how_far_a_migration_is_since_when_and_what_failed(broken):
    """There, it is a name and a state."""
    with pytest.raises(SystemExit):
        call_command("background_migrate", "run", "broken", "--max-job-retry", "1", stderr=io.StringIO())
    printed = io.StringIO()
    call_command("background_migrate", "status", "broken", "--json", stdout=printed)
    (shown,) = json.loads(printed.getvalue())["migrations"]
    assert (shown["status"], shown["progress"]["percent"]) == ("failed", 50)
    assert (shown["jobs_finished"], shown["jobs_failed"]) == (1, 1)
    assert shown["failure_error_code"] == FailureErrorCode.MAX_JOB_RETRY
    assert shown["created_at"] <= shown["started_at"] <= shown["updated_at"]
    call_command("background_migrate", "events", "broken", stdout=printed)
    assert "RuntimeError" in printed.getvalue()


def test_a_migration_whose_end_was_lowered_finishes(bench, worker):
    """There, the end is known by a job that ends exactly there: none ever does, and the migration runs for ever."""
    migration_id = bench.queue(batch_size=10)
    worker.execute()
    worker.execute()
    bench.connection.execute("UPDATE batched_background_migrations SET max_value = 15 WHERE id = %s", (migration_id,))
    worker.work_off()
    assert (bench.status(), bench.hits()) == (Status.FINISHED, {1: 20, 0: 10})


# --- What is shown ------------------------------------------------------------------------------------------------


def test_a_migration_without_an_estimate_is_shown(bench):
    """There, it is left out of every list until its first job, and for ever when its table was never analysed."""
    bench.queue()
    assert report(bench).total_tuple_count is None
    assert report(bench).progress.percent is None


def test_a_migration_is_shown_once_with_the_status_it_has_now(bench, worker):
    """There, the gauge of its progress keeps a series for each status that it ever had."""
    bench.queue(batch_size=20, max_value=30)
    seen = []
    for _ in range(2):
        seen.append(report(bench).status)
        worker.execute()
    seen.append(report(bench).status)
    worker.idle()
    assert [*seen, report(bench).status] == [Status.ACTIVE, Status.RUNNING, Status.RUNNING, Status.FINISHED]


def test_partitions_in_another_schema_are_counted(bench):
    """There, they are looked for in the schema of their parent, and 64 of them in another one are nothing."""
    bench.connection.execute("""
        CREATE SCHEMA far;
        CREATE TABLE far.parent (id bigint PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE partitions.child PARTITION OF far.parent FOR VALUES FROM (0) TO (1000);
        INSERT INTO far.parent SELECT generate_series(1, 500);
        ANALYZE far.parent;
    """)
    migration = read_migration(bench.connection, bench.queue(table="far.parent"))
    total = estimate_rows(bench.connection, migration.target(WorkFunction(run=increment)), migration=migration)
    assert total == 500


def test_a_misspelt_name_in_a_requirement_is_refused(tmp_path):
    """There, a background migration that does not exist counts as finished."""
    queuing = {"pre/20260101000001_queue.py": module(queued_background_migrations=["count"])}
    requiring = {"pre/20260101000002_require.py": module(required_background_migrations=["cuont"])}
    with pytest.raises(UnknownBackgroundMigrationError) as caught:
        load_migrations(folders(tmp_path, {**queuing, **requiring}))
    assert "'count'" in str(caught.value)
