"""Who may look, operate and configure; that a form sent by hand changes nothing."""

import pytest
from django.test import Client

from background_migrations.models import BackgroundMigration, Control
from background_migrations.status import Status
from tests.factories import BackgroundMigrationFactory, BackgroundMigrationJobFactory, UserFactory
from tests.staff import client_of

pytestmark = pytest.mark.django_db(databases=["default", "registry"])

MIGRATIONS = "/admin/background_migrations/backgroundmigration/"
JOBS = "/admin/background_migrations/backgroundmigrationjob/"


@pytest.fixture
def migration(db):
    return BackgroundMigrationFactory(running=True)


def act(client, migration):
    return client.post(f"{MIGRATIONS}act/pause/", {"_selected_action": migration.pk, "confirmed": "yes"})


@pytest.mark.parametrize(("group", "status"), [(None, 403), ("Viewer", 403), ("Operator", 302), ("Administrator", 302)])
def test_who_may_operate(migration, group, status):
    assert act(client_of(group), migration).status_code == status
    moved = BackgroundMigration.objects.get(pk=migration.pk).status == Status.PAUSED
    assert moved is (status == 302)


@pytest.mark.parametrize(("group", "status"), [(None, 403), ("Viewer", 403), ("Operator", 403), ("Administrator", 302)])
def test_who_may_configure(migration, group, status):
    answer = client_of(group).post(f"{MIGRATIONS}{migration.id}/change/", {"batch_size": "7"})
    assert answer.status_code == status
    assert Control.objects.filter(pk=migration.id).exists() is (status == 302)


@pytest.mark.parametrize(("group", "buttons", "saves"), [("Viewer", 0, 0), ("Operator", 4, 0), ("Administrator", 4, 1)])
def test_what_is_not_allowed_is_not_shown(migration, group, buttons, saves):
    page = client_of(group).get(f"{MIGRATIONS}{migration.id}/change/").content.decode()
    assert page.count("/act/") == buttons
    assert page.count("Save the controls") == saves


@pytest.mark.parametrize("group", ["Viewer", "Operator", "Administrator"])
@pytest.mark.parametrize("address", [f"{MIGRATIONS}add/", f"{JOBS}add/"])
def test_nobody_adds(group, address):
    assert client_of(group).get(address).status_code == 403


@pytest.mark.parametrize("group", ["Viewer", "Operator", "Administrator"])
def test_nobody_deletes(migration, group):
    job = BackgroundMigrationJobFactory(background_migration=migration)
    client = client_of(group)
    for address in (f"{MIGRATIONS}{migration.id}/delete/", f"{JOBS}{job.id}/delete/"):
        assert client.post(address, {"post": "yes"}).status_code == 403
    client.post(MIGRATIONS, {"action": "delete_selected", "_selected_action": [migration.id], "post": "yes"})
    assert BackgroundMigration.objects.filter(pk=migration.pk).exists()


def test_the_list_offers_a_viewer_no_action(migration):
    assert 'name="action"' not in client_of("Viewer").get(MIGRATIONS).content.decode()
    assert 'name="action"' in client_of("Operator", username="bob").get(MIGRATIONS).content.decode()


@pytest.mark.parametrize("page", ["", "rows/?ids=1", "{id}/change/", "{id}/live/"])
def test_pages_and_what_renews_them_are_for_those_who_may_look(migration, page):
    address = MIGRATIONS + page.format(id=migration.id)
    assert client_of(None).get(address).status_code == 403
    outsider = Client()
    outsider.force_login(UserFactory(is_staff=False))
    assert outsider.get(address).status_code == 302


def test_a_form_without_its_token_is_refused(migration):
    client = Client(enforce_csrf_checks=True)
    client.force_login(UserFactory(is_superuser=True))
    assert act(client, migration).status_code == 403
    assert BackgroundMigration.objects.get(pk=migration.pk).status == Status.RUNNING
