"""The files of the migrations that ship: what they declare, and whether it is so."""

import ast
import hashlib
import re

import pytest

from schema_migrations.loader import FOLDERS, load_migrations
from schema_migrations.migration import Phase, for_partitions

# Ids are recorded in databases: one that shipped is never renamed and never removed.
PRE_DEPLOYMENT = [
    "20210503145024_create_top_level_namespaces_table",
    "20210503145616_create_repositories_table",
    "20210503145848_create_media_types_table",
    "20210503150438_seed_media_types_table",
    "20210503150607_create_blobs_table",
    "20210503150907_create_repository_blobs_table",
    "20210503151531_create_manifests_table",
    "20210503152056_create_manifest_references_table",
    "20210503152325_create_layers_table",
    "20210503152550_create_tags_table",
    "20210503162828_create_partitions_schema",
    "20210503162912_create_blobs_table_partitions",
    "20210503163001_create_repository_blobs_table_partitions",
    "20210503163039_create_manifests_table_partitions",
    "20210503163117_create_layers_table_partitions",
    "20210503163201_create_manifest_references_table_partitions",
    "20210503163228_create_tags_table_partitions",
    "20210618100642_add_comments_on_gc_constraints",
    "20210728165231_add_manifests_non_conformant_column",
    "20210921163523_add_manifests_total_size_column",
    "20211014164147_drop_manifests_total_size_default_constraint",
    "20220106102726_add_manifests_non_distributable_layers_column",
    "20220209134830_add_repositories_deleted_at_column",
    "20220222111818_add_repositories_path_like_index",
    "20220308164158_add_repositories_on_id_where_deleted_at_not_null_index",
    "20221123174403_post_add_layers_simplified_usage_index_batch_1",
    "20221129145757_post_add_layers_simplified_usage_index_batch_2",
    "20221222115158_post_add_layers_simplified_usage_index_batch_3",
    "20221222115318_post_add_layers_simplified_usage_index_batch_4",
    "20221222115519_post_add_layers_simplified_usage_index_batch_5",
    "20221222120826_post_add_layers_simplified_usage_index_batch_6",
    "20230301135802_post_create_tags_name_index_batch_1",
    "20230301140053_post_create_tags_name_index_batch_2",
    "20230301140305_post_create_tags_name_index_batch_3",
    "20230301140423_post_create_tags_name_index_batch_4",
    "20230301140643_post_create_tags_name_index_batch_5",
    "20230620040523_add_subject_id_to_manifests",
    "20230724040955_post_add_fk_manifests_subject_id_manifests_parent",
    "20231013035836_add_artifact_media_type_id_to_manifests",
    "20231014043956_post_add_fk_manifests_artifact_media_type_id_media_types_parent",
    "20240321141313_add_repositories_last_published_at_column",
    "20240530090526_add_media_type_not_empty_string_constraint",
    "20240604074823_create_batched_background_migrations_table",
    "20240604074846_create_batched_background_migration_jobs_table",
    "20240711175726_add_background_migration_failure_error_code_column",
    "20240711211048_add_background_migration_jobs_indices",
    "20240828064749_add_background_migration_status_index",
    "20241031081325_add_background_migration_timing_columns",
    "20250224143831_post_create_manifests_partitions_subject_id_index_batch_1",
    "20250224144143_post_create_manifests_partitions_subject_id_index_batch_2",
    "20250224144144_post_create_manifests_partitions_subject_id_index_batch_3",
    "20250224144145_post_create_manifests_partitions_subject_id_index_batch_4",
    "20250224144152_post_create_manifests_subject_id_index",
    "20250421055504_create_media_type_id_convert_to_bigint_column",
    "20250421061041_create_trigger_for_media_type_id_convert_to_bigint",
    "20250421070732_bbm_backfill_manifests_media_type_id_convert_to_bigint_column",
    "20250602110230_create_import_stats_table",
    "20250904041325_add_batching_strategy_and_total_tuple_count",
    "20251009082000_add_blobs_table_id_column",
    "20251021070732_bbm_backfill_blobs_id_column",
]
OWN_DATABASE_ONLY = [
    "20261121000000_create_container_repositories_table",
    "20261121000100_create_routes_table",
]
POST_DEPLOYMENT = [
    "20250414074231_post_create_manifests_partitions_id_index_batch_1",
    "20250414074415_post_create_manifests_partitions_id_index_batch_2",
    "20250414074419_post_create_manifests_partitions_id_index_batch_3",
    "20250414074422_post_create_manifests_partitions_id_index_batch_4",
    "20250414074500_post_create_manifests_id_index",
    "20251015074231_post_create_blobs_partitions_null_id_index_batch_1",
    "20251015074415_post_create_blobs_partitions_null_id_index_batch_2",
    "20251015074419_post_create_blobs_partitions_null_id_index_batch_3",
    "20251015074422_post_create_blobs_partitions_null_id_index_batch_4",
    "20251015074500_post_create_blobs_null_id_index",
]

FILES = [path for folder in FOLDERS.values() for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
SHIPPED = load_migrations()


def statements_of(migration):
    """Return the statements of both directions."""
    return [*migration.up, *migration.down]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_has_a_version_a_name_and_a_docstring(path):
    assert re.fullmatch(r"\d{14}_[a-z0-9_]+", path.stem)
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_imports_nothing_that_may_change_after_it_shipped(path):
    imports = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if "Import" in type(node).__name__]
    assert imports in (
        ["from schema_migrations.migration import Migration"],
        ["from schema_migrations.migration import Migration, for_partitions"],
    )


def test_the_text_made_for_partitions_is_what_was_shipped():
    text = for_partitions("DROP TABLE partitions.tags_p_{n}", first=1, last=2)
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "d5e47c228100603a3e60f87499901d659952c79de08c2a175f721a63aa711379"
    )


def test_the_shipped_ids_are_the_expected_ones():
    ids = {phase: {each.id for each in SHIPPED if each.phase is phase} for phase in Phase}
    assert ids == {
        Phase.PRE_DEPLOYMENT: {*PRE_DEPLOYMENT, *OWN_DATABASE_ONLY},
        Phase.POST_DEPLOYMENT: set(POST_DEPLOYMENT),
    }


def test_versions_are_unique_across_both_phases():
    assert len({each.version for each in SHIPPED}) == len(FILES)


def test_the_tables_of_rails_are_for_a_database_of_our_own():
    assert [each.id for each in SHIPPED if each.migration.own_database_only] == OWN_DATABASE_ONLY


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda each: each.id)
def test_a_migration_can_be_undone(shipped):
    assert shipped.migration.down
    assert not shipped.migration.irreversible


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda each: each.id)
def test_no_statement_touches_online_garbage_collection(shipped):
    assert not any("gc_" in statement for statement in statements_of(shipped.migration))


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda each: each.id)
def test_no_name_is_longer_than_the_server_keeps(shipped):
    values = re.compile(r"'[^']*'")  # the background migrations have longer names, as values
    words = [word for each in statements_of(shipped.migration) for word in re.findall(r"\w+", values.sub("", each))]
    assert [word for word in words if len(word) > 63] == []


def test_migrations_after_the_deployment_name_what_they_need_from_before_it():
    needs = {each.id: set(each.migration.requires) for each in SHIPPED if each.migration.requires}
    assert set(needs) == set(POST_DEPLOYMENT)
    assert set().union(*needs.values()) <= set(PRE_DEPLOYMENT)


QUEUEING = [each for each in SHIPPED if each.migration.queued_background_migrations]


def queued(connection):
    """Return the names of all background migrations."""
    return {name for (name,) in connection.execute("SELECT name FROM batched_background_migrations")}


def test_every_background_migration_is_declared_where_it_is_queued(migrated_database):
    assert {name for each in QUEUEING for name in each.migration.queued_background_migrations} == queued(
        migrated_database
    )


@pytest.mark.parametrize("shipped", QUEUEING, ids=lambda each: each.id)
def test_a_migration_queues_and_deletes_what_it_declares(migrated_database, shipped):
    everything = queued(migrated_database)
    with migrated_database.transaction(force_rollback=True):
        for statement in shipped.migration.down:
            migrated_database.execute(statement)
        assert queued(migrated_database) == everything - {*shipped.migration.queued_background_migrations}
        for statement in shipped.migration.up:
            migrated_database.execute(statement)
        assert queued(migrated_database) == everything


def test_the_media_types_are_seeded_once_each():
    (seed,) = (each.migration for each in SHIPPED if each.id.endswith("_seed_media_types_table"))
    (statement,) = seed.up
    media_types = re.findall(r"'([^']+)'", statement)
    assert len(media_types) == len(set(media_types)) == 103
    assert {"appliciation/vnd.sylabs.sif.layer.tar", "/application/vnd.acme.rocket.config"} <= set(media_types)
