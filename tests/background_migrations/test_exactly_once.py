"""Whatever the rows, the bounds, the sizes, the faults and the order of commits: each row is done exactly once."""

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from background_migrations import services
from background_migrations.work import WorkFunction
from tests.background_migrations.lanes import Crew, Fault, crew

SMALLEST, LARGEST = -(2**63), 2**63 - 1
TABLE = """
    CREATE SCHEMA far;
    CREATE TABLE far.numbers (value bigint NOT NULL, wanted boolean NOT NULL, hits integer NOT NULL DEFAULT 0);
    CREATE INDEX ON far.numbers (value);
"""
EMPTY = """
    DELETE FROM far.numbers;
    DELETE FROM batched_background_migration_jobs;
    DELETE FROM batched_background_migrations;
    DELETE FROM registry_admin.background_migration_job_progress;
    DELETE FROM registry_admin.background_migration_controls;
"""
COUNT = "UPDATE far.numbers SET hits = hits + 1 WHERE value BETWEEN %s AND %s AND (wanted OR NOT %s)"
JOBS = "SELECT id, min_value, max_value FROM batched_background_migration_jobs ORDER BY id"
PIECES = """
    SELECT min_value, max_value FROM registry_admin.background_migration_job_progress
    WHERE job_id = %s ORDER BY min_value
"""
NAME = "numbers"


@dataclass(frozen=True)
class Case:
    """A table, a migration over it, and what happens meanwhile."""

    rows: list[tuple[int, bool]]  # value; whether it matches the predicate
    bounds: tuple[int, int]
    batch_size: int
    sub_batch_size: int
    has_predicate: bool
    attempts: int
    lanes: int
    faults: list[Fault]
    events: list[int | str]  # the number of the lane that goes on, or something else


numbers = st.one_of(
    st.integers(-12, 12), st.integers(SMALLEST, SMALLEST + 3), st.integers(LARGEST - 3, LARGEST), st.integers(-99, 99)
)
bounds = st.one_of(
    st.tuples(numbers, numbers).map(sorted).map(tuple), st.just((SMALLEST, LARGEST)), st.just((-99, LARGEST))
)
cases = st.builds(
    Case,
    rows=st.lists(st.tuples(numbers, st.booleans()), max_size=30),
    bounds=bounds,
    batch_size=st.integers(1, 9),
    sub_batch_size=st.integers(0, 4),
    has_predicate=st.booleans(),
    attempts=st.integers(1, 3),
    lanes=st.integers(1, 3),
    faults=st.lists(st.sampled_from(Fault), max_size=15),
    events=st.lists(
        st.integers(0, 2) | st.sampled_from(["pause", "resume", "kill", "give back", "sleep", "resize"]), max_size=60
    ),
)


@pytest.fixture
def bench(quick_bench):
    quick_bench.connection.execute(TABLE)
    return quick_bench


def prepare(bench, case: Case) -> None:
    """Make the table and the migration of a case."""

    def count(cursor, batch, context) -> int:
        return cursor.execute(COUNT, (batch.min_value, batch.max_value, case.has_predicate)).rowcount

    bench.functions["count"] = WorkFunction(run=count, predicate="wanted" if case.has_predicate else "")
    bench.connection.execute(EMPTY)
    with bench.connection.cursor() as cursor:
        cursor.executemany("INSERT INTO far.numbers (value, wanted) VALUES (%s, %s)", case.rows)
    first, last = case.bounds
    names = {"function": "count", "table": "far.numbers", "column": "value"}
    migration_id = bench.queue(NAME, batch_size=case.batch_size, min_value=first, max_value=last, **names)
    bench.control(migration_id, max_parallel_jobs=case.lanes, sub_batch_size=case.sub_batch_size)


def happen(bench, team: Crew, event: int | str) -> None:
    """Let one thing happen between two commits."""
    match event:
        case int():
            team.advance(event)
        case "pause":
            services.pause(bench.connection, None, actor="tests")
        case "resume":
            services.resume(bench.connection, None, actor="tests")
        case "kill":
            team.replace(0)
        case "give back":
            team.give_back(0)
        case "sleep":
            team.sleep()
        case "resize":
            services.set_controls(bench.connection, NAME, {"batch_size": 2, "sub_batch_size": 1}, actor="tests")


def covers(ranges, first: int, last: int) -> bool:
    """Whether these ranges follow one another from the first value to the last, without gap or overlap."""
    starts = [first, *(end + 1 for _, end in ranges)]
    return starts == [*(start for start, _ in ranges), last + 1]


# Two rows at the very end, each done in a transaction of its own: there is no value behind them.
AT_THE_END = Case(
    rows=[(LARGEST, True)] * 2,
    bounds=(SMALLEST, LARGEST),
    batch_size=9,
    sub_batch_size=1,
    has_predicate=False,
    attempts=1,
    lanes=1,
    faults=[],
    events=[],
)
# One lane is frozen in the middle of its job; another one takes it over and is frozen, too, when the first goes on.
FROZEN = Case(
    rows=[(value, True) for value in range(9)],
    bounds=(0, 8),
    batch_size=9,
    sub_batch_size=2,
    has_predicate=False,
    attempts=3,
    lanes=2,
    faults=[],
    events=[*[0] * 5, "sleep", *[1] * 4, *[0] * 5],
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(case=AT_THE_END)
@example(case=FROZEN)
@given(case=cases)
def test_every_row_within_the_bounds_is_done_exactly_once(bench, case):
    # One database for all examples: `prepare` empties it.
    prepare(bench, case)
    with crew(bench, lanes=case.lanes, rules=bench.rules(max_attempts=case.attempts), faults=case.faults) as team:
        for event in case.events:
            happen(bench, team, event)
        team.finish(NAME)
    first, last = case.bounds
    expected = [
        (value, wanted, int(first <= value <= last and (wanted or not case.has_predicate)))
        for value, wanted in case.rows
    ]
    assert sorted(bench.rows("SELECT value, wanted, hits FROM far.numbers")) == sorted(expected)
    jobs = bench.rows(JOBS)
    assert covers([job[1:] for job in jobs], first, last)
    for job_id, *ends in jobs:
        assert covers(bench.rows(PIECES, job_id), *ends)
