"""Blobs without an id get the next ones of the sequence, so many at a time, and nobody waits."""

import pytest

from background_migrations.work_functions import WORK_FUNCTIONS
from tests.background_migrations.work_functions.registry_rows import (
    ADD_REPOSITORIES,
    add_blobs,
    pairs,
    run_nulls,
)

POPULATE = WORK_FUNCTIONS["populateBlobsIDColumn"]
PARTITION = ("partitions", "blobs_p_5")
IDS = "SELECT digest, id FROM partitions.blobs_p_5"
ADD_REPOSITORY_BLOB = """
    INSERT INTO repository_blobs (top_level_namespace_id, repository_id, blob_digest)
    SELECT 1, 1, digest FROM partitions.blobs_p_5 ORDER BY digest LIMIT 1
"""
ROWS_SCANNED = """
    SELECT 1, seq_tup_read FROM pg_stat_xact_user_tables WHERE schemaname = 'partitions' AND relname = 'blobs_p_5'
"""
WORK_TABLES = "DELETE FROM top_level_namespaces; DELETE FROM blobs"


def next_id(connection) -> int:
    ((value,),) = connection.execute("SELECT nextval('public.blobs_id_seq')")
    return value


def ids_given(connection) -> list[int]:
    return sorted(id_ for id_ in pairs(connection, IDS).values() if id_ is not None)


@pytest.fixture
def connections(database):
    """Three connections that wait for no lock longer than can be borne, to a partition with 50 blobs."""
    with database.connect() as first, database.connect() as second, database.connect() as third:
        for connection in (first, second, third):
            connection.execute("SET lock_timeout = '5s'")
        first.execute(ADD_REPOSITORIES)
        add_blobs(first, 50, partition=5)
        yield first, second, third
        first.execute(WORK_TABLES)


def test_as_many_blobs_as_asked_for_get_the_next_ids(connection):
    add_blobs(connection, 30, partition=5)
    start = next_id(connection)
    assert run_nulls(connection, POPULATE, table=PARTITION, size=12) == 12
    assert ids_given(connection) == [*range(start + 1, start + 13)]


def test_batches_end_when_no_blob_lacks_an_id(connection):
    add_blobs(connection, 30, partition=5)
    start = next_id(connection)
    assert [run_nulls(connection, POPULATE, table=PARTITION, size=12) for _ in range(4)] == [12, 12, 6, 0]
    assert ids_given(connection) == [*range(start + 1, start + 31)]


def test_an_id_once_given_stays(connection):
    add_blobs(connection, 30, partition=5)
    run_nulls(connection, POPULATE, table=PARTITION, size=12)
    before = {digest: id_ for digest, id_ in pairs(connection, IDS).items() if id_ is not None}
    run_nulls(connection, POPULATE, table=PARTITION)
    assert before.items() <= pairs(connection, IDS).items()


def test_other_partitions_are_left_alone(connection):
    add_blobs(connection, 10, partition=5)
    add_blobs(connection, 10, partition=6)
    assert run_nulls(connection, POPULATE, table=PARTITION) == 10
    assert pairs(connection, "SELECT id, count(*) FROM partitions.blobs_p_6 GROUP BY id") == {None: 10}


def test_the_parent_table_can_be_done_as_a_whole(connection):
    add_blobs(connection, 10, partition=5)
    add_blobs(connection, 10, partition=6)
    assert [run_nulls(connection, POPULATE, table=("public", "blobs"), size=8) for _ in range(4)] == [8, 8, 4, 0]
    assert pairs(connection, "SELECT count(DISTINCT id), count(*) FROM blobs") == {20: 20}


def test_new_blobs_go_on_from_the_same_sequence(connection):
    add_blobs(connection, 10, partition=5)
    run_nulls(connection, POPULATE, table=PARTITION)
    new = connection.execute("INSERT INTO blobs (digest, size, media_type_id) VALUES ('new', 1, 1) RETURNING id")
    assert new.fetchall() == [(max(ids_given(connection)) + 1,)]


def test_a_partition_without_a_default_is_filled_too(connection):
    add_blobs(connection, 10, partition=5)
    connection.execute("ALTER TABLE partitions.blobs_p_5 ALTER COLUMN id DROP DEFAULT")
    assert run_nulls(connection, POPULATE, table=PARTITION) == 10
    assert len(ids_given(connection)) == 10


def test_what_is_rolled_back_leaves_nothing(connection):
    add_blobs(connection, 10, partition=5)
    with connection.transaction(force_rollback=True):
        assert run_nulls(connection, POPULATE, table=PARTITION) == 10
    assert ids_given(connection) == []


def test_parallel_calls_take_different_blobs_and_wait_for_nobody(connections):
    first, second, third = connections
    with first.transaction(), second.transaction():
        assert run_nulls(first, POPULATE, table=PARTITION, size=30) == 30
        assert run_nulls(second, POPULATE, table=PARTITION, size=30) == 20
        assert run_nulls(third, POPULATE, table=PARTITION, size=30) == 0
    assert len(set(ids_given(third))) == 50


def test_what_a_killed_call_held_is_taken_by_the_next(connections):
    first, second, _third = connections
    with first.transaction(force_rollback=True):
        run_nulls(first, POPULATE, table=PARTITION, size=30)
    assert run_nulls(second, POPULATE, table=PARTITION, size=50) == 50


def test_a_blob_that_is_being_deleted_is_passed_over(connections):
    first, second, _third = connections
    with first.transaction():
        first.execute("DELETE FROM partitions.blobs_p_5 WHERE digest = (SELECT min(digest) FROM partitions.blobs_p_5)")
        assert run_nulls(second, POPULATE, table=PARTITION) == 49
    assert None not in pairs(second, IDS).values()


def test_images_can_be_pushed_meanwhile(connections):
    first, second, _third = connections
    with first.transaction():
        assert run_nulls(first, POPULATE, table=PARTITION) == 50
        second.execute(ADD_REPOSITORY_BLOB)  # its foreign key locks a blob


def test_a_blob_that_is_being_pushed_is_not_passed_over(connections):
    first, second, _third = connections
    with second.transaction():
        second.execute(ADD_REPOSITORY_BLOB)
        assert run_nulls(first, POPULATE, table=PARTITION) == 50


def test_a_batch_does_not_scan_the_table_even_when_its_statistics_are_old(connection):
    add_blobs(connection, 4000, partition=5)
    connection.execute("ANALYZE partitions.blobs_p_5")  # says for ever after: no blob has an id
    run_nulls(connection, POPULATE, table=PARTITION, size=3000)
    scanned = pairs(connection, ROWS_SCANNED)
    assert run_nulls(connection, POPULATE, table=PARTITION, size=100) == 100
    assert pairs(connection, ROWS_SCANNED) == scanned
