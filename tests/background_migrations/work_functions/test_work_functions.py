"""The list of work functions covers what the schema migrations queue, on tables that have what they need."""

import pytest

from background_migrations.batching import NULL_STRATEGY, Target
from background_migrations.catalog import check_target
from background_migrations.work_functions import WORK_FUNCTIONS
from tests.conftest import SEEDED_BACKGROUND_MIGRATIONS

QUEUED = """
    SELECT job_signature_name, table_name, column_name, batching_strategy, batch_size
    FROM batched_background_migrations ORDER BY id
"""
KNOWN_TO_GITLAB = {
    "copyManifestMediaTypeIDToNewBigIntColumn",
    "populateBlobsIDColumn",
    "copyManifestConfigMediaTypeIDToNewBigIntColumn",
    "copyBlobMediaTypeIDToNewBigIntColumn",
}


@pytest.fixture(scope="module")
def queued(migrated_database):
    return migrated_database.execute(QUEUED).fetchall()


def test_every_queued_migration_has_its_function(queued):
    assert len(queued) == SEEDED_BACKGROUND_MIGRATIONS
    assert {row[0] for row in queued} <= WORK_FUNCTIONS.keys()


def test_the_tables_of_queued_migrations_have_what_their_functions_need(migrated_database, queued):
    for signature, table, column, strategy, _size in queued:
        target = Target(tuple(table.split(".")), column)
        columns, by_nulls = WORK_FUNCTIONS[signature].columns, strategy == NULL_STRATEGY
        check_target(migrated_database, target, columns=columns, null_strategy=by_nulls)


def test_batches_are_as_large_as_they_are_queued(queued):
    assert {(signature, size) for signature, _, _, _, size in queued} == {
        (signature, WORK_FUNCTIONS[signature].batch_size) for signature, *_ in queued
    }


def test_gitlabs_own_functions_are_marked():
    assert {name for name, function in WORK_FUNCTIONS.items() if function.known_to_gitlab} == KNOWN_TO_GITLAB


@pytest.mark.parametrize("name", sorted(KNOWN_TO_GITLAB))
def test_functions_on_the_registry_are_local(name):
    assert not WORK_FUNCTIONS[name].is_external
