"""What each role of docs/how-to/least-privilege-roles.sql may do, and that beyond it every refusal says so."""

import json
from pathlib import Path

import pytest
from django.db import ProgrammingError, connections
from psycopg import sql

from tests.background_migrations.work_functions.registry_rows import add_blobs, add_manifests
from tests.conftest import create_control_tables
from tests.gitlab_registry.conftest import refusal, run

ROLES = Path(__file__).parents[2] / "docs" / "how-to" / "least-privilege-roles.sql"
READER, OPERATOR, IMPORTER = "registry_metadata_reader", "registry_metadata_operator", "registry_metadata_importer"
OWNER = "registry_metadata_owner"
PASSWORD = "a-password-of-the-tests"
BACKGROUND = "/gitlab/v1/background-migrations/"
COPY = "copy_manifests_media_type_id_column_to_media_type_id_convert_to_bigint_column"
GUIDE = "docs/how-to/least-privilege-roles.md"
NOT_DONE = """
    SELECT (SELECT count(*) FROM batched_background_migrations WHERE status <> 2),
        (SELECT count(*) FROM blobs WHERE id IS NULL),
        (SELECT count(*) FROM manifests WHERE media_type_id_convert_to_bigint <> media_type_id)
"""


@pytest.fixture(scope="module")
def database(shared, django_db_setup, django_db_blocker):
    """The module's database, with control tables that somebody else has made before, and somebody to log in."""
    with django_db_blocker.unblock():
        create_control_tables(shared)
    with shared.connect() as connection:
        connection.execute(ROLES.read_text())
        for role in (READER, OPERATOR, IMPORTER):
            names = {"user": sql.Identifier(f"{role}_of_tests"), "role": sql.Identifier(role)}
            connection.execute(
                sql.SQL("CREATE ROLE {user} LOGIN IN ROLE {role} PASSWORD {word}").format(word=PASSWORD, **names)
            )
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(OWNER), PASSWORD))
    yield shared
    with shared.connect() as connection:
        for role in (*(f"{role}_of_tests" for role in (READER, OPERATOR, IMPORTER)), OPERATOR, IMPORTER, READER, OWNER):
            connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(role)))


@pytest.fixture
def logged_in(database, behind):
    """Log in to the database as one of the roles, all granted anew."""
    with database.connect() as connection:
        connection.execute(ROLES.read_text())

    def log_in(role):
        behind(database, USER=f"{role}_of_tests", PASSWORD=PASSWORD)
        return database

    return log_in


def looks(tree):
    """The commands that change nothing."""
    yield from (["database", "migrate", *words] for words in (["status"], ["version"]))
    for words in (["status"], ["status", COPY], ["jobs", COPY], ["events", COPY], ["control", COPY]):
        yield ["background_migrate", *words]
    yield ["database", "import", str(tree), "--verify"]


def is_refused(role, *words):
    line = refusal(*words)
    assert "permission denied" in line or "it lacks" in line, line
    assert f"{role}_of_tests" in line
    assert GUIDE in line


def test_the_owner_makes_and_drops_the_control_tables_and_no_others(database, logged_in, behind):
    behind(database, USER=OWNER, PASSWORD=PASSWORD)
    for words in (["background_migrations", "zero"], ["metadata_import", "zero"], []):
        run("migrate", *words, "--database", "registry")
    with connections["registry"].cursor() as cursor, pytest.raises(ProgrammingError, match="must be owner"):
        cursor.execute("DROP TABLE import_statistics")


def test_the_reader_sees_everything_and_changes_nothing(logged_in, tmp_path, api, admin_client):
    logged_in(READER)
    (tmp_path / "docker/registry/v2/repositories").mkdir(parents=True)
    (tmp_path / "docker/registry/v2/blobs").mkdir()
    for words in looks(tmp_path):
        run(*words)
    for words in (
        ["pause"],
        ["resume", COPY],
        ["control", COPY, "--batch-size", "5"],
        ["run"],
        ["worker", "--once"],
        ["sample", COPY],
    ):
        is_refused(READER, "background_migrate", *words)
    is_refused(READER, "database", "import", str(tmp_path))
    assert api.get(BACKGROUND, "registry:background-migrations:*").status_code == 200
    answer = api.post(f"{BACKGROUND}pause/", "registry:background-migrations:*")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "INSUFFICIENT_PRIVILEGE")
    assert admin_client.get("/admin/").status_code == 200
    pause = {"_selected_action": [1], "confirmed": "yes"}
    answer = admin_client.post("/admin/background_migrations/backgroundmigration/act/pause/", pause, follow=True)
    assert "permission denied for table batched_background_migrations" in answer.content.decode()


def test_the_operator_steers_and_runs_background_migrations(logged_in, registry_tree, api):
    database = logged_in(OPERATOR)
    with database.connect() as connection:
        add_manifests(connection, 20)
        add_blobs(connection, 5, partition=3)
    for words in (
        ["pause"],
        ["control", COPY, "--batch-size", "5", "--max-parallel-jobs", "2"],
        ["sample", COPY],
        ["resume"],
        ["worker", "--once", "--concurrency", "2", "--interval", "0"],
        ["status"],
    ):
        run("background_migrate", *words)
    with database.connect() as connection:
        assert connection.execute(NOT_DONE).fetchone() == (0, 0, 0)
    assert api.post(f"{BACKGROUND}resume/", "registry:background-migrations:*").status_code == 200
    is_refused(OPERATOR, "database", "import", str(registry_tree))


def test_the_importer_imports_and_compares(logged_in, registry_tree, tmp_path):
    database = logged_in(IMPORTER)
    with database.connect() as connection:
        connection.execute("DELETE FROM top_level_namespaces; DELETE FROM blobs")
    report = json.loads(run("database", "import", str(registry_tree), "--json"))
    assert report["inserted_rows"]["tags"] == 11
    assert "equal" in run("database", "import", str(registry_tree), "--verify")
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) > 0 FROM gc_manifest_review_queue").fetchone() == (True,)
    for words in (["pause"], ["run"]):
        is_refused(IMPORTER, "background_migrate", *words)
