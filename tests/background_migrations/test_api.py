"""The REST API of background migrations: what it shows, what it changes, and how many statements that takes."""

import pytest
from django.db import connections

from background_migrations.models import BackgroundMigration, Control, Event
from background_migrations.status import FailureErrorCode, Status
from tests.api_client import counted_statements
from tests.factories import (
    BackgroundMigrationFactory,
    BackgroundMigrationJobFactory,
    ControlFactory,
    JobProgressFactory,
)

pytestmark = pytest.mark.django_db(databases=["registry"])

HERE = "/gitlab/v1/background-migrations/"
READ, WRITE, ALL = [f"registry:background-migrations:{action}" for action in ("read", "write", "*")]
LARGEST = 2**63 - 1


@pytest.fixture(autouse=True)
def connection(db):
    """The registry's connection, without the seeded migrations."""
    BackgroundMigration.objects.all().delete()
    connections["registry"].ensure_connection()
    return connections["registry"].connection


def error(answer) -> tuple[int, str, str]:
    (found,) = answer.json()["errors"]
    return answer.status_code, found["code"], found["detail"]


def status_of(migration) -> Status:
    return Status(BackgroundMigration.objects.get(id=migration.id).status)


# --- Shown ------------------------------------------------------------------------------------------------------------


def test_without_migrations_the_list_is_empty(api):
    answer = api.get(HERE, READ)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == {"migrations": []}


def test_a_migration_of_which_nothing_is_known_yet_has_its_own_fields_alone(api):
    migration = BackgroundMigrationFactory(name="copy", created_at="2026-01-02T03:04:05.60Z", max_value=900)
    assert api.get(HERE, READ).json() == {
        "migrations": [
            {
                "id": migration.id,
                "name": "copy",
                "status": "active",
                "job_signature_name": "populateBlobsIDColumn",
                "target_table": "public.blobs",
                "target_column": "id",
                "batch_size": 100,
                "min_value": 1,
                "max_value": 900,
                "batching_strategy": "",
                "finished_jobs": 0,
                "created_at": "2026-01-02T03:04:05.6Z",
                "throttled_by": "",
                "throttled_reason": "",
            }
        ]
    }


def test_a_running_migration_shows_how_far_it_is_and_what_holds_it_up(api):
    migration = BackgroundMigrationFactory(running=True, batching_strategy="NullKeySetBatchingStrategy")
    ControlFactory(background_migration_id=migration.id, throttled_by="vacuum", throttled_reason="vacuum is at work")
    JobProgressFactory.create_batch(3, job__background_migration=migration, seconds=2.0)
    found = api.get(f"{HERE}{migration.id}/", READ).json()["migration"]
    assert (found["status"], found["batching_strategy"]) == ("running", "NullKeySetBatchingStrategy")
    assert (found["total_tuple_count"], found["finished_jobs"], found["progress"], found["capped"]) == (
        1_000,
        3,
        30.0,
        False,
    )
    assert found["eta_seconds"] == 28  # seven jobs of two seconds, with two seconds between
    assert (found["throttled_by"], found["throttled_reason"]) == ("vacuum", "vacuum is at work")
    assert "started_at" in found
    assert "finished_at" not in found


def test_what_its_estimate_has_used_up_is_shown_as_capped(api):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=200)
    JobProgressFactory.create_batch(3, job__background_migration=migration)
    found = api.get(f"{HERE}{migration.id}/", READ).json()["migration"]
    assert (found["progress"], found["capped"]) == (99.9, True)


def test_what_is_not_finished_never_shows_a_hundred_percent(api):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=100_001, batch_size=100_000)
    JobProgressFactory(job__background_migration=migration, size=100_000)
    found = api.get(f"{HERE}{migration.id}/", READ).json()["migration"]
    assert (found["progress"], found["capped"]) == (99.9, False)


def test_a_finished_migration_is_at_a_hundred_percent_without_time_left(api):
    migration = BackgroundMigrationFactory(status=int(Status.FINISHED))
    found = api.get(f"{HERE}{migration.id}/", READ).json()["migration"]
    assert (found["status"], found["progress"], found["capped"]) == ("finished", 100.0, False)
    assert "eta_seconds" not in found


def test_a_failed_migration_shows_why(api):
    migration = BackgroundMigrationFactory(failed=True)
    found = api.get(f"{HERE}{migration.id}/", READ).json()["migration"]
    assert (found["status"], found["error_code"]) == ("failed", int(FailureErrorCode.MAX_JOB_RETRY))


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        ("999999", (404, "BBM_ID_NOT_FOUND")),
        (str(LARGEST), (404, "BBM_ID_NOT_FOUND")),
        (str(LARGEST + 1), (400, "BBM_ID_INVALID")),
        ("9" * 5_000, (400, "BBM_ID_INVALID")),
    ],
)
@pytest.mark.parametrize(("method", "ending"), [("GET", ""), ("GET", "jobs/"), ("POST", "pause/"), ("PATCH", "")])
def test_an_id_that_is_not_there_is_named(api, method, ending, digits, expected):
    if method == "PATCH":
        answer = api.patch(f"{HERE}{digits}/", WRITE, {"batch_size": 5})
    else:
        answer = api.send(method, f"{HERE}{digits}/{ending}", READ if method == "GET" else WRITE)
    assert error(answer)[:2] == expected
    assert expected[0] != 404 or digits in error(answer)[2]


# --- How many statements ----------------------------------------------------------------------------------------------


def test_two_hundred_migrations_are_listed_by_one_statement(api, connection):
    for migration in BackgroundMigrationFactory.create_batch(200, running=True):
        JobProgressFactory(job__background_migration=migration)
    with counted_statements(connection) as count:
        assert len(api.get(HERE, READ).json()["migrations"]) == 200
    assert count() == 1


@pytest.mark.parametrize(
    ("method", "ending", "statements"), [("GET", "", 1), ("GET", "jobs/", 2), ("POST", "pause/", 4), ("PATCH", "", 8)]
)
def test_each_route_takes_the_same_few_statements(api, connection, method, ending, statements):
    migration = BackgroundMigrationFactory(running=True)
    JobProgressFactory.create_batch(20, job__background_migration=migration)
    path = f"{HERE}{migration.id}/{ending}"
    with counted_statements(connection) as count:
        answer = api.patch(path, WRITE, {"batch_size": 5}) if method == "PATCH" else api.send(method, path, ALL)
    assert answer.status_code == 200
    assert count() == statements


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_moving_all_takes_two_statements(api, connection, verb):
    BackgroundMigrationFactory.create_batch(20)
    with counted_statements(connection) as count:
        assert api.post(f"{HERE}{verb}/", WRITE).status_code == 200
    assert count() == 2


# --- Paused, resumed, restarted -----------------------------------------------------------------------------------


def test_pause_and_resume_of_all_move_what_they_may_and_say_how_many(api):
    each = {status: BackgroundMigrationFactory(status=int(status)) for status in Status}
    answer = api.post(f"{HERE}pause/", WRITE)
    assert answer.json() == {"success": True, "message": "Paused 2 background migrations."}
    assert [status_of(each[status]) for status in (Status.ACTIVE, Status.RUNNING)] == [Status.PAUSED, Status.PAUSED]
    assert [status_of(each[status]) for status in (Status.FINISHED, Status.FAILED)] == [Status.FINISHED, Status.FAILED]
    assert api.post(f"{HERE}pause/", WRITE).json() == {"success": True, "message": "Paused 0 background migrations."}
    assert api.post(f"{HERE}resume/", WRITE).json()["message"] == "Resumed 3 background migrations."
    assert status_of(each[Status.PAUSED]) is Status.ACTIVE


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("pause", Status.RUNNING, Status.PAUSED),
        ("resume", Status.PAUSED, Status.ACTIVE),
        ("restart", Status.FAILED, Status.ACTIVE),
    ],
)
def test_one_migration_is_moved_and_no_other(api, verb, before, after):
    moved, other = BackgroundMigrationFactory.create_batch(2, status=int(before))
    answer = api.post(f"{HERE}{moved.id}/{verb}/", WRITE)
    assert answer.json()["success"] is True
    assert moved.name in answer.json()["message"]
    assert (status_of(moved), status_of(other)) == (after, before)


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        *[("pause", status) for status in (Status.PAUSED, Status.FINISHED, Status.FAILED)],
        *[("resume", status) for status in Status if status is not Status.PAUSED],
        *[("restart", status) for status in Status if status is not Status.FAILED],
    ],
)
def test_a_status_that_does_not_allow_a_move_is_a_conflict(api, verb, status):
    migration = BackgroundMigrationFactory(status=int(status))
    code, name, detail = error(api.post(f"{HERE}{migration.id}/{verb}/", WRITE))
    assert (code, name) == (409, "BBM_INVALID_TRANSITION")
    assert f"is {status.label}" in detail
    assert status_of(migration) is status


def test_restart_clears_the_reason_of_the_failure_under_both_its_paths(api):
    for path in (f"{HERE}{{}}/restart/", "/gitlab/v1/restart/{}/"):
        migration = BackgroundMigrationFactory(failed=True)
        assert api.post(path.format(migration.id), WRITE).status_code == 200
        migration.refresh_from_db()
        assert (migration.status, migration.failure_error_code) == (Status.ACTIVE, None)


@pytest.mark.parametrize(
    ("claims", "actor"),
    [
        ({"sub": "root"}, "token of root"),
        ({}, "token without a subject"),
        ({"sub": "a\x00b\u202e\n" + "c" * 500}, "token of ab" + "c" * 198),
    ],
)
def test_who_moved_it_is_in_the_event(api, claims, actor):
    migration = BackgroundMigrationFactory()
    assert api.post(f"{HERE}{migration.id}/pause/", WRITE, **claims).status_code == 200
    assert [(event.actor, event.new_status) for event in Event.objects.all()] == [(actor, Status.PAUSED)]


# --- Controls -------------------------------------------------------------------------------------------------------


def test_controls_are_changed_one_by_one_and_answered_all(api):
    migration = BackgroundMigrationFactory()
    path = f"{HERE}{migration.id}/"
    api.patch(path, WRITE, {"batch_size": 500.0, "adaptive": True, "interval_seconds": 0})
    assert Control.objects.get(background_migration_id=migration.id).batch_size == 500
    found = api.patch(path, WRITE, {"batch_size": None, "hold_until": "2026-12-01T20:00:00+01:00"}).json()["controls"]
    assert {name: value for name, value in found.items() if value is not None} == {
        "adaptive": True,
        "interval_seconds": 0.0,
        "hold_until": "2026-12-01T19:00:00Z",
    }
    control = Control.objects.get(background_migration_id=migration.id)
    assert (control.batch_size, control.adaptive, control.interval_seconds) == (None, True, 0)
    assert Event.objects.filter(kind="controls", actor="token without a subject").count() == 2


@pytest.mark.parametrize(
    "body",
    [
        {"batch_size": 0},
        {"batch_size": 2**31},
        {"batch_size": 5, "unknown": 1},
        {"batch_size": 5, "hold_until": "tomorrow"},
        {"batch_size": 5, "hold_until": "2026-12-01T20:00:00"},
        {"batch_size": 5, "hold_until": "2026-13-41T20:00:00Z"},
        {"batch_size": 5, "hold_until": "0001-01-01T00:00:00+10:00"},
        {"batch_size": 5, "hold_until": "9999-12-31T23:59:59-10:00"},
    ],
)
def test_a_control_that_makes_no_sense_changes_nothing(api, body):
    migration = BackgroundMigrationFactory()
    assert error(api.patch(f"{HERE}{migration.id}/", WRITE, body))[:2] == (400, "INVALID_BODY_PARAMETER")
    assert not Control.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": value} for value in ("5", 5.5, True, [5])]
    + [{"hold_until": 5}, {"adaptive": "yes"}, {"adaptive": 1}],
)
def test_a_control_of_another_kind_changes_nothing(api, changes):
    migration = BackgroundMigrationFactory()
    answer = api.patch(f"{HERE}{migration.id}/", WRITE, {"interval_seconds": 1, **changes})
    assert error(answer)[:2] == (400, "INVALID_BODY_PARAMETER_TYPE")
    assert not Control.objects.exists()


def test_controls_that_contradict_each_other_change_nothing(api):
    path = f"{HERE}{BackgroundMigrationFactory().id}/"
    api.patch(path, WRITE, {"max_batch_size": 5})
    answer = error(api.patch(path, WRITE, {"batch_size": 7, "min_batch_size": 10}))
    assert answer[:2] == (409, "BBM_CONFLICTING_CONTROLS")
    assert [control.batch_size for control in Control.objects.all()] == [None]


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", '"text"', "nul", '{"batch_size": NaN}', "[" * 50_000, '{"batch_size": 1e999}', "x" * 70_000],
)
def test_a_body_that_is_no_json_object_changes_nothing(api, body):
    migration = BackgroundMigrationFactory()
    assert error(api.patch(f"{HERE}{migration.id}/", WRITE, body))[:2] == (400, "INVALID_JSON_BODY")
    assert not Control.objects.exists()


@pytest.mark.parametrize("scope", [READ, None])
def test_who_may_only_read_changes_nothing(api, scope):
    migration = BackgroundMigrationFactory()
    assert api.patch(f"{HERE}{migration.id}/", scope, {"batch_size": 5}).status_code == 401
    assert api.post(f"{HERE}pause/", scope).status_code == 401
    assert api.post(f"{HERE}{migration.id}/pause/", scope).status_code == 401
    assert status_of(migration) is Status.ACTIVE


def test_who_may_only_write_reads_nothing(api):
    assert api.get(HERE, WRITE).status_code == 401
    assert api.get(HERE, ALL).status_code == 200


# --- Jobs -------------------------------------------------------------------------------------------------------------


def test_jobs_come_in_pages_that_lead_from_one_to_the_next(api):
    migration = BackgroundMigrationFactory(running=True)
    jobs = BackgroundMigrationJobFactory.create_batch(5, background_migration=migration)
    found, path = [], f"{HERE}{migration.id}/jobs/?n=2&status=finished"
    while path:
        answer = api.get(path, READ)
        found += [job["id"] for job in answer.json()["jobs"]]
        path = answer.headers.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')
    assert found == [job.id for job in jobs]


def test_a_job_shows_its_bounds_and_what_it_took(api):
    migration = BackgroundMigrationFactory(running=True)
    piece = JobProgressFactory(job__background_migration=migration, rows=90, seconds=1.5)
    (job,) = api.get(f"{HERE}{migration.id}/jobs/", READ).json()["jobs"]
    assert job["id"] == piece.job_id
    assert (job["status"], job["rows"], job["seconds"], job["pieces"]) == ("finished", 90, 1.5, 1)
    assert "worker" not in job


def test_jobs_may_be_asked_for_by_their_state(api):
    migration = BackgroundMigrationFactory(running=True)
    BackgroundMigrationJobFactory(background_migration=migration)
    failed = BackgroundMigrationJobFactory(
        background_migration=migration, status=int(Status.FAILED), failure_error_code=0, finished_at=None
    )
    found = {
        state: [job["id"] for job in api.get(f"{HERE}{migration.id}/jobs/?status={state}", READ).json()["jobs"]]
        for state in ("failed", "running", "set aside")
    }
    assert found == {"failed": [failed.id], "running": [], "set aside": []}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("status=odd", "INVALID_QUERY_PARAMETER_VALUE"),
        ("n=0", "INVALID_QUERY_PARAMETER_VALUE"),
        ("n=1001", "INVALID_QUERY_PARAMETER_VALUE"),
        (f"n={'9' * 5_000}", "INVALID_QUERY_PARAMETER_VALUE"),
        (f"last={LARGEST + 1}", "INVALID_QUERY_PARAMETER_VALUE"),
        ("n=ten", "INVALID_QUERY_PARAMETER_TYPE"),
        ("n=-1", "INVALID_QUERY_PARAMETER_VALUE"),
        ("n=%C2%B2", "INVALID_QUERY_PARAMETER_TYPE"),
        ("last=1.5", "INVALID_QUERY_PARAMETER_TYPE"),
    ],
)
def test_parameters_that_make_no_sense_are_named(api, query, code):
    migration = BackgroundMigrationFactory()
    status, found, detail = error(api.get(f"{HERE}{migration.id}/jobs/?{query}", READ))
    assert (status, found) == (400, code)
    assert query.partition("=")[0] in detail
