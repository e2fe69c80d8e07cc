"""The reference database is what its name says: our schema and, beyond it, online garbage collection that works."""

from collections import Counter

import psycopg
import pytest

from schema_migrations.loader import load_migrations

OWN = {"container_repositories", "routes"}
SCHEMAS = "('public'::regnamespace, 'partitions'::regnamespace)"
# Each thing with the table that it belongs to, worded as the server words it. Partitions are in it, all of them.
CATALOG = f"""
    SELECT relname, 'table ' || coalesce(pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid), '')
    FROM pg_class WHERE relnamespace IN {SCHEMAS} AND relkind IN ('r', 'p')
    UNION ALL
    SELECT relname, concat_ws(' ', 'column', attname, attnum, format_type(atttypid, atttypmod), attnotnull,
        attidentity, pg_get_expr(adbin, adrelid))
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace IN {SCHEMAS} AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT relname, concat_ws(' ', 'constraint', conname, pg_get_constraintdef(pg_constraint.oid), convalidated)
    FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    WHERE relnamespace IN {SCHEMAS} AND contype IN ('c', 'p', 'u', 'f') AND (contype <> 'f' OR conparentid = 0)
    UNION ALL
    SELECT relname, pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace IN {SCHEMAS} AND indisvalid
    UNION ALL
    SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE relnamespace IN {SCHEMAS} AND NOT tgisinternal AND tgparentid = 0
"""
RECORDED = """
    SELECT 'pre', id FROM schema_migrations UNION ALL SELECT 'post', id FROM post_deploy_schema_migrations
"""
BACKGROUND = """
    SELECT name, status, min_value, max_value, batch_size, job_signature_name, table_name, column_name,
        batching_strategy
    FROM batched_background_migrations
"""
STRINGS = "SELECT media_type FROM media_types"
TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'gc\\_%' AND tgparentid = 0 AND NOT tgisinternal"

IMAGE = """
    INSERT INTO top_level_namespaces (id, name) VALUES (1, 'group');
    INSERT INTO repositories (id, top_level_namespace_id, name, path) VALUES (1, 1, 'app', 'group/app');
    INSERT INTO blobs (digest, size, media_type_id) VALUES ('\\x01aa', 1, 41), ('\\x01bb', 1, 41);
    INSERT INTO manifests (id, top_level_namespace_id, repository_id, schema_version, media_type_id, digest, payload,
        total_size, configuration_media_type_id, configuration_blob_digest, subject_id)
    VALUES (1, 1, 1, 2, 41, '\\x0101', '{}', 1, NULL, NULL, NULL),
        (2, 1, 1, 2, 41, '\\x0102', '{}', 1, 41, '\\x01aa', 1),
        (3, 1, 1, 2, 41, '\\x0103', '{}', 1, NULL, NULL, NULL);
    INSERT INTO layers (top_level_namespace_id, repository_id, manifest_id, size, media_type_id, digest)
    VALUES (1, 1, 2, 1, 41, '\\x01bb');
    INSERT INTO manifest_references (top_level_namespace_id, repository_id, parent_id, child_id) VALUES (1, 1, 3, 2);
    INSERT INTO tags (top_level_namespace_id, repository_id, manifest_id, name) VALUES (1, 1, 2, 'latest')
"""
QUEUED_MANIFESTS = "SELECT manifest_id, event FROM gc_manifest_review_queue ORDER BY 1"
QUEUED_BLOBS = "SELECT encode(digest, 'hex'), event FROM gc_blob_review_queue ORDER BY 1"


@pytest.fixture(scope="module")
def reference(shared):
    with shared.connect() as connection:
        yield connection


def catalog(connection: psycopg.Connection) -> Counter[tuple[str, str]]:
    return Counter(connection.execute(CATALOG).fetchall())


def test_it_holds_our_schema_and_beyond_it_garbage_collection_alone(reference, migrated_database):
    theirs, ours = catalog(reference), catalog(migrated_database)
    assert {table for table, _ in ours - theirs} == OWN
    beyond = {table for table, what in theirs - ours if not what.startswith("gc_track_")}
    assert all(table.startswith("gc_") for table in beyond)
    assert len(beyond) == 6 + 2 * 64
    assert len(reference.execute(TRIGGERS).fetchall()) == 10


def test_it_has_recorded_the_ids_of_a_production_build_and_queued_what_ours_queue(reference, migrated_database):
    recorded = Counter(phase for phase, _ in reference.execute(RECORDED))
    assert recorded == {"pre": 184, "post": 10}
    known = {each.id for each in load_migrations(own_database=False)}
    assert known < {id_ for _, id_ in reference.execute(RECORDED)}
    for query in (BACKGROUND, STRINGS):
        assert set(reference.execute(query)) == set(migrated_database.execute(query))


def test_its_triggers_note_what_changed_and_when_to_look_at_it(reference):
    with reference.transaction(force_rollback=True):
        reference.execute(IMAGE)
        assert reference.execute(QUEUED_MANIFESTS).fetchall() == [(n, "manifest_upload") for n in (1, 2, 3)]
        assert reference.execute(QUEUED_BLOBS).fetchall() == [("01aa", "blob_upload"), ("01bb", "blob_upload")]
        reference.execute("UPDATE tags SET manifest_id = 3")
        assert reference.execute(QUEUED_MANIFESTS).fetchall()[1] == (2, "tag_switch")
        reference.execute("DELETE FROM tags")
        reference.execute("DELETE FROM manifest_references")
        events = dict(reference.execute(QUEUED_MANIFESTS).fetchall())
        assert events == {1: "manifest_upload", 2: "manifest_list_delete", 3: "tag_delete"}
        reference.execute("DELETE FROM manifests WHERE id = 2")
        assert dict(reference.execute(QUEUED_MANIFESTS).fetchall()) == {1: "manifest_delete", 3: "tag_delete"}
        assert dict(reference.execute(QUEUED_BLOBS).fetchall()) == {"01aa": "manifest_delete", "01bb": "layer_delete"}
        (soon,) = reference.execute(
            "SELECT bool_and(review_after - now() BETWEEN '1 day 5 s' AND '1 day 61 s') FROM gc_blob_review_queue"
        )
        assert soon == (True,)
