"""What is estimated from statistics, and what is made of it."""

import pytest
from psycopg import sql

from background_migrations.batching import NULL_STRATEGY, Target
from background_migrations.progress import (
    CAPPED_PERCENT,
    Pace,
    Progress,
    estimate_rows,
    measure,
    store_total,
)
from background_migrations.records import read_migration

LARGEST = 2**63 - 1


@pytest.fixture
def bench(quick_bench):
    quick_bench.connection.execute("CREATE SCHEMA far")
    return quick_bench


def make(bench, *statements: str, table: str = "far.rows") -> None:
    """Run these and let the statistics know."""
    for statement in statements:
        bench.connection.execute(statement)
    bench.connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*table.split("."))))


def estimate(bench, *, table: str = "far.rows", column: str = "id", predicate: str = "", **values) -> int:
    """Estimate a migration over a table."""
    migration_id = bench.queue(table=table, column=column, **values)
    target = Target(tuple(table.split(".")), column, predicate)
    return estimate_rows(bench.connection, target, migration=read_migration(bench.connection, migration_id))


# --- Estimates ----------------------------------------------------------------------------------------------------


def test_the_rows_of_a_table_are_estimated(bench):
    make(bench, "CREATE TABLE far.rows AS SELECT generate_series(1, 1000)::bigint AS id")
    assert estimate(bench, min_value=-LARGEST - 1) == 1_000


def test_only_rows_within_the_bounds_are_estimated(bench):
    make(bench, "CREATE TABLE far.rows AS SELECT generate_series(-500, 499)::bigint AS id")
    assert estimate(bench, min_value=-LARGEST - 1, max_value=-251) == pytest.approx(250, abs=25)


def test_an_empty_table_has_no_rows_whatever_the_planner_says(bench):
    make(bench, "CREATE TABLE far.rows (id bigint)")
    assert estimate(bench) == 0


def test_partitions_are_counted_wherever_they_are(bench):
    make(
        bench,
        "CREATE TABLE far.rows (id bigint) PARTITION BY RANGE (id)",
        "CREATE TABLE far.low PARTITION OF far.rows FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE partitions.high PARTITION OF far.rows FOR VALUES FROM (100) TO (1000) PARTITION BY RANGE (id)",
        "CREATE TABLE far.deep PARTITION OF partitions.high FOR VALUES FROM (100) TO (1000)",
        "INSERT INTO far.rows SELECT generate_series(1, 999)",
    )
    assert estimate(bench) == pytest.approx(999, rel=0.02)
    assert estimate(bench, table="far.deep", name="deep") == pytest.approx(900, rel=0.02)


def test_empty_partitions_have_no_rows(bench):
    make(
        bench,
        "CREATE TABLE far.rows (id bigint) PARTITION BY RANGE (id)",
        "CREATE TABLE partitions.part PARTITION OF far.rows FOR VALUES FROM (0) TO (100)",
    )
    assert estimate(bench) == 0


def test_rows_that_are_null_are_estimated_by_their_share(bench):
    make(bench, "CREATE TABLE far.rows AS SELECT nullif(n % 4, 0)::bigint AS id FROM generate_series(1, 1000) AS n")
    nulls = {"strategy": NULL_STRATEGY, "min_value": 0, "max_value": 0}
    assert estimate(bench, **nulls) == pytest.approx(250, abs=10)
    make(bench, "UPDATE far.rows SET id = 1")
    assert estimate(bench, name="again", **nulls) <= 1


def test_only_rows_that_match_the_predicate_are_estimated(bench):
    make(bench, "CREATE TABLE far.rows AS SELECT n::bigint AS id, n % 10 AS state FROM generate_series(1, 1000) AS n")
    assert estimate(bench, predicate="state = 0") == pytest.approx(100, abs=10)
    assert estimate(bench, name="any", predicate="state = 0 OR state > 4") == pytest.approx(600, abs=90)


def test_a_predicate_may_use_any_operator(bench):
    make(bench, "CREATE TABLE far.rows AS SELECT n::bigint AS id FROM generate_series(1, 1000) AS n")
    assert 0 < estimate(bench, predicate="id % 2 = 0") < 1_000


def test_a_table_that_was_never_analysed_has_an_estimate(bench):
    bench.connection.execute("CREATE TABLE far.rows AS SELECT generate_series(1, 1000)::bigint AS id")
    assert estimate(bench) > 0


def test_the_estimate_is_kept_beside_the_migration(bench):
    migration_id = bench.queue()
    store_total(bench.connection, migration_id, total=631)
    assert read_migration(bench.connection, migration_id).total_tuple_count == 631


# --- What is made of them -----------------------------------------------------------------------------------------

PACE = Pace(rows=100.0, seconds=3.0, interval=2.0, parallel=1)


def test_progress_is_the_share_of_rows_and_the_rate_counts_pauses():
    found = measure(total=1_000, done=250, finished=False, pace=PACE)
    assert found == Progress(25.0, capped=False, rate=20.0, seconds_left=37.5)


def test_jobs_side_by_side_go_faster():
    pace = Pace(rows=100.0, seconds=3.0, interval=2.0, parallel=4)
    assert measure(total=1_000, done=200, finished=False, pace=pace).seconds_left == 10


@pytest.mark.parametrize("done", [1_000, 5_000])
def test_an_estimate_that_is_used_up_is_not_the_end(done):
    found = measure(total=1_000, done=done, finished=False, pace=PACE)
    assert found == Progress(CAPPED_PERCENT, capped=True, rate=20.0, seconds_left=None)


@pytest.mark.parametrize(("total", "done"), [(1_000, 7), (None, 7), (0, 0)])
def test_what_is_finished_is_done_whatever_was_estimated(total, done):
    assert measure(total=total, done=done, finished=True, pace=PACE) == Progress(
        100.0, capped=False, rate=None, seconds_left=0.0
    )


@pytest.mark.parametrize("total", [None, 0])
def test_without_an_estimate_only_the_rate_is_known(total):
    found = measure(total=total, done=70, finished=False, pace=PACE)
    assert found == Progress(None, capped=False, rate=20.0, seconds_left=None)


@pytest.mark.parametrize("pace", [None, Pace(0.0, 3.0, 2.0, 1), Pace(100.0, 0.0, 0.0, 1)])
def test_without_a_rate_the_time_left_is_not_known(pace):
    found = measure(total=1_000, done=250, finished=False, pace=pace)
    assert found == Progress(25.0, capped=False, rate=None, seconds_left=None)
