"""Blobs get the wider twin of their media type, by either strategy, where that column exists."""

import pytest

from background_migrations.batching import Target
from background_migrations.catalog import check_target
from background_migrations.errors import InvalidColumnError
from background_migrations.work_functions import WORK_FUNCTIONS
from tests.background_migrations.work_functions.registry_rows import add_blobs, pairs, run_nulls, run_range

COPY = WORK_FUNCTIONS["copyBlobMediaTypeIDToNewBigIntColumn"]
TWIN = "media_type_id_convert_to_bigint"
PARTITION = ("partitions", "blobs_p_5")
TWINS = f"SELECT id, {TWIN} FROM partitions.blobs_p_5"
MEDIA_TYPES = "SELECT id, media_type_id FROM blobs"
NUMBER = """
    UPDATE blobs SET id = number
    FROM (SELECT digest, row_number() OVER (ORDER BY digest) AS number FROM blobs) AS numbered
    WHERE blobs.digest = numbered.digest
"""


@pytest.fixture(params=["NOT NULL DEFAULT 0", "NULL"])
def column(request, connection):
    """The column of later releases, empty in ten numbered blobs."""
    connection.execute(f"ALTER TABLE blobs ADD COLUMN {TWIN} bigint {request.param}")
    add_blobs(connection, 10, partition=5)
    connection.execute(NUMBER)
    return request.param


def test_twins_are_filled_in_the_range_alone(connection, column):
    media_types, empty = pairs(connection, MEDIA_TYPES), pairs(connection, TWINS)[1]
    assert run_range(connection, COPY, table=PARTITION, first=3, last=7) == 5
    assert pairs(connection, TWINS) == {id_: media_types[id_] if 3 <= id_ <= 7 else empty for id_ in media_types}


def test_all_twins_are_filled_once(connection, column):
    assert run_range(connection, COPY, table=PARTITION) == 10
    assert run_range(connection, COPY, table=PARTITION) == 0
    assert pairs(connection, TWINS) == pairs(connection, MEDIA_TYPES)


@pytest.mark.parametrize("column", ["NULL"], indirect=True)
def test_the_null_strategy_fills_them_too(connection, column):
    assert [run_nulls(connection, COPY, table=PARTITION, size=6) for _ in range(3)] == [6, 4, 0]
    assert pairs(connection, TWINS) == pairs(connection, MEDIA_TYPES)


def test_a_registry_without_the_column_is_told_so(connection):
    with pytest.raises(InvalidColumnError, match=TWIN):
        check_target(connection, Target(PARTITION, "id"), columns=COPY.columns)
