"""REGISTRY_SCHEMA_OWNER=gitlab, from end to end: everything but schema migrations works, beside what is GitLab's."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from background_migrations.status import Status
from tests.gitlab_registry.conftest import refusal, run
from tests.registry_project.test_migrate import MADE, NAMED, OURS, RECORDS, counted, rows

API = "/gitlab/v1/"
BACKGROUND = f"{API}background-migrations/"
WRITE = "registry:background-migrations:*"
COPY = "copy_manifests_media_type_id_column_to_media_type_id_convert_to_bigint_column"
LAST_OF_OLDEST_RELEASE = "20251021070732_bbm_backfill_blobs_id_column"

# What the triggers must have noted of an import, as differences that must not be there.
UNNOTED = {
    "blobs to review": "SELECT digest, 'blob_upload', 0 FROM blobs EXCEPT "
    "SELECT digest, event, review_count FROM gc_blob_review_queue",
    "manifests to review": "SELECT repository_id, id, 'manifest_upload' FROM manifests EXCEPT "
    "SELECT repository_id, manifest_id, event FROM gc_manifest_review_queue",
    "configurations": "SELECT id, configuration_blob_digest FROM manifests "
    "WHERE configuration_blob_digest IS NOT NULL EXCEPT SELECT manifest_id, digest FROM gc_blobs_configurations",
    "layers": "SELECT id, digest FROM layers EXCEPT SELECT layer_id, digest FROM gc_blobs_layers",
    "manifests as blobs": "SELECT digest FROM manifests EXCEPT SELECT digest FROM gc_tmp_blobs_manifests",
    "twins": "SELECT id FROM manifests WHERE media_type_id_convert_to_bigint <> media_type_id",
    "reviews in a day": "SELECT digest FROM gc_blob_review_queue WHERE review_after < now() + interval '23 hours'",
}
# As old rows are: from before the columns that background migrations fill. Only the table's own triggers are off.
MAKE_OLD = """
    SET session_replication_role = replica;
    UPDATE manifests SET media_type_id_convert_to_bigint = 0;
    UPDATE blobs SET id = NULL;
    RESET session_replication_role
"""
NOT_FILLED = """
    SELECT (SELECT count(*) FROM manifests WHERE media_type_id_convert_to_bigint <> media_type_id),
        (SELECT count(*) FROM blobs WHERE id IS NULL), (SELECT count(*) FROM blobs) > 10
"""
# The one column that a release after v4.32 may have besides.
NEWER_COLUMN = "ALTER TABLE batched_background_migrations ADD COLUMN sub_batch_size integer NOT NULL DEFAULT 2"
SUB_BATCHES = "SELECT DISTINCT sub_batch_size FROM registry_admin.background_migration_job_progress"


def test_status_shows_ours_applied_the_rest_unknown_and_nothing_pending(ours):
    lines = run("database", "migrate", "status").splitlines()[3:-1]
    assert Counter(line.split(maxsplit=1)[1][:10] for line in lines) == {"unknown mi": 194 - 70, "2025-12-01": 70}
    assert run("database", "migrate", "status", "--up-to-date") == "true\n"
    assert run("database", "migrate", "version") == f"{LAST_OF_OLDEST_RELEASE}\n"


@pytest.mark.parametrize("command", [["up"], ["down", "--force"], ["new", "add_column"]])
def test_its_schema_is_not_ours_to_migrate(ours, command):
    before = counted(ours, MADE)
    assert "registry database migrate up" in refusal("database", "migrate", *command)
    assert counted(ours, MADE) == before


def test_an_import_leaves_what_the_triggers_note_and_background_migrations_fill_old_rows(ours, registry_tree, api):
    """One story, since each part needs the rows of the one before."""
    report = json.loads(run("database", "import", str(registry_tree), "--json"))
    assert report["inserted_rows"]["tags"] == 11
    assert {what: rows(ours, query) for what, query in UNNOTED.items()} == {what: [] for what in UNNOTED}
    assert "equal" in run("database", "import", str(registry_tree), "--verify")
    (statistics,) = api.get(f"{API}statistics/", "registry:statistics:*").json()["import"]
    assert statistics["tags_count"] == 11

    with ours.connect() as connection:
        connection.execute(MAKE_OLD)
        connection.execute(NEWER_COLUMN)
    assert api.post(f"{BACKGROUND}pause/", WRITE).json()["success"]
    assert rows(ours, "SELECT DISTINCT status FROM batched_background_migrations") == [(Status.PAUSED,)]
    run("background_migrate", "resume", COPY)
    run("background_migrate", "control", COPY, "--batch-size", "5")
    assert "1 background migration" in run("background_migrate", "run", COPY)
    assert rows(ours, SUB_BATCHES) == [(2,)]
    with ours.connect() as connection:
        connection.execute("ALTER TABLE batched_background_migrations DROP COLUMN sub_batch_size")
    assert "64 background migrations" in run("background_migrate", "run", "--concurrency", "2")
    assert rows(ours, NOT_FILLED) == [(0, 0, True)]

    status = api.get(f"{API}admin/db/migrations/status/", "registry:migrations:*").json()
    assert status == {
        "version": "v4.32.0-gitlab",
        "schema_migrations": {
            "applied": 70,
            "pending": 0,
            "pending_post_deployment": 0,
            "pending_non_post_deployment": 0,
        },
        "background_migrations": {"active": 0, "paused": 0, "failed": 0, "completed": 65},
    }


def test_staff_see_it(ours, api, admin_client):
    listed = {each["name"]: each["id"] for each in api.get(BACKGROUND, WRITE).json()["migrations"]}
    home = admin_client.get("/admin/")
    assert (home.status_code, home.context["schema"].pending, home.context["schema"].unknown) == (200, 0, 124)
    for path in (
        "background_migrations/backgroundmigration/",
        f"background_migrations/backgroundmigration/{listed[COPY]}/change/",
        "background_migrations/backgroundmigrationjob/",
        "schema_migrations/schemamigration/?kind=unknown",
    ):
        assert admin_client.get(f"/admin/{path}").status_code == 200, path


def lasting(database, query):
    """Return what a query on the catalog finds, without the places that the server keeps for temporary tables."""
    found = counted(database, query)
    return Counter({row: count for row, count in found.items() if not re.search(r"\bpg_(toast_)?temp_", " ".join(row))})


def test_nothing_but_our_schema_is_made_and_without_it_all_is_as_before(shared, behind, registry_tree):
    with shared.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS registry_admin CASCADE")
    before, made, records = lasting(shared, NAMED), lasting(shared, MADE), rows(shared, RECORDS)
    behind(shared)
    run("migrate", database="registry")
    run("database", "import", str(registry_tree), "--step-three")
    run("background_migrate", "control", COPY, "--batch-size", "5")
    after = lasting(shared, NAMED)
    assert before - after == Counter()
    assert {schema for schema, _ in after - before} == OURS
    with shared.connect() as connection:
        connection.execute("DROP SCHEMA registry_admin CASCADE")
    assert lasting(shared, MADE) == made
    assert rows(shared, RECORDS) == records


# --- What is not a database of v4.32 or newer ---------------------------------------------------------------------

REFUSED = "is not that of GitLab's registry v4.32 or newer"


@contextmanager
def not_recorded(database, table, id_) -> Iterator[None]:
    """Let a database be as if GitLab's own command had not come so far."""
    with database.connect() as connection:
        connection.execute(f"DELETE FROM {table} WHERE id = %s", [id_])
        try:
            yield
        finally:
            connection.execute(f"INSERT INTO {table} VALUES (%s, '2025-12-01Z')", [id_])


@pytest.fixture
def older(ours):
    with not_recorded(ours, "schema_migrations", LAST_OF_OLDEST_RELEASE):
        yield ours


def test_an_older_one_is_refused_by_all_that_would_work_on_it(older, registry_tree, api, admin_client):
    for words in (
        ["background_migrate", "status"],
        ["background_migrate", "worker", "--once"],
        ["database", "import", str(registry_tree)],
        ["database", "import", str(registry_tree), "--verify"],
        ["migrate", "--database", "registry"],
    ):
        assert REFUSED in refusal(*words), words
    for method, path in (("GET", BACKGROUND), ("POST", f"{BACKGROUND}pause/")):
        answer = api.send(method, path, WRITE)
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["code"]) == (503, "UNAVAILABLE")
        assert REFUSED in error["detail"]
    assert REFUSED in admin_client.get("/admin/").context["missing"]
    # Those whose purpose is to tell what is pending tell it.
    status = api.get(f"{API}admin/db/migrations/status/", "registry:migrations:*").json()
    assert status["schema_migrations"]["pending_non_post_deployment"] == 1
    assert run("database", "migrate", "status").count("  no\n") == 1


def test_another_database_is_refused_before_anything_is_made_in_it(scratch_database, behind):
    behind(scratch_database)
    before = counted(scratch_database, MADE)
    assert REFUSED in refusal("migrate", database="registry")
    assert REFUSED in refusal("background_migrate", "status")
    assert counted(scratch_database, MADE) == before


def test_an_import_waits_for_gitlab_s_own_command_where_that_is_not_done(ours, registry_tree):
    with not_recorded(ours, "post_deploy_schema_migrations", "20251015074500_post_create_blobs_null_id_index"):
        line = refusal("database", "import", str(registry_tree))
    assert "1 pending schema migration in this database" in line
    assert "registry database migrate up CONFIG" in line
