"""The API and the admin site while connections end: a reason and 503, never a traceback, and all is well after it."""

import pytest
from django.db import close_old_connections, connections
from django.test import Client

from background_migrations.models import BackgroundMigration, Event
from background_migrations.status import Status
from tests.factories import BackgroundMigrationFactory
from tests.proxy import Fault

API = "/gitlab/v1/background-migrations/"
STATUS = "/gitlab/v1/admin/db/migrations/status/"
ALL = "registry:background-migrations:*"
ADMIN = "/admin/background_migrations/backgroundmigration/"
AWAY = "The database does not answer"
PAUSED = int(Status.PAUSED)

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture
def migration(committed_db):
    return BackgroundMigrationFactory(name="count", status=int(Status.ACTIVE))


class Browser(Client):
    """A client that is shown what goes wrong; before each request it does what servers do and Django's does not."""

    def request(self, **request):
        close_old_connections()
        return super().request(**request)


@pytest.fixture
def staff(admin_user):
    """Somebody who is logged in."""
    browser = Browser(raise_request_exception=False)
    browser.force_login(admin_user)
    return browser


@pytest.fixture
def api(api):
    api.client = Browser(raise_request_exception=False)
    return api


@pytest.fixture
def faulty(migration, staff, aliases_through):
    return aliases_through


def status_of(migration) -> int:
    close_old_connections()
    return BackgroundMigration.objects.get(pk=migration.pk).status


def is_unavailable(answer) -> bool:
    (error,) = answer.json()["errors"]
    return (answer.status_code, answer["Retry-After"], error) == (
        *(503, "5"),
        {"code": "UNAVAILABLE", "message": "service unavailable"},
    )


@pytest.mark.parametrize("fault", Fault)
def test_the_api_opens_a_lost_connection_again_before_anybody_notices(faulty, api, fault):
    for _ in range(3):
        assert api.get(API, ALL).status_code == 200
        faulty.end_all(fault)
    assert api.get(STATUS, "registry:migrations:*").status_code == 200


@pytest.mark.parametrize("fault", Fault)
def test_a_request_whose_connection_ends_is_answered_503_and_the_next_one_is_well(faulty, api, fault):
    for path, scope in ((API, ALL), (STATUS, "registry:migrations:*")):
        faulty.fail_at(b"batched_background_migrations", fault)
        assert is_unavailable(api.get(path, scope))
        assert api.get(path, scope).status_code == 200


def test_a_pause_by_the_api_whose_answer_was_lost_has_happened_once(faulty, api, migration):
    path = f"{API}{migration.pk}/pause/"
    faulty.fail_at(b"COMMIT")
    assert is_unavailable(api.post(path, ALL))
    assert status_of(migration) == Status.ACTIVE
    faulty.fail_at(b"COMMIT", loses_answer=True)
    assert is_unavailable(api.post(path, ALL))
    assert status_of(migration) == PAUSED
    assert api.post(path, ALL).status_code == 409
    close_old_connections()
    assert Event.objects.filter(name="count").count() == 1


@pytest.mark.parametrize("path", ["/admin/", "/admin/live/", ADMIN, "/admin/auth/user/"])
def test_a_page_whose_connection_ends_says_so_and_the_next_one_is_well(faulty, staff, path):
    assert staff.get(path).status_code == 200
    faulty.end_all(Fault.RESET)
    assert staff.get(path).status_code == 200
    faulty.fail_at(b"auth_user" if path == "/admin/auth/user/" else b"background_migration")
    answer = staff.get(path)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert AWAY in answer.content.decode()
    assert "127.0.0.1" not in answer.content.decode()
    assert staff.get(path).status_code == 200


def test_pages_and_api_wait_for_a_server_that_is_away(faulty, staff, api):
    faulty.is_away = True
    faulty.end_all(Fault.CUT)
    assert AWAY in staff.get("/admin/").content.decode()
    assert is_unavailable(api.get(API, ALL))
    faulty.is_away = False
    assert (staff.get("/admin/").status_code, api.get(API, ALL).status_code) == (200, 200)


def test_a_pause_by_a_page_whose_connection_ends_is_told_and_can_be_repeated(faulty, staff, migration):
    pause = {"_selected_action": [migration.pk], "confirmed": "yes"}
    for lost in (False, True):
        faulty.fail_at(b"SET status", loses_answer=lost)
        answer = staff.post(f"{ADMIN}act/pause/", pause, follow=True)
        assert "The registry&#x27;s database answered" in answer.content.decode()
        assert status_of(migration) == Status.ACTIVE
    assert "Paused 1 background migration" in staff.post(f"{ADMIN}act/pause/", pause, follow=True).content.decode()
    assert status_of(migration) == PAUSED


def test_a_missing_table_is_a_page_that_says_what_to_run(faulty, staff, migration):
    with connections["registry"].cursor() as cursor:
        cursor.execute("ALTER TABLE registry_admin.background_migration_events RENAME TO away")
        try:
            answer = staff.get(f"{ADMIN}{migration.pk}/change/")
        finally:
            connections["registry"].cursor().execute(
                "ALTER TABLE registry_admin.away RENAME TO background_migration_events"
            )
    assert answer.status_code == 503
    assert "python manage.py migrate" in answer.content.decode()


def test_what_a_standby_refuses_is_told(faulty, staff, api, migration):
    with connections["registry"].cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    assert is_unavailable(api.post(f"{API}pause/", ALL))
    assert status_of(migration) == Status.ACTIVE
