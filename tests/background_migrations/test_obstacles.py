"""What keeps a migration from being worked on: it is told, and stops no other one."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from background_migrations.claims import GITLAB_PAUSE_SECONDS
from background_migrations.jobs import Outcome
from background_migrations.locks import GITLAB_KEY
from background_migrations.status import FailureErrorCode, Status
from background_migrations.turns import THROTTLED_PAUSE_SECONDS
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import Flag, fall_silent, hand
from tests.background_migrations.competitors import BOUNDS, EVENTS, NULLS, OVER_NULLS, add_second_table, equip, names_of
from tests.background_migrations.conftest import increment

PIECES = """
    SELECT attempts, claim IS NOT NULL, set_aside, finished_at IS NOT NULL
    FROM registry_admin.background_migration_job_progress ORDER BY id
"""
FAILURE = "SELECT failure_error_code FROM batched_background_migrations WHERE name = %s"
NOTE = """
    SELECT throttled_by, throttled_reason FROM registry_admin.background_migration_controls
    WHERE background_migration_id = %s
"""


@pytest.fixture
def bench(quick_bench):
    return equip(quick_bench)


@pytest.fixture
def two_tables(bench):
    return add_second_table(bench)


def test_while_gitlab_s_worker_holds_its_key_nothing_is_claimed(bench):
    bench.fill(10)
    bench.queue()
    with bench.database.connect() as gitlab, hand(bench) as worker:
        with gitlab.transaction():
            gitlab.execute("SELECT pg_advisory_xact_lock(%s)", (GITLAB_KEY,))
            idle = worker.idle()
        assert (idle.wait_seconds, idle.reasons) == (GITLAB_PAUSE_SECONDS, {"count": "GitLab's own worker is at work"})
        assert bench.rows(BOUNDS) == []
        worker.claim()


def test_a_throttled_migration_is_not_cut_and_says_why_until_the_strain_is_over(bench):
    bench.fill(30)
    migration_id = bench.queue(batch_size=10)
    flag = Flag("the disk is full")
    with hand(bench, lookout=flag.lookout) as worker:
        idle = worker.idle()
        assert (idle.wait_seconds, idle.reasons) == (THROTTLED_PAUSE_SECONDS, {"count": "the disk is full"})
        assert flag.asked == [("public", "counters")]
        assert bench.rows(NOTE, migration_id) == [("flag", "the disk is full")]
        assert (bench.status(), bench.rows(BOUNDS)) == (Status.ACTIVE, [])
        flag.raised = None
        worker.claim()
    assert bench.rows(NOTE, migration_id) == [("", "")]


def test_a_failed_job_is_throttled_as_well_and_keeps_its_attempts(bench):
    bench.fill(10)
    migration_id = bench.queue(function="broken")
    flag = Flag()
    with hand(bench, lookout=flag.lookout) as worker:
        worker.execute()
        bench.connection.execute("UPDATE registry_admin.background_migration_job_progress SET retry_at = now()")
        flag.raised = "too much to do"
        worker.idle()
        assert bench.rows(PIECES) == [(1, False, False, False)]
        assert bench.rows(NOTE, migration_id) == [("flag", "too much to do")]


def test_a_migration_that_ends_is_not_throttled_any_more(bench):
    bench.fill(10)
    migration_id = bench.queue(function="broken")
    flag = Flag()
    with hand(bench, lookout=flag.lookout, max_attempts=1) as worker:
        worker.execute()
        bench.control(migration_id, throttled_by="flag", throttled_reason="old news")
        worker.idle()
    assert bench.status() == Status.FAILED
    assert bench.rows(NOTE, migration_id) == [("", "")]


def test_an_unknown_work_function_stops_only_its_own_migration_until_a_release_knows_it(two_tables):
    unknown = two_tables.queue("unknown", function="fromTheNextRelease", table="far.counters")
    two_tables.queue(batch_size=30)
    with hand(two_tables) as worker:
        assert worker.work_off() == [Outcome.FINISHED]
        idle = worker.idle()
        assert idle.wait_seconds is None
        assert "no work function 'fromTheNextRelease'" in idle.reasons["unknown"]
        assert two_tables.status("unknown") == Status.ACTIVE
        assert two_tables.rows(NOTE, unknown)[0][0] == "unknown_work_function"
        two_tables.functions["fromTheNextRelease"] = two_tables.functions["increment"]
        worker.claim()
    assert two_tables.rows(NOTE, unknown) == [("", "")]


def test_an_unknown_strategy_is_never_a_failure(bench):
    migration_id = bench.queue(strategy="CursorBatchingStrategy")
    with hand(bench) as worker:
        assert "CursorBatchingStrategy" in worker.idle().reasons["count"]
    assert bench.status() == Status.ACTIVE
    assert bench.rows(NOTE, migration_id)[0][0] == "unknown_batching_strategy"


def test_a_missing_null_index_is_told_and_no_failure(bench):
    bench.connection.execute(NULLS)
    bench.connection.execute("DROP INDEX far.nulls_value_idx")
    migration_id = bench.queue(**OVER_NULLS)
    with hand(bench) as worker:
        assert "no valid index on (value)" in worker.idle().reasons["count"]
        assert bench.rows(NOTE, migration_id)[0][0] == "missing_null_index"
        bench.connection.execute("CREATE INDEX ON far.nulls (value) WHERE value IS NULL")
        worker.work_off()
    assert bench.status() == Status.FINISHED


@pytest.mark.parametrize(
    ("values", "code", "reason"),
    [
        ({"table": "counters"}, FailureErrorCode.INVALID_BBM_TABLE, "not written as schema.table"),
        ({"table": "public."}, FailureErrorCode.INVALID_BBM_TABLE, "not written as schema.table"),
        ({"table": "public.missing"}, FailureErrorCode.INVALID_BBM_TABLE, "'public.missing' does not exist"),
        ({"table": 'public.x"; DROP TABLE counters; --'}, FailureErrorCode.INVALID_BBM_TABLE, "does not exist"),
        ({"column": "missing"}, FailureErrorCode.INVALID_BBM_COLUMN, "'missing' of public.counters does not exist"),
        ({"table": "public.tags", "column": "name"}, FailureErrorCode.INVALID_BBM_COLUMN, "is text"),
        ({"function": "demanding"}, FailureErrorCode.INVALID_BBM_COLUMN, "'colour' of public.counters does not exist"),
    ],
)
def test_what_a_migration_lacks_fails_it_with_its_code_and_no_other_one(bench, values, code, reason):
    bench.fill(10)
    bench.functions["demanding"] = WorkFunction(run=increment, columns=("colour",))
    bench.queue("invalid", **values)
    bench.queue()
    with hand(bench) as worker:
        assert worker.work_off() == [Outcome.FINISHED]
    assert (bench.status("invalid"), bench.one(FAILURE, "invalid")) == (Status.FAILED, code)
    assert reason in bench.rows(EVENTS)[0][1]
    assert bench.status() == Status.FINISHED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("DROP TABLE far.counters", FailureErrorCode.INVALID_BBM_TABLE),
        ("ALTER TABLE far.counters RENAME COLUMN id TO number", FailureErrorCode.INVALID_BBM_COLUMN),
    ],
)
def test_a_table_or_column_that_goes_away_between_two_jobs_fails_the_migration(two_tables, change, code):
    two_tables.queue("gone", table="far.counters", batch_size=10)
    two_tables.queue(batch_size=10)
    with hand(two_tables) as worker:
        worker.execute()
        two_tables.connection.execute(change)
        assert worker.work_off() == [Outcome.FINISHED] * 3
    assert (two_tables.status("gone"), two_tables.one(FAILURE, "gone")) == (Status.FAILED, code)
    assert two_tables.status() == Status.FINISHED


@pytest.mark.parametrize("only_job", [False, True])
def test_a_column_of_the_function_that_goes_away_meanwhile_fails_the_migration_with_its_code(two_tables, only_job):
    two_tables.functions["increment"] = WorkFunction(run=increment, columns=("hits",))
    two_tables.queue("gone", table="far.counters", batch_size=30 if only_job else 10)
    with hand(two_tables, max_attempts=2) as worker:
        claim = worker.claim()
        two_tables.connection.execute("ALTER TABLE far.counters DROP COLUMN hits")
        worker.execute(claim)
        worker.work_off()
    assert two_tables.one(FAILURE, "gone") == FailureErrorCode.INVALID_BBM_COLUMN


def test_a_database_error_of_one_migration_is_told_and_stops_no_other(two_tables):
    two_tables.functions["faulty"] = WorkFunction(run=increment, predicate="1 / (hits - hits) > 0")
    faulty = two_tables.queue("faulty", function="faulty", table="far.counters", status=4)
    two_tables.queue(batch_size=30)
    with hand(two_tables) as worker:
        assert worker.work_off() == [Outcome.FINISHED]
        idle = worker.idle()
    assert idle.reasons == {"faulty": "division by zero"}
    assert two_tables.rows(NOTE, faulty) == [("database_error", "division by zero")]
    assert two_tables.status("faulty") == Status.RUNNING
    assert two_tables.status() == Status.FINISHED


def test_a_migration_that_somebody_else_has_locked_delays_the_others_for_the_lock_s_time_only(two_tables):
    two_tables.queue("locked", table="far.counters")
    two_tables.queue(batch_size=30)
    with (
        two_tables.database.connect() as other,
        hand(two_tables, lock_timeout=0.05) as worker,
        ThreadPoolExecutor(1) as pool,
    ):
        with other.transaction():
            other.execute("SELECT FROM batched_background_migrations WHERE name = 'locked' FOR UPDATE")
            assert names_of([pool.submit(worker.claim).result(timeout=60)]) == ["count"]
        fall_silent(two_tables)
        worker.work_off()
    assert (two_tables.status("locked"), two_tables.status()) == (Status.FINISHED, Status.FINISHED)
