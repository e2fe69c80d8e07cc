"""Columns are filled where they lack something, within the batch and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from background_migrations.work_functions.columns import backfill_column, copy_column
from tests.background_migrations.work_functions.registry_rows import (
    add_manifests,
    pairs,
    run_nulls,
    run_range,
)

NUMBERS = ("public", "numbers")
MAKE_NUMBERS = "CREATE TABLE numbers (id bigint PRIMARY KEY, source integer, target bigint)"
MAKE_PARTITIONED_NUMBERS = """
    CREATE TABLE numbers (id bigint, target bigint) PARTITION BY RANGE (id);
    CREATE TABLE numbers_to_5 PARTITION OF numbers FOR VALUES FROM (1) TO (6);
    CREATE TABLE numbers_to_10 PARTITION OF numbers FOR VALUES FROM (6) TO (11);
    INSERT INTO numbers SELECT generate_series(1, 10)
"""
TARGETS = "SELECT id, target FROM numbers"
ARTIFACTS = "SELECT id, artifact_media_type_id FROM manifests"
CONFIGURATIONS = "SELECT id, configuration_media_type_id FROM manifests"
# A row that is written moves, even if its values stay.
PLACES = "SELECT id, (tableoid, ctid)::text FROM manifests"

COPY = copy_column("source", target="target")
COPY_CONFIGURATION = copy_column("configuration_media_type_id", target="artifact_media_type_id")
BACKFILL = backfill_column("artifact_media_type_id", value_sql="1 + 2")

number = st.none() | st.integers(0, 3)
rows = st.lists(st.tuples(number, number), max_size=12)


def add_numbers(connection, values) -> dict[int, tuple[int | None, int | None]]:
    connection.execute(MAKE_NUMBERS)
    numbered = dict(enumerate(values, start=1))
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO numbers VALUES (%s, %s, %s)", [(id_, *row) for id_, row in numbered.items()])
    return numbered


@given(values=rows, first=st.integers(0, 13), last=st.integers(0, 13))
def test_a_copy_makes_the_rows_of_its_range_equal_and_touches_no_other(shared_connection, values, first, last):
    with shared_connection.transaction(force_rollback=True):
        before = add_numbers(shared_connection, values)
        changed = run_range(shared_connection, COPY, table=NUMBERS, first=first, last=last)
        differing = {id_ for id_, (source, target) in before.items() if first <= id_ <= last and source != target}
        assert changed == len(differing)
        assert pairs(shared_connection, TARGETS) == {
            id_: source if id_ in differing else target for id_, (source, target) in before.items()
        }
        assert run_range(shared_connection, COPY, table=NUMBERS, first=first, last=last) == 0


@given(values=rows, size=st.integers(1, 5))
def test_a_copy_by_the_null_strategy_fills_so_many_rows_at_a_time_until_none_is_left(shared_connection, values, size):
    with shared_connection.transaction(force_rollback=True):
        before = add_numbers(shared_connection, values)
        lacking = sum(target is None and source is not None for source, target in before.values())
        while lacking:
            assert run_nulls(shared_connection, COPY, table=NUMBERS, size=size) == min(size, lacking)
            lacking -= min(size, lacking)
        assert run_nulls(shared_connection, COPY, table=NUMBERS, size=size) == 0
        assert pairs(shared_connection, TARGETS) == {
            id_: source if target is None else target for id_, (source, target) in before.items()
        }


@given(values=rows, first=st.integers(0, 13), last=st.integers(0, 13))
def test_a_backfill_gives_a_value_to_what_is_null_in_its_range(shared_connection, values, first, last):
    backfill = backfill_column("target", value_sql="9")
    with shared_connection.transaction(force_rollback=True):
        before = add_numbers(shared_connection, values)
        null = {id_ for id_, (_source, target) in before.items() if first <= id_ <= last and target is None}
        assert run_range(shared_connection, backfill, table=NUMBERS, first=first, last=last) == len(null)
        assert pairs(shared_connection, TARGETS) == {
            id_: 9 if id_ in null else target for id_, (_source, target) in before.items()
        }
        assert run_range(shared_connection, backfill, table=NUMBERS, first=first, last=last) == 0


def test_a_range_reaches_into_every_partition(connection):
    add_manifests(connection, 20)
    assert run_range(connection, BACKFILL, first=6, last=15) == 10
    assert pairs(connection, ARTIFACTS) == {id_: 3 if 6 <= id_ <= 15 else None for id_ in range(1, 21)}


def test_a_copy_takes_what_is_null_too(connection):
    add_manifests(connection, 8)
    connection.execute("UPDATE manifests SET artifact_media_type_id = 7 WHERE id IN (1, 4)")
    assert run_range(connection, COPY_CONFIGURATION) == 7
    assert pairs(connection, ARTIFACTS) == pairs(connection, CONFIGURATIONS)


@pytest.mark.parametrize("function", [COPY_CONFIGURATION, BACKFILL], ids=["copy", "backfill"])
@pytest.mark.parametrize("run", [run_range, run_nulls])
def test_a_second_call_writes_nothing(connection, function, run):
    add_manifests(connection)
    assert run(connection, function) > 0
    before = pairs(connection, PLACES)
    assert run(connection, function) == 0
    assert pairs(connection, PLACES) == before


@pytest.mark.parametrize("function", [COPY_CONFIGURATION, BACKFILL], ids=["copy", "backfill"])
@pytest.mark.parametrize("run", [run_range, run_nulls])
def test_what_is_rolled_back_leaves_nothing(connection, function, run):
    add_manifests(connection)
    before = pairs(connection, ARTIFACTS)
    with connection.transaction(force_rollback=True):
        assert run(connection, function) > 0
    assert pairs(connection, ARTIFACTS) == before


def test_the_null_strategy_keeps_to_its_size_though_partitions_place_their_rows_alike(connection):
    connection.execute(MAKE_PARTITIONED_NUMBERS)
    places = pairs(connection, "SELECT ctid::text, count(*) FROM numbers GROUP BY ctid")
    assert set(places.values()) == {2}
    backfill = backfill_column("target", value_sql="9")
    assert [run_nulls(connection, backfill, table=NUMBERS, size=4) for _ in range(4)] == [4, 4, 2, 0]


@pytest.mark.parametrize("run", [run_range, run_nulls])
def test_only_rows_that_match_the_predicate_are_filled(connection, run):
    add_manifests(connection, 8)
    connection.execute("UPDATE manifests SET artifact_media_type_id = 7 WHERE id = 5")
    function = backfill_column("artifact_media_type_id", value_sql="3", predicate="id = 2 OR id = 5")
    assert run(connection, function) == 1
    assert pairs(connection, ARTIFACTS) == {**dict.fromkeys(range(1, 9)), 2: 3, 5: 7}


@pytest.mark.parametrize("run", [run_range, run_nulls])
def test_a_percent_sign_means_itself(connection, run):
    add_manifests(connection, 1)
    function = backfill_column("configuration_payload", value_sql="'100 %'", predicate="payload LIKE '{%'")
    assert run(connection, function) == 1
    assert pairs(connection, "SELECT id, configuration_payload FROM manifests") == {1: b"100 %"}


def test_odd_names_are_quoted(connection):
    connection.execute('CREATE TABLE "Odd table" (id bigint, "from" integer, "to; --" bigint)')
    connection.execute('INSERT INTO "Odd table" VALUES (1, 5, NULL)')
    function = copy_column("from", target="to; --")
    assert run_range(connection, function, table=("public", "Odd table")) == 1


def test_what_a_maker_is_told_is_declared():
    copy = copy_column("source", target="target", predicate="source > 1", batch_size=7, sub_batch_size=3)
    assert (copy.columns, copy.predicate, copy.batch_size, copy.sub_batch_size) == (
        ("source", "target"),
        "source > 1",
        7,
        3,
    )
    backfill = backfill_column("column", value_sql="1", predicate="source > 1", batch_size=7, sub_batch_size=3)
    assert (backfill.columns, backfill.predicate, backfill.batch_size, backfill.sub_batch_size) == (
        ("column",),
        "source > 1",
        7,
        3,
    )
