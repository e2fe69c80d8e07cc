"""The status for GitLab Rails: what it counts, and that it costs one statement."""

import pytest
from django.db import connections

from background_migrations.models import BackgroundMigration
from background_migrations.status import Status
from schema_migrations.api.views import StatusView
from schema_migrations.loader import load_migrations
from schema_migrations.migration import Phase
from schema_migrations.services import Overview, overview
from tests.api_client import counted_statements
from tests.factories import BackgroundMigrationFactory

PATH = "/gitlab/v1/admin/db/migrations/status/"
SCOPE = "registry:migrations:*"
KNOWN = load_migrations()
PRE = sum(each.phase is Phase.PRE_DEPLOYMENT for each in KNOWN)
POST = len(KNOWN) - PRE


@pytest.fixture
def database(request):
    request.getfixturevalue("db")
    BackgroundMigration.objects.all().delete()
    return connections["registry"]


@pytest.mark.django_db(databases=["registry"])
@pytest.mark.usefixtures("database")
def test_the_status_is_what_the_seed_shows_and_nothing_more(api, settings):
    settings.REGISTRY_VERSION = "v4.13.0-gitlab"
    for status, count in {Status.ACTIVE: 1, Status.RUNNING: 1, Status.PAUSED: 1, Status.FINISHED: 3}.items():
        BackgroundMigrationFactory.create_batch(count, status=int(status))
    answer = api.get(PATH, SCOPE)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {
        "version": "v4.13.0-gitlab",
        "schema_migrations": {
            "applied": len(KNOWN),
            "pending": 0,
            "pending_post_deployment": 0,
            "pending_non_post_deployment": 0,
        },
        "background_migrations": {"active": 2, "paused": 1, "failed": 0, "completed": 3},
    }


@pytest.mark.django_db(databases=["registry"])
def test_what_is_not_recorded_is_pending_and_what_is_not_known_is_in_no_count(database):
    with database.cursor() as cursor:
        cursor.execute("DELETE FROM schema_migrations WHERE id IN (SELECT id FROM schema_migrations LIMIT 2)")
        cursor.execute("DELETE FROM post_deploy_schema_migrations")
        cursor.execute("INSERT INTO schema_migrations VALUES ('29990101000000_of_another_release', now())")
    assert overview(database.connection, known=KNOWN) == Overview(PRE - 2, 2, POST, 0, 0, 0, 0)


@pytest.mark.django_db(databases=["registry"])
def test_the_status_takes_one_statement_on_a_connection_that_is_open(api, database):
    api.get(PATH, SCOPE)
    with counted_statements(database.connection) as count:
        assert api.get(PATH, SCOPE).status_code == 200
    assert count() == 1


def test_tables_that_do_not_exist_count_as_empty(scratch_database):
    with scratch_database.connect() as connection:
        nothing = Overview(0, PRE, POST, 0, 0, 0, 0)
        with counted_statements(connection) as count:
            assert overview(connection, known=KNOWN) == nothing
        assert count() == 3
        connection.execute("CREATE TABLE schema_migrations (id text)")
        connection.execute("INSERT INTO schema_migrations VALUES (%s)", (KNOWN[0].id,))
        assert overview(connection, known=KNOWN) == Overview(1, PRE - 1, POST, 0, 0, 0, 0)


@pytest.mark.django_db(databases=["registry"])
@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ({"type": "registry", "name": "migrations", "actions": ["*"]}, 200),
        ({"type": "registry", "name": "migrations", "actions": ["read"]}, 401),
        (
            {
                "type": "admin",
                "name": "container_registry_migrations",
                "actions": ["read"],
                "meta": {"role": "administrator"},
            },
            200,
        ),
        ({"type": "admin", "name": "container_registry_migrations", "actions": ["read"]}, 401),
        (
            {"type": "admin", "name": "container_registry_migrations", "actions": ["read"], "meta": {"role": "owner"}},
            401,
        ),
    ],
)
def test_the_token_may_be_worded_in_two_ways(api, entry, status):
    header = {"Authorization": f"Bearer {api.auth.granting(entry)}"}
    assert api.client.get(PATH, headers=header).status_code == status


def test_the_first_wording_is_the_one_that_a_challenge_names():
    assert StatusView.required_access[0] == ("registry", "migrations", "*")
