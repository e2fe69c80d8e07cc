"""Where batches start and end, and whether anything is NULL, on a real table."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from background_migrations.batching import Bounds, Target, any_null, next_bounds

SMALLEST, LARGEST = -(2**63), 2**63 - 1
TABLE = 'CREATE TEMPORARY TABLE "Odd name" ("the value" bigint, wanted boolean NOT NULL)'
FILL = 'INSERT INTO "Odd name" SELECT value, coalesce(value = ANY(%s), false) FROM unnest(%s::bigint[]) AS value'
TARGET = Target(("pg_temp", "Odd name"), "the value")
WANTED = Target(TARGET.table, TARGET.column, "wanted")


@pytest.fixture
def connection(shared_database):
    with shared_database.connect() as connection:
        connection.execute(TABLE)
        yield connection


def fill(connection, *values: int | None, wanted: tuple[int, ...] = ()) -> None:
    """Let the table hold these rows and no others."""
    connection.execute('TRUNCATE "Odd name"')
    connection.execute(FILL, (list(wanted), list(values)))


@pytest.mark.parametrize(
    ("values", "asked", "expected"),
    [
        ((1, 2, 3, 4), (1, 9, 2), Bounds(1, 2, last=False)),
        ((1, 2, 3, 4), (3, 9, 2), Bounds(3, 9, last=True)),  # no row is left behind it
        ((1, 2, 3, 4), (1, 9, 4), Bounds(1, 9, last=True)),
        ((1, 2, 3, 4), (1, 9, 5), Bounds(1, 9, last=True)),
        ((1, 2, 3, 4), (1, 3, 3), Bounds(1, 3, last=True)),  # the next row lies outside
        ((1, 2, 3, 4), (1, 3, 2), Bounds(1, 2, last=False)),
        ((1, 5, 100), (-7, 200, 1), Bounds(-7, 1, last=False)),  # from the start on, row or not
        ((1, 5, 100), (2, 200, 1), Bounds(2, 5, last=False)),
        ((-9, -5, -1), (-9, -1, 2), Bounds(-9, -5, last=False)),
        ((), (1, 9, 3), Bounds(1, 9, last=True)),
        ((20, 30), (1, 9, 1), Bounds(1, 9, last=True)),
        ((5,), (5, 5, 1), Bounds(5, 5, last=True)),
        ((3, 3, 3, 4), (1, 9, 2), Bounds(1, 3, last=False)),  # rows of one value stay together
        ((3, 3, 3), (1, 3, 2), Bounds(1, 3, last=True)),
        ((1, 3, 3), (1, 3, 2), Bounds(1, 3, last=True)),
        ((None, None, 2, 3), (1, 9, 1), Bounds(1, 2, last=False)),
        ((SMALLEST, 0, LARGEST), (SMALLEST, LARGEST, 1), Bounds(SMALLEST, SMALLEST, last=False)),
        ((SMALLEST, 0, LARGEST), (SMALLEST, LARGEST, 2), Bounds(SMALLEST, 0, last=False)),
        ((SMALLEST, 0, LARGEST), (1, LARGEST, 1), Bounds(1, LARGEST, last=True)),
        ((LARGEST, LARGEST), (1, LARGEST, 1), Bounds(1, LARGEST, last=True)),
    ],
)
def test_a_batch_has_its_size_and_the_last_one_reaches_to_the_limit(connection, values, asked, expected):
    fill(connection, *values)
    start, limit, size = asked
    assert next_bounds(connection, TARGET, start=start, limit=limit, size=size) == expected


def test_only_rows_that_match_the_predicate_count(connection):
    fill(connection, *range(1, 100), wanted=(10, 20, 30, 40))
    assert next_bounds(connection, WANTED, start=1, limit=99, size=3) == Bounds(1, 30, last=False)
    assert next_bounds(connection, WANTED, start=31, limit=99, size=3) == Bounds(31, 99, last=True)
    assert next_bounds(connection, WANTED, start=1, limit=35, size=3) == Bounds(1, 35, last=True)


def test_a_predicate_with_or_is_one_condition(connection):
    fill(connection, 1, 2, 3, 50, 60, wanted=(1,))
    target = Target(TARGET.table, TARGET.column, 'wanted OR "the value" > 2')
    assert next_bounds(connection, target, start=1, limit=9, size=1) == Bounds(1, 1, last=False)
    assert next_bounds(connection, target, start=1, limit=9, size=2) == Bounds(1, 9, last=True)


def test_a_predicate_may_use_any_operator(connection):
    fill(connection, 1, 2, 3, 4, None)
    even = Target(TARGET.table, TARGET.column, '"the value" % 2 = 0')
    assert next_bounds(connection, even, start=1, limit=9, size=1) == Bounds(1, 2, last=False)
    assert not any_null(connection, even)


@given(
    values=st.lists(st.integers(-40, 40) | st.sampled_from([SMALLEST, LARGEST]), max_size=40),
    ends=st.tuples(st.integers(-50, 50), st.integers(-50, 50)).map(sorted) | st.just([SMALLEST, LARGEST]),
    size=st.integers(1, 8),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_cover_the_range_one_after_the_other(connection, values, ends, size):
    fill(connection, *values)  # one table for all examples
    start, limit = ends
    while True:
        bounds = next_bounds(connection, TARGET, start=start, limit=limit, size=size)
        held = [value for value in values if bounds.min_value <= value <= bounds.max_value]
        assert bounds.min_value == start
        assert len(held) <= size or sum(value < max(held) for value in held) < size
        if bounds.last:
            break
        assert len(held) >= size
        start = bounds.max_value + 1
    assert bounds.max_value == limit


def test_null_is_found_among_the_rows_that_match(connection):
    fill(connection, 1, 2, wanted=(1, 2))
    assert not any_null(connection, TARGET)
    fill(connection, 1, None)
    assert any_null(connection, TARGET)
    assert not any_null(connection, WANTED)  # its row is not wanted
    connection.execute('UPDATE "Odd name" SET wanted = true')
    assert any_null(connection, WANTED)


def test_an_empty_table_holds_no_null(connection):
    assert not any_null(connection, TARGET)
