"""The migrations that ship make exactly the expected schema: nothing is missing, nothing is extra."""

from collections import Counter, defaultdict
from typing import Any

import psycopg
import pytest

from schema_migrations.loader import load_migrations
from tests.schema_migrations.expected_catalog import (
    BACKGROUND_MIGRATIONS,
    CONSTRAINT_COMMENTS,
    FUNCTIONS,
    MEDIA_TYPES,
    NAMED_IN_PARTITIONS,
    PARTITIONS,
    SEQUENCES,
    TABLES,
    TRIGGERS,
)

PARTITIONED = [name for name, table in TABLES.items() if table.partitioned_by]

TABLES_IN = """
    SELECT relname, pg_get_partkeydef(oid) FROM pg_class
    WHERE relnamespace = %s::regnamespace AND relkind NOT IN ('i', 'I', 'S') AND NOT relispartition
"""
COLUMNS_OF = """
    SELECT concat_ws(
        ' ',
        attname,
        format_type(atttypid, atttypmod),
        CASE WHEN attnotnull THEN 'not null' END,
        'default ' || pg_get_expr(adbin, adrelid),
        CASE attidentity WHEN 'd' THEN 'identity' WHEN 'a' THEN 'identity always' END
    )
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""
# Left out: NOT NULL, which PostgreSQL 18 lists as a constraint too, and the entries that a foreign key to
# a partitioned table has besides, one for each of its partitions.
CONSTRAINTS_OF = """
    SELECT conname, pg_get_constraintdef(pg_constraint.oid), convalidated, conparentid <> 0
    FROM pg_constraint LEFT JOIN pg_class AS target ON target.oid = confrelid
    WHERE conrelid = %s::regclass AND contype <> 'n' AND target.relispartition IS NOT TRUE
"""
INDEXES_OF = """
    SELECT
        relname,
        substring(pg_get_indexdef(indexrelid) FROM ' USING (.*)$'),
        (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = indexrelid),
        (
            SELECT conname FROM pg_constraint
            WHERE conindid = indexrelid AND conrelid = indrelid AND contype <> 'f'
        )
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = %s::regclass
"""
PARTITIONS_OF = """
    SELECT inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid)
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = %s::regclass
"""
TARGETS_OF = """
    SELECT parent.conname, target.relname
    FROM pg_constraint AS child
    JOIN pg_constraint AS parent ON parent.oid = child.conparentid
    JOIN pg_class AS target ON target.oid = child.confrelid
    WHERE child.conrelid = %s::regclass AND parent.conrelid = child.conrelid
"""
TRIGGERS_OF = """
    SELECT tgname, regexp_replace(
        pg_get_triggerdef(oid), '^CREATE TRIGGER \\S+ (.*) ON \\S+ (FOR EACH .*)$', '\\1 \\2'
    )
    FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal
"""
ALL_SEQUENCES = """
    SELECT relname, concat_ws(' of ', format_type(seqtypid, NULL), owner.refobjid::regclass || '.' || attname)
    FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
    LEFT JOIN pg_depend AS owner ON owner.objid = seqrelid AND owner.refobjsubid > 0
    LEFT JOIN pg_attribute ON attrelid = owner.refobjid AND attnum = owner.refobjsubid
    WHERE relnamespace IN ('public'::regnamespace, 'partitions'::regnamespace)
        AND (seqstart, seqincrement, seqmin, seqcycle) = (1, 1, 1, FALSE)
"""
ALL_FUNCTIONS = """
    SELECT proname FROM pg_proc WHERE pronamespace IN ('public'::regnamespace, 'partitions'::regnamespace)
"""
ALL_COMMENTS = """
    SELECT coalesce(conname, classoid::regclass || ' ' || objoid), description
    FROM pg_description
    LEFT JOIN pg_constraint ON pg_constraint.oid = objoid AND classoid = 'pg_constraint'::regclass
    WHERE objoid >= 16384  -- what is not the server's own
"""
INVALID_INDEXES = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)"
SEEDED_BACKGROUND_MIGRATIONS = """
    SELECT
        name, status, min_value, max_value, batch_size, job_signature_name, table_name, column_name,
        batching_strategy
    FROM batched_background_migrations
"""
INSERT_MANIFEST = """
    INSERT INTO top_level_namespaces (id, name) VALUES (1, 'group');
    INSERT INTO repositories (id, top_level_namespace_id, name, path) VALUES (1, 1, 'group', 'group');
    INSERT INTO manifests
        (top_level_namespace_id, repository_id, schema_version, media_type_id, digest, payload, total_size)
    SELECT 1, 1, 2, id, '\\x01', '{}', 0 FROM media_types ORDER BY id DESC LIMIT 1
"""

Rows = list[tuple[Any, ...]]


def read(connection: psycopg.Connection, statement: str, *values: str) -> Rows:
    """Return all rows of one statement."""
    return connection.execute(statement, values or None).fetchall()


def partitions_of(table: str) -> list[str]:
    """Return the names of a table's partitions, by remainder."""
    return [f"partitions.{table}_p_{n}" for n in range(PARTITIONS)]


def as_partition(columns: list[str], connection: psycopg.Connection) -> list[str]:
    """Return the columns as a partition has them: until PostgreSQL 17 the identity was the parent's alone."""
    if connection.info.server_version >= 17_00_00:
        return columns
    return [column.removesuffix(" identity") for column in columns]


def test_the_tables_are_the_expected_ones(migrated_database):
    keys = {name: f"HASH ({table.partitioned_by})" if table.partitioned_by else None for name, table in TABLES.items()}
    assert dict(read(migrated_database, TABLES_IN, "public")) == keys


def test_the_partitions_schema_holds_partitions_alone(migrated_database):
    assert read(migrated_database, TABLES_IN, "partitions") == []


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_expected_columns_in_order(migrated_database, table):
    assert [column for (column,) in read(migrated_database, COLUMNS_OF, table)] == TABLES[table].columns


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_expected_constraints_all_validated(migrated_database, table):
    rows = read(migrated_database, CONSTRAINTS_OF, table)
    assert {name: definition for name, definition, _, _ in rows} == TABLES[table].constraints
    assert [name for name, _, validated, inherited in rows if inherited or not validated] == []


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_expected_indexes(migrated_database, table):
    rows = read(migrated_database, INDEXES_OF, table)
    assert {name: definition for name, definition, _, key in rows if key is None} == TABLES[table].indexes
    keys = {name for name, text in TABLES[table].constraints.items() if text.startswith(("PRIMARY", "UNIQUE"))}
    assert {key for *_, key in rows if key is not None} == keys


@pytest.mark.parametrize("table", TABLES)
def test_a_foreign_key_reaches_each_partition_of_its_target(migrated_database, table):
    targets = defaultdict(set)
    for key, target in read(migrated_database, TARGETS_OF, table):
        targets[key].add(f"partitions.{target}")
    expected = {
        key: set(partitions_of(target))
        for key, text in TABLES[table].constraints.items()
        for target in PARTITIONED
        if f"REFERENCES {target}(" in text
    }
    assert targets == expected


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_expected_triggers(migrated_database, table):
    assert dict(read(migrated_database, TRIGGERS_OF, table)) == TRIGGERS.get(table, {})


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_one_partition_for_each_remainder_of_the_hash(migrated_database, table):
    bounds = {
        name: f"FOR VALUES WITH (modulus {PARTITIONS}, remainder {remainder})"
        for remainder, name in enumerate(partitions_of(table))
    }
    assert dict(read(migrated_database, PARTITIONS_OF, table)) == (bounds if table in PARTITIONED else {})


@pytest.mark.parametrize("table", PARTITIONED)
def test_each_partition_has_the_columns_of_its_parent(migrated_database, table):
    expected = as_partition(list(TABLES[table].columns), migrated_database)
    for partition in partitions_of(table):
        assert [column for (column,) in read(migrated_database, COLUMNS_OF, partition)] == expected, partition


@pytest.mark.parametrize("table", PARTITIONED)
def test_each_partition_has_the_constraints_of_its_parent(migrated_database, table):
    expected = Counter(TABLES[table].constraints.values())
    for partition in partitions_of(table):
        rows = read(migrated_database, CONSTRAINTS_OF, partition)
        assert Counter(definition for _, definition, _, _ in rows) == expected, partition
        assert [name for name, _, validated, _ in rows if not validated] == [], partition
        own = [name for name, text, _, inherited in rows if not inherited and not text.startswith("CHECK")]
        assert own == [], partition


@pytest.mark.parametrize("table", PARTITIONED)
def test_each_partition_has_one_index_attached_to_each_of_its_parent(migrated_database, table):
    expected = {name: definition for name, definition, *_ in read(migrated_database, INDEXES_OF, table)}
    for partition in partitions_of(table):
        rows = read(migrated_database, INDEXES_OF, partition)
        assert len(rows) == len(expected), partition
        assert {parent: definition for _, definition, parent, _ in rows} == expected, partition


@pytest.mark.parametrize("index", NAMED_IN_PARTITIONS)
def test_indexes_built_partition_by_partition_keep_their_names(migrated_database, index):
    table, _, rest = index.removeprefix("index_").partition("_on_")
    for number, partition in enumerate(partitions_of(table)):
        attached = {parent: name for name, _, parent, _ in read(migrated_database, INDEXES_OF, partition)}
        assert attached[index] == f"index_{table}_p_{number}_on_{rest}"


@pytest.mark.parametrize("table", PARTITIONED)
def test_each_partition_has_the_triggers_of_its_parent(migrated_database, table):
    for partition in partitions_of(table):
        assert dict(read(migrated_database, TRIGGERS_OF, partition)) == TRIGGERS.get(table, {}), partition


def test_no_index_is_invalid(migrated_database):
    assert read(migrated_database, INVALID_INDEXES) == []


def test_the_sequences_are_the_expected_ones(migrated_database):
    assert dict(read(migrated_database, ALL_SEQUENCES)) == SEQUENCES


def test_the_functions_are_the_expected_ones(migrated_database):
    assert [name for (name,) in read(migrated_database, ALL_FUNCTIONS)] == FUNCTIONS


def test_the_comments_are_the_expected_ones(migrated_database):
    assert dict(read(migrated_database, ALL_COMMENTS)) == CONSTRAINT_COMMENTS


def test_the_media_types_are_seeded_without_gaps(migrated_database):
    ids = [number for (number,) in read(migrated_database, "SELECT id FROM media_types ORDER BY id")]
    assert ids == list(range(1, MEDIA_TYPES + 1))


def test_seeding_media_types_again_takes_no_number_of_the_smallint_sequence(migrated_database):
    (seed,) = (each.migration for each in load_migrations() if each.id.endswith("_seed_media_types_table"))
    for statement in seed.up:
        migrated_database.execute(statement)
    assert read(migrated_database, "SELECT last_value FROM media_types_id_seq") == [(MEDIA_TYPES,)]


def test_the_background_migrations_are_seeded(migrated_database):
    rows = read(migrated_database, SEEDED_BACKGROUND_MIGRATIONS)
    assert {name: tuple(values) for name, *values in rows} == BACKGROUND_MIGRATIONS


def test_the_wider_media_type_id_follows_the_narrow_one(migrated_database):
    with migrated_database.transaction(force_rollback=True):
        migrated_database.execute(INSERT_MANIFEST)
        twins = read(migrated_database, "SELECT media_type_id, media_type_id_convert_to_bigint FROM manifests")
    assert [narrow == wide > 1 for narrow, wide in twins] == [True]
