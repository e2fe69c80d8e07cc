"""Rows that point at nothing go; all others stay."""

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from background_migrations.work_functions.orphans import delete_orphans
from tests.background_migrations.work_functions.registry_rows import MANIFESTS, add_manifests, run_range, triggers_off

TAGS = ("public", "tags")
CHILDREN = ("public", "children")
MANIFEST_KEY = {"top_level_namespace_id": "top_level_namespace_id", "repository_id": "repository_id"}
DELETE_TAGS = delete_orphans(MANIFESTS, keys={**MANIFEST_KEY, "manifest_id": "id"})
DELETE_REFERRERS = delete_orphans(MANIFESTS, keys={**MANIFEST_KEY, "subject_id": "id"})
# Tag n names manifest n.
ADD_TAGS = """
    INSERT INTO tags (id, top_level_namespace_id, repository_id, manifest_id, name)
    SELECT n, 1 + n %% 5, 1 + n %% 5, n, 'v' || n FROM generate_series(1, %s) AS n
"""

part = st.none() | st.integers(1, 3)
keys = st.tuples(part, part)


def ids(connection: psycopg.Connection, table: str) -> set[int]:
    return {id_ for (id_,) in connection.execute(f"SELECT id FROM {table}")}


def add_tags(connection: psycopg.Connection) -> None:
    """Add 20 tags of which those of manifests 11 to 20 have lost theirs."""
    add_manifests(connection, 20)
    connection.execute(ADD_TAGS, (20,))
    with triggers_off(connection):
        connection.execute("DELETE FROM manifests WHERE id > 10")


@given(parents=st.lists(keys, max_size=6), children=st.lists(keys, max_size=12), last=st.integers(0, 13))
def test_orphans_are_what_a_foreign_key_would_refuse(shared_connection, parents, children, last):
    delete = delete_orphans(("public", "parents"), keys={"a": "x", "b": "y"})
    with shared_connection.transaction(force_rollback=True), shared_connection.cursor() as cursor:
        cursor.execute("CREATE TABLE parents (x integer, y integer)")
        cursor.execute("CREATE TABLE children (id bigint PRIMARY KEY, a integer, b integer)")
        cursor.executemany("INSERT INTO parents VALUES (%s, %s)", parents)
        numbered = dict(enumerate(children, start=1))
        cursor.executemany("INSERT INTO children VALUES (%s, %s, %s)", [(id_, *key) for id_, key in numbered.items()])
        orphans = {id_ for id_, key in numbered.items() if id_ <= last and None not in key and key not in set(parents)}
        assert run_range(shared_connection, delete, table=CHILDREN, last=last) == len(orphans)
        assert ids(shared_connection, "children") == numbered.keys() - orphans
        assert run_range(shared_connection, delete, table=CHILDREN, last=last) == 0


def test_orphans_of_the_range_go_from_every_partition(connection):
    add_tags(connection)
    assert run_range(connection, DELETE_TAGS, table=TAGS, first=8, last=17) == 7
    assert ids(connection, "tags") == {*range(1, 11), 18, 19, 20}
    assert run_range(connection, DELETE_TAGS, table=TAGS) == 3
    assert run_range(connection, DELETE_TAGS, table=TAGS) == 0


def test_a_row_that_points_nowhere_stays(connection):
    add_manifests(connection, 10)
    with triggers_off(connection):
        connection.execute("UPDATE manifests SET subject_id = 99 WHERE id = 3")
        connection.execute("UPDATE manifests SET subject_id = 1 WHERE id = 6")
    assert run_range(connection, DELETE_REFERRERS) == 1
    assert ids(connection, "manifests") == {*range(1, 11)} - {3}


def test_a_foreign_key_holds_after_it(connection):
    connection.execute("ALTER TABLE tags DROP CONSTRAINT fk_tags_repository_id_and_manifest_id_manifests")
    add_tags(connection)
    run_range(connection, DELETE_TAGS, table=TAGS)
    connection.execute(
        """
        ALTER TABLE tags ADD FOREIGN KEY (top_level_namespace_id, repository_id, manifest_id)
        REFERENCES manifests (top_level_namespace_id, repository_id, id)
        """
    )


def test_what_is_rolled_back_leaves_nothing(connection):
    add_tags(connection)
    with connection.transaction(force_rollback=True):
        assert run_range(connection, DELETE_TAGS, table=TAGS) == 10
    assert ids(connection, "tags") == {*range(1, 21)}


def test_the_columns_that_point_are_declared():
    function = delete_orphans(MANIFESTS, keys={"manifest_id": "id", "repository_id": "repository_id"}, batch_size=7)
    assert (function.columns, function.batch_size) == (("manifest_id", "repository_id"), 7)


def test_without_a_column_nothing_is_made():
    with pytest.raises(ValueError, match="at least one column"):
        delete_orphans(MANIFESTS, keys={})
