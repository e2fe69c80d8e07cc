"""Manifests with a configuration get the wider twin of its media type, by either strategy, where that column exists."""

import pytest

from background_migrations.batching import Target, any_null
from background_migrations.catalog import check_target
from background_migrations.errors import InvalidColumnError
from background_migrations.work_functions import WORK_FUNCTIONS
from tests.background_migrations.work_functions.registry_rows import add_manifests, pairs, run_nulls, run_range

COPY = WORK_FUNCTIONS["copyManifestConfigMediaTypeIDToNewBigIntColumn"]
TWIN = "configuration_media_type_id_convert_to_bigint"
ADD_TWIN = f"ALTER TABLE manifests ADD COLUMN {TWIN} bigint"
TWINS = f"SELECT id, {TWIN} FROM manifests"
MEDIA_TYPES = "SELECT id, configuration_media_type_id FROM manifests"


@pytest.fixture
def partition(connection):
    """The partition that holds manifests 5, 10, 15 and 20 of 20, with the column of later releases."""
    connection.execute(ADD_TWIN)
    add_manifests(connection, 20)
    ((name,),) = connection.execute(
        "SELECT relname FROM manifests m JOIN pg_class c ON c.oid = m.tableoid WHERE id = 5"
    )
    return ("partitions", name)


def test_twins_are_filled_in_the_range_alone(connection, partition):
    assert run_range(connection, COPY, table=partition, first=6, last=15) == 2
    assert {id_: twin for id_, twin in pairs(connection, TWINS).items() if twin} == {10: 2, 15: 3}


def test_a_manifest_without_configuration_stays_as_it_is(connection, partition):
    assert run_range(connection, COPY, table=partition) == 3
    assert pairs(connection, TWINS)[20] is None
    assert run_range(connection, COPY, table=partition) == 0


def test_the_null_strategy_comes_to_an_end(connection, partition):
    target = Target(partition, TWIN, COPY.predicate)
    assert any_null(connection, target)
    assert [run_nulls(connection, COPY, table=partition, size=2) for _ in range(3)] == [2, 1, 0]
    assert not any_null(connection, target)


def test_the_whole_table_can_be_done_too(connection, partition):
    assert run_range(connection, COPY) == 15
    assert pairs(connection, TWINS) == pairs(connection, MEDIA_TYPES)


def test_a_registry_without_the_column_is_told_so(connection):
    with pytest.raises(InvalidColumnError, match=TWIN):
        check_target(connection, Target(("partitions", "manifests_p_0"), "id"), columns=COPY.columns)
