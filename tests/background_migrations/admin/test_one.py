"""The page of one background migration, its controls, and the page of one job."""

import datetime

import pytest
from django.utils import timezone

from background_migrations.models import BackgroundMigration, Control, Event
from background_migrations.status import Status
from tests.factories import (
    BackgroundMigrationFactory,
    BackgroundMigrationJobFactory,
    ControlFactory,
    EventFactory,
    JobProgressFactory,
)
from tests.staff import client_of

pytestmark = pytest.mark.django_db(databases=["default", "registry"])

MIGRATIONS = "/admin/background_migrations/backgroundmigration/"
JOBS = "/admin/background_migrations/backgroundmigrationjob/"
ERROR = {"kind": "job_failed", "error_class": "CheckViolation", "sqlstate": "23514", "reason": "bytes <b>-4</b>"}


@pytest.fixture
def administrator(db):
    return client_of("Administrator")


def page_of(migration: BackgroundMigration) -> str:
    return f"{MIGRATIONS}{migration.id}/change/"


def text_of(answer) -> str:
    assert answer.status_code == 200, answer
    return answer.content.decode()


def test_a_failed_one_shows_its_errors_the_reason_and_the_next_step(administrator):
    migration = BackgroundMigrationFactory(failed=True)
    job = BackgroundMigrationJobFactory(failed=True, background_migration=migration)
    EventFactory(migration=migration, job_id=job.id, old_status=None, new_status=None, **ERROR)
    EventFactory(migration=migration, old_status=int(Status.RUNNING), new_status=int(Status.FAILED), reason="no more")
    page = text_of(administrator.get(page_of(migration)))
    assert "CheckViolation 23514: bytes &lt;b&gt;-4" in page
    assert "no more" in page
    assert "Next step" in page


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        (Status.RUNNING, {"pause"}),
        (Status.ACTIVE, {"pause"}),
        (Status.PAUSED, {"resume"}),
        (Status.FAILED, {"restart"}),
        (Status.FINISHED, set()),
    ],
)
def test_buttons_are_disabled_with_the_reason_where_the_status_does_not_allow_them(administrator, status, allowed):
    answer = administrator.get(page_of(BackgroundMigrationFactory(status=int(status))))
    buttons = {verb.name: reason for verb, reason in answer.context["buttons"]}
    assert {name for name, reason in buttons.items() if not reason} == allowed
    assert all(reason in text_of(answer) for reason in buttons.values())


def test_failed_jobs_can_be_retried_while_others_go_on(administrator):
    migration = BackgroundMigrationFactory(running=True)
    BackgroundMigrationJobFactory(failed=True, background_migration=migration)
    answer = administrator.get(page_of(migration))
    assert {verb.name for verb, reason in answer.context["buttons"] if not reason} == {"pause", "retry"}


def test_charts_show_rows_size_and_seconds_of_jobs(administrator):
    migration = BackgroundMigrationFactory(running=True)
    noon = timezone.now()
    for minute in range(3):
        ended = noon + datetime.timedelta(minutes=minute)
        JobProgressFactory(job__background_migration=migration, size=100 + minute, ended_at=ended)
    charts = administrator.get(page_of(migration)).context["charts"]
    assert charts["rows"]["series"] == {"rows done": [100.0, 201.0, 303.0]}
    assert charts["jobs"]["series"] == {"batch size": [100, 101, 102], "seconds": [0.5, 0.5, 0.5]}


def test_controls_are_changed_by_the_service_with_the_name_of_the_user(administrator):
    migration = BackgroundMigrationFactory()
    ControlFactory(background_migration_id=migration.id, max_parallel_jobs=3, batch_size=10)
    fields = {"batch_size": "500", "adaptive": "true", "hold_until": "2030-01-02 03:04", "max_parallel_jobs": "3"}
    assert administrator.post(page_of(migration), fields).status_code == 302
    control = Control.objects.get(pk=migration.id)
    assert (control.batch_size, control.adaptive, control.max_parallel_jobs) == (500, True, 3)
    assert control.hold_until == datetime.datetime(2030, 1, 2, 3, 4, tzinfo=datetime.UTC)
    (event,) = Event.objects.filter(background_migration_id=migration.id)
    assert (event.kind, event.actor) == ("controls", "alice")
    assert "max_parallel_jobs" not in event.reason


def test_an_emptied_control_is_the_default_again(administrator):
    migration = BackgroundMigrationFactory()
    ControlFactory(background_migration_id=migration.id, batch_size=10, adaptive=True)
    administrator.post(page_of(migration), {"batch_size": "", "adaptive": ""})
    control = Control.objects.get(pk=migration.id)
    assert (control.batch_size, control.adaptive) == (None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_size": "0"},
        {"batch_size": "many"},
        {"interval_seconds": "-1"},
        {"hold_until": "tomorrow"},
        {"min_batch_size": "9", "max_batch_size": "3"},
        {"adaptive": "perhaps"},
    ],
)
def test_a_control_that_makes_no_sense_is_refused_on_the_page(administrator, fields):
    migration = BackgroundMigrationFactory()
    answer = administrator.post(page_of(migration), fields)
    assert answer.context["form"].errors
    assert 'role="alert"' in text_of(answer)
    assert not Control.objects.filter(pk=migration.id).exists()


@pytest.mark.parametrize("address", ["1000000", str(10**30), "abc", "-1"])
def test_a_migration_that_does_not_exist_is_not_found(administrator, address):
    assert administrator.get(f"{MIGRATIONS}{address}/change/").status_code == 404


def test_a_job_shows_its_bounds_attempts_and_errors(administrator):
    piece = JobProgressFactory(job__failed=True, waiting=True, set_aside=True, attempts=5)
    job = piece.job_id
    EventFactory(migration=BackgroundMigration.objects.get(pk=piece.background_migration_id), job_id=job, **ERROR)
    page = text_of(administrator.get(f"{JOBS}{job}/change/"))
    assert "set aside" in page
    assert "CheckViolation" in page


def test_a_job_that_does_not_exist_is_not_found(administrator):
    assert administrator.get(f"{JOBS}1000000/change/").status_code == 404
