"""A sample: what one batch would take, with everything taken back."""

import pytest
from psycopg import sql

from background_migrations.batching import NULL_STRATEGY
from background_migrations.errors import GitLabBusyError, UnknownWorkFunctionError
from background_migrations.locks import GITLAB_KEY
from background_migrations.sampling import Sampler
from background_migrations.sessions import Session
from background_migrations.status import Status
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import hand
from tests.background_migrations.conftest import increment

EVERYTHING = """
    SELECT (SELECT jsonb_agg(to_jsonb(m)) FROM batched_background_migrations m),
        (SELECT jsonb_agg(to_jsonb(j)) FROM batched_background_migration_jobs j),
        (SELECT jsonb_agg(to_jsonb(p)) FROM registry_admin.background_migration_job_progress p),
        (SELECT jsonb_agg(to_jsonb(e)) FROM registry_admin.background_migration_events e),
        (SELECT jsonb_agg(to_jsonb(c)) FROM registry_admin.background_migration_controls c),
        (SELECT jsonb_agg(to_jsonb(t)) FROM counters t)
"""
NULLS = """
    CREATE SCHEMA far;
    CREATE TABLE far.nulls (id bigint PRIMARY KEY, value bigint);
    CREATE INDEX ON far.nulls (value) WHERE value IS NULL;
    INSERT INTO far.nulls SELECT generate_series(1, 100);
    ANALYZE far.nulls;
"""
FILL_NULLS = "UPDATE far.nulls SET value = id WHERE id IN (SELECT id FROM far.nulls WHERE value IS NULL LIMIT %s)"


@pytest.fixture
def bench(quick_bench):
    quick_bench.fill(1_000)
    return quick_bench


def sample(bench, migration_id, *, rows=None, others=None, **rules):
    session = Session({"registry": bench.database.connect, **(others or {})})
    try:
        sampler = Sampler(session=session, functions=bench.functions, rules=bench.rules(**rules), options={})
        return sampler.sample(migration_id, rows=rows)
    finally:
        session.close()


def uses(bench, work, **declared):
    bench.functions["increment"] = WorkFunction(run=work, **declared)


def test_a_sample_says_what_one_batch_takes_and_changes_nothing(bench):
    migration_id = bench.queue(batch_size=100)
    before = bench.rows(EVERYTHING)
    found = sample(bench, migration_id)
    assert bench.rows(EVERYTHING) == before
    assert (found.min_value, found.max_value, found.rows) == (1, 100, 100)
    assert found.seconds >= found.statement_seconds > 0
    assert found.statement.startswith('UPDATE "public"."counters" SET hits = hits + 1 WHERE "id" BETWEEN')
    assert found.plan.startswith("Update on counters")
    assert "Execution Time" in found.plan
    assert "Buffers" in found.plan


@pytest.mark.parametrize(("rows", "function", "expected"), [(None, 0, 100), (None, 30, 30), (7, 30, 7), (250, 0, 250)])
def test_its_size_is_what_was_asked_for_or_one_sub_batch_or_the_batch(bench, rows, function, expected):
    uses(bench, increment, sub_batch_size=function)
    assert sample(bench, bench.queue(batch_size=100), rows=rows).rows == expected


def test_controls_say_how_large_a_sub_batch_is(bench):
    migration_id = bench.queue(batch_size=100)
    bench.control(migration_id, sub_batch_size=20)
    assert sample(bench, migration_id).rows == 20


def test_it_goes_on_where_the_migration_is(bench):
    migration_id = bench.queue(batch_size=100)
    with hand(bench) as worker:
        worker.execute()
    found = sample(bench, migration_id)
    assert (found.min_value, found.max_value) == (101, 200)
    assert bench.hits() == {1: 100, 0: 900}


def test_of_a_migration_that_is_done_it_samples_the_beginning(bench):
    migration_id = bench.queue(batch_size=100, max_value=1_000)
    with hand(bench) as worker:
        worker.work_off()
    assert sample(bench, migration_id).min_value == 1
    assert bench.status() == Status.FINISHED


@pytest.mark.parametrize("status", [Status.PAUSED, Status.FAILED, Status.RUNNING])
def test_a_migration_is_sampled_in_any_status(bench, status):
    assert sample(bench, bench.queue(status=int(status))).rows == 100
    assert bench.status() == status


def test_the_estimate_for_everything_counts_rows_and_pauses(bench):
    migration_id = bench.queue(batch_size=100)
    found = sample(bench, migration_id)
    assert 9 < found.total_seconds / found.seconds < 15  # the planner counts the pages that a sample leaves behind
    assert 9 < sample(bench, migration_id, interval=60.0).total_seconds / 60 < 15


def test_where_nothing_is_left_no_time_is_known(bench):
    found = sample(bench, bench.queue(min_value=5_000))
    assert (found.rows, found.total_seconds) == (0, None)


def test_rows_of_the_null_strategy_stay_null(bench):
    bench.connection.execute(NULLS)
    uses(bench, lambda cursor, batch, context: cursor.execute(FILL_NULLS, (batch.size,)).rowcount)
    over = {"table": "far.nulls", "column": "value", "strategy": NULL_STRATEGY, "min_value": 0, "max_value": 0}
    found = sample(bench, bench.queue(batch_size=40, **over))
    assert (found.min_value, found.max_value, found.rows) == (0, 0, 40)
    assert found.total_seconds == pytest.approx(100 / 40 * found.seconds)
    assert bench.one("SELECT count(*) FROM far.nulls WHERE value IS NULL") == 100


def test_external_work_is_taken_back_in_its_own_database(bench, scratch_database):
    with scratch_database.connect() as connection:
        connection.execute("CREATE TABLE counters (id bigint PRIMARY KEY, hits integer NOT NULL DEFAULT 0)")
        connection.execute("INSERT INTO counters SELECT generate_series(1, 60)")
        uses(bench, increment, database="rails")
        found = sample(bench, bench.queue(batch_size=20), others={"rails": scratch_database.connect})
        assert (found.min_value, found.max_value, found.rows) == (1, 20, 20)
        assert connection.execute("SELECT DISTINCT hits FROM counters").fetchall() == [(0,)]
    assert bench.hits() == {0: 1_000}


def test_external_work_on_the_registry_s_database_is_taken_back_too(bench):
    uses(bench, increment, calls_network=True)
    assert sample(bench, bench.queue()).rows == 100
    assert bench.hits() == {0: 1_000}


def test_the_slowest_of_several_statements_is_shown(bench):
    def work(cursor, batch, context):
        cursor.execute("SELECT 'quick'")
        cursor.execute("SELECT pg_sleep(0.05), 'slow'")
        return increment(cursor, batch, context)

    uses(bench, work)
    found = sample(bench, bench.queue())
    assert found.statement == "SELECT pg_sleep(0.05), 'slow'"
    assert found.plan.startswith("Result")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_sleep(0.05) -- a reason\n , id FROM counters WHERE id = %s",
        "/* a reason */ SELECT pg_sleep(0.05), 'two  spaces', '{}' FROM counters WHERE id = %s",
        sql.SQL("SELECT pg_sleep(0.05), {} FROM counters WHERE id = %s").format(sql.Literal("100 % and {}")),
    ],
)
def test_a_statement_is_explained_as_it_was_run(bench, statement):
    if isinstance(statement, sql.Composed):
        statement = sql.SQL(statement.as_string().replace("100 %", "100 %%"))
    uses(bench, lambda cursor, batch, context: cursor.execute(statement, (7,)).rowcount)
    assert "Index Cond: (id = " in sample(bench, bench.queue()).plan


def test_a_statement_that_has_no_plan_is_shown_without_one(bench):
    def work(cursor, batch, context):
        cursor.execute("DO $$ BEGIN PERFORM pg_sleep(0.05); END $$")
        return increment(cursor, batch, context)

    uses(bench, work)
    found = sample(bench, bench.queue())
    assert (found.rows, found.plan) == (100, "")
    assert found.statement.startswith("DO")


def test_a_function_without_a_statement_has_no_plan(bench):
    uses(bench, lambda cursor, batch, context: 0)
    found = sample(bench, bench.queue())
    assert (found.rows, found.statement, found.plan) == (0, "", "")


def test_what_a_function_raises_is_raised_and_taken_back(bench):
    def work(cursor, batch, context):
        increment(cursor, batch, context)
        raise ValueError("it does not work")

    uses(bench, work)
    with pytest.raises(ValueError, match="it does not work"):
        sample(bench, bench.queue())
    assert bench.hits() == {0: 1_000}


def test_an_unknown_work_function_is_told(bench):
    with pytest.raises(UnknownWorkFunctionError, match="'fromTheNextRelease'"):
        sample(bench, bench.queue(function="fromTheNextRelease"))


def test_while_gitlab_s_worker_is_at_work_nothing_is_sampled(bench):
    migration_id = bench.queue()
    with bench.database.connect() as gitlab, gitlab.transaction():
        gitlab.execute("SELECT pg_advisory_xact_lock(%s)", (GITLAB_KEY,))
        with pytest.raises(GitLabBusyError):
            sample(bench, migration_id)


def test_a_sample_takes_no_longer_than_a_job_may(bench):
    uses(bench, lambda cursor, batch, context: cursor.execute("SELECT pg_sleep(60)").rowcount)
    with pytest.raises(Exception, match="statement timeout"):
        sample(bench, bench.queue(), job_timeout=0.05)


def test_a_sample_of_external_work_takes_no_longer_either(bench):
    uses(bench, lambda cursor, batch, context: cursor.execute("SELECT pg_sleep(2)").rowcount, database="rails")
    with pytest.raises(Exception, match="statement timeout"):
        sample(bench, bench.queue(), others={"rails": bench.database.connect}, job_timeout=0.05)


def test_a_sample_and_a_worker_do_not_get_into_each_other_s_way(bench):
    migration_id = bench.queue(batch_size=100)
    with hand(bench) as worker:
        claim = worker.claim()
        assert sample(bench, migration_id).min_value == 101
        worker.execute(claim)
    assert bench.hits() == {1: 100, 0: 900}
