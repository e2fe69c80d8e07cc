"""Pause, resume, retry and restart by hand: asked first, done by POST, written down with who did it."""

import pytest
from django.contrib.admin.models import LogEntry

from background_migrations.models import BackgroundMigration, BackgroundMigrationJob, Event
from background_migrations.status import Status
from tests.factories import BackgroundMigrationFactory, BackgroundMigrationJobFactory
from tests.staff import client_of

pytestmark = pytest.mark.django_db(databases=["default", "registry"])

HERE = "/admin/background_migrations/backgroundmigration/"


@pytest.fixture
def operator(db):
    return client_of("Operator")


def status_of(migration) -> Status:
    return Status(BackgroundMigration.objects.get(pk=migration.pk).status)


def act(client, verb, *migrations, confirmed=True, **fields):
    data = {"_selected_action": [each.pk for each in migrations], **fields}
    return client.post(f"{HERE}act/{verb}/", {**data, "confirmed": "yes"} if confirmed else data)


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("pause", Status.RUNNING, Status.PAUSED),
        ("resume", Status.PAUSED, Status.ACTIVE),
        ("restart", Status.FAILED, Status.ACTIVE),
    ],
)
def test_a_confirmed_move_is_made_and_written_down_with_the_name_of_the_user(operator, verb, before, after):
    migration = BackgroundMigrationFactory(status=int(before))
    assert act(operator, verb, migration).status_code == 302
    assert status_of(migration) is after
    event = Event.objects.filter(background_migration_id=migration.id).latest("id")
    assert (event.actor, event.new_status) == ("alice", after)
    entry = LogEntry.objects.get(object_id=str(migration.pk))
    assert (entry.user.username, entry.object_repr) == ("alice", migration.name)


def test_failed_jobs_get_new_attempts(operator):
    migration = BackgroundMigrationFactory(running=True)
    job = BackgroundMigrationJobFactory(failed=True, background_migration=migration, attempts=5)
    act(operator, "retry", migration)
    assert BackgroundMigrationJob.objects.get(pk=job.pk).attempts == 0
    assert Event.objects.get(background_migration_id=migration.id).actor == "alice"


def test_nothing_is_done_before_it_is_confirmed(operator):
    running, paused = BackgroundMigrationFactory(running=True), BackgroundMigrationFactory(status=int(Status.PAUSED))
    answer = act(operator, "pause", running, paused, confirmed=False)
    page = answer.content.decode()
    assert status_of(running) is Status.RUNNING
    assert [row.report.name for row in answer.context["rows"]] == [running.name]
    assert "within one sub-batch" in page
    assert "this one is paused" in page


def test_the_action_of_the_list_asks_first_too(operator):
    migration = BackgroundMigrationFactory(running=True)
    answer = operator.post(HERE, {"action": "pause", "_selected_action": [migration.pk]})
    assert [row.report.name for row in answer.context["rows"]] == [migration.name]
    assert status_of(migration) is Status.RUNNING


def test_what_is_refused_does_not_keep_the_others_from_it(operator):
    finished, running = (
        BackgroundMigrationFactory(status=int(Status.FINISHED)),
        BackgroundMigrationFactory(running=True),
    )
    answer = act(operator, "pause", finished, running)
    shown = [str(message) for message in operator.get(answer.url).context["messages"]]
    assert status_of(running) is Status.PAUSED
    assert [finished.name in message for message in shown] == [True, False]


def test_it_leads_back_to_the_page_it_came_from_and_to_no_other_host(operator):
    migration = BackgroundMigrationFactory(running=True)
    page = f"{HERE}{migration.id}/change/"
    assert act(operator, "pause", migration, next=page).url == page
    assert act(operator, "resume", migration, next="https://example.com/").url == HERE


@pytest.mark.parametrize("verb", ["pause", "resume", "retry", "restart"])
def test_a_link_does_nothing(operator, verb):
    migration = BackgroundMigrationFactory(running=True)
    address = f"{HERE}act/{verb}/?_selected_action={migration.pk}&confirmed=yes"
    assert operator.get(address).status_code == 405
    assert status_of(migration) is Status.RUNNING


def test_what_nobody_can_do_is_not_found(operator):
    assert act(operator, "destroy", BackgroundMigrationFactory()).status_code == 404


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5_000, "٣", "-1", "x", "\x00"])
@pytest.mark.parametrize("confirmed", [True, False])
def test_a_number_of_no_migration_does_nothing_and_keeps_no_other_from_it(operator, number, confirmed):
    migration = BackgroundMigrationFactory(running=True)
    data = {"_selected_action": [number, migration.pk], **({"confirmed": "yes"} if confirmed else {})}
    assert operator.post(f"{HERE}act/pause/", data).status_code == (302 if confirmed else 200)
    assert status_of(migration) is (Status.PAUSED if confirmed else Status.RUNNING)
    assert operator.post(HERE, {"action": "pause", "_selected_action": [number]}).status_code < 500
