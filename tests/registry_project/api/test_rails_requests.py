"""Requests in the shape in which GitLab Rails sends them, and answers of which it can make something."""

import json
import re
from datetime import UTC, datetime

import pytest
from django.db import connections

from background_migrations.status import FailureErrorCode, Status
from tests.factories import BackgroundMigrationFactory, BackgroundMigrationJobFactory
from tests.registry_project.api.asking import (
    ALL,
    MIGRATIONS,
    PRESENCE,
    STATISTICS,
    STATUS,
    TO_READ,
    TO_STATISTICS,
    TO_STATUS,
    TO_WRITE,
)

pytestmark = pytest.mark.django_db(databases=["default", "registry", "rails"])
RAILS = {"HTTP_ACCEPT": "application/json", "HTTP_USER_AGENT": "GitLab/18.6.0", "HTTP_ACCEPT_ENCODING": "gzip;q=1.0"}
ALWAYS = {
    "id",
    "name",
    "status",
    "job_signature_name",
    "target_table",
    "target_column",
    "batch_size",
    "min_value",
    "max_value",
    "batching_strategy",
    "finished_jobs",
}
TIMES = ("created_at", "started_at", "finished_at", "updated_at")
ADD_IMPORT = """
    INSERT INTO import_statistics
        (created_at, started_at, pre_import, tag_import, blob_import, repositories_count, tags_count, manifests_count,
        storage_driver, finished_at, blobs_count, blobs_size_bytes, pre_import_started_at, pre_import_error)
    VALUES ('2025-07-10 16:34:41.09796+00', '2025-07-10 18:34:39.5102+02', true, false, false, 1, 3, 4,
        'filesystem', %(finished_at)s, %(blobs)s, %(blobs)s, %(finished_at)s, %(error)s)
    RETURNING id
"""


def add_import(**values):
    with connections["registry"].cursor() as cursor:
        cursor.execute(ADD_IMPORT, {"finished_at": None, "blobs": 0, "error": None, **values})
        ((import_id,),) = cursor.fetchall()
    return import_id


def shown(ask, signer, migration):
    """A migration as the API shows it by its id."""
    answer = ask(f"{MIGRATIONS}{migration.pk}/", signer.grant(TO_READ), **RAILS)
    assert (answer.status_code, set(answer.json())) == (200, {"migration"})
    return answer.json()["migration"]


def test_the_probe_is_answered_to_a_token_without_subject_and_access(ask, signer):
    answer = ask(PRESENCE, signer.bearer({"access": []}), **RAILS)
    assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (200, "application/json", b"{}")


def test_a_post_without_a_body_is_answered(ask, signer):
    migration = BackgroundMigrationFactory()
    for verb, status in (("pause", "paused"), ("resume", "active")):
        for path in (f"{MIGRATIONS}{verb}/", f"{MIGRATIONS}{verb}"):
            answer = ask(path, signer.grant(TO_WRITE), method="POST", CONTENT_LENGTH="0", **RAILS)
            assert (answer.status_code, set(answer.json())) == (200, {"success", "message"})
            assert answer.json()["success"] is True
            assert isinstance(answer.json()["message"], str)
        assert shown(ask, signer, migration)["status"] == status


SUBJECTS = {
    "nobody": None,
    "nothing": "",
    "a name": "chatops",
    "other alphabets": "Łukasz 李 🦊",
    "quotes": "'; DROP TABLE repositories; --",
    "a newline": "a\nb",
    "an escape": "\x1b[31m",
    "NUL": "a\x00b",
    "half a pair": "a\ud800b",
    "very long": "x" * 50_000,
}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_a_pause_never_fails_for_its_subject(ask, signer, subject):
    migration = BackgroundMigrationFactory()
    answer = ask(f"{MIGRATIONS}{migration.pk}/pause/", signer.grant(TO_WRITE, sub=subject), method="POST", **RAILS)
    assert answer.status_code in (200, 401), answer.content
    migration.refresh_from_db()
    assert migration.status == (Status.PAUSED if answer.status_code == 200 else Status.ACTIVE)


def test_pause_and_resume_of_all_leave_ended_migrations_alone(ask, signer):
    statuses = (Status.ACTIVE, Status.RUNNING, Status.PAUSED, Status.FINISHED, Status.FAILED)
    migrations = [BackgroundMigrationFactory(status=int(status)) for status in statuses]
    for verb, expected in (("pause", ["paused"] * 3), ("resume", ["active"] * 3)):
        assert ask(f"{MIGRATIONS}{verb}/", signer.grant(TO_WRITE), method="POST").status_code == 200
        found = [shown(ask, signer, migration)["status"] for migration in migrations]
        assert found == [*expected, "finished", "failed"]


REFUSED_MOVES = {
    "pause": [Status.PAUSED, Status.FINISHED, Status.FAILED],
    "resume": [Status.ACTIVE, Status.RUNNING, Status.FINISHED, Status.FAILED],
    "restart": [Status.PAUSED, Status.ACTIVE, Status.RUNNING, Status.FINISHED],
}


@pytest.mark.parametrize(
    ("verb", "status"), [(verb, status) for verb, found in REFUSED_MOVES.items() for status in found]
)
def test_a_move_that_the_status_does_not_allow_is_a_conflict(ask, signer, verb, status):
    migration = BackgroundMigrationFactory(status=int(status))
    answer = ask(f"{MIGRATIONS}{migration.pk}/{verb}/", signer.grant(TO_WRITE), method="POST")
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["code"]) == (409, "BBM_INVALID_TRANSITION")
    assert answer.content.endswith(b"\n")
    migration.refresh_from_db()
    assert migration.status == status


def test_a_restart_takes_the_error_code_away(ask, signer):
    migration = BackgroundMigrationFactory(failed=True)
    assert shown(ask, signer, migration)["error_code"] == FailureErrorCode.MAX_JOB_RETRY
    answer = ask(f"/gitlab/v1/restart/{migration.pk}/", signer.grant(TO_WRITE), method="POST")
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    migration = shown(ask, signer, migration)
    assert migration["status"] == "active"
    assert "error_code" not in migration


def test_the_status_is_exactly_what_was_asked_for(ask, signer):
    for status in (Status.PAUSED, Status.FAILED, Status.FINISHED, Status.RUNNING):
        BackgroundMigrationFactory(status=int(status))
    body = ask(STATUS, signer.grant(TO_STATUS), **RAILS).json()
    assert list(body) == ["version", "schema_migrations", "background_migrations"]
    assert body["version"] == "v4.32.0-gitlab"
    schema, background = body["schema_migrations"], body["background_migrations"]
    assert list(schema) == ["applied", "pending", "pending_post_deployment", "pending_non_post_deployment"]
    assert list(background) == ["active", "paused", "failed", "completed"]
    assert schema["applied"] > 0
    assert schema["pending"] == schema["pending_post_deployment"] + schema["pending_non_post_deployment"] == 0
    with connections["registry"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM batched_background_migrations")
        assert sum(background.values()) == cursor.fetchone()[0]
    assert min(background.values()) > 0


def test_the_status_counts_what_is_pending_and_not_what_nobody_knows(ask, signer):
    before = ask(STATUS, signer.grant(TO_STATUS)).json()["schema_migrations"]
    with connections["registry"].cursor() as cursor:
        cursor.execute("DELETE FROM schema_migrations WHERE id = (SELECT max(id) FROM schema_migrations)")
        cursor.execute("DELETE FROM post_deploy_schema_migrations")
        missing = cursor.rowcount
        cursor.execute("INSERT INTO schema_migrations (id) VALUES ('20990101000000_of_tomorrow')")
    after = ask(STATUS, signer.grant(TO_STATUS)).json()["schema_migrations"]
    assert after == {
        "applied": before["applied"] - 1 - missing,
        "pending": 1 + missing,
        "pending_post_deployment": missing,
        "pending_non_post_deployment": 1,
    }


def test_statistics_without_an_import_leave_it_out(ask, signer):
    body = ask(STATISTICS, signer.grant(TO_STATISTICS), **RAILS).json()
    assert set(body) == {"release", "database"}
    assert body["release"]["version"] == "v4.32.0-gitlab"
    assert isinstance(body["release"]["ext_features"], str)
    assert body["database"] == {"enabled": True}


def test_an_import_is_shown_without_what_is_nothing(ask, signer):
    import_id = add_import()
    (shown_import,) = ask(STATISTICS, signer.grant(TO_STATISTICS)).json()["import"]
    assert shown_import == {
        "id": import_id,
        "created_at": "2025-07-10T16:34:41.09796Z",
        "started_at": "2025-07-10T16:34:39.5102Z",
        "pre_import": True,
        "tag_import": False,
        "blob_import": False,
        "repositories_count": 1,
        "tags_count": 3,
        "manifests_count": 4,
        "storage_driver": "filesystem",
    }


def test_imports_are_shown_in_their_order_with_all_that_is_known(ask, signer):
    first = add_import()
    second = add_import(finished_at=datetime(2025, 7, 11, tzinfo=UTC), blobs=7, error="no space left")
    shown_imports = ask(STATISTICS, signer.grant(TO_STATISTICS)).json()["import"]
    assert [each["id"] for each in shown_imports] == [first, second]
    assert {name: shown_imports[1][name] for name in shown_imports[1].keys() - shown_imports[0].keys()} == {
        "finished_at": "2025-07-11T00:00:00Z",
        "blobs_count": 7,
        "blobs_size_bytes": 7,
        "pre_import_started_at": "2025-07-11T00:00:00Z",
        "pre_import_error": "no space left",
    }


def test_the_list_is_ordered_and_shows_what_the_id_shows(ask, signer):
    migrations = [BackgroundMigrationFactory() for _ in range(3)]
    answer = ask(MIGRATIONS, signer.grant(TO_READ), **RAILS)
    listed = answer.json()["migrations"]
    assert [each["id"] for each in listed] == sorted(each["id"] for each in listed)
    assert {migration.pk for migration in migrations} <= {each["id"] for each in listed}
    assert listed[-1] == shown(ask, signer, migrations[-1])


def test_an_empty_list_is_a_list(ask, signer):
    with connections["registry"].cursor() as cursor:
        cursor.execute("DELETE FROM batched_background_migrations")
    assert ask(MIGRATIONS, signer.grant(TO_READ)).json() == {"migrations": []}


def test_a_migration_of_unknown_size_is_shown_without_its_progress(ask, signer):
    migration = shown(ask, signer, BackgroundMigrationFactory(total_tuple_count=None))
    assert set(migration) >= ALWAYS
    assert not {"progress", "capped", "total_tuple_count", "error_code", "eta_seconds"} & set(migration)
    assert (migration["target_table"], migration["target_column"]) == ("public.blobs", "id")
    assert (migration["batching_strategy"], migration["max_value"]) == ("", 2**63 - 1)


def test_progress_never_reaches_its_end_before_the_end(ask, signer):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=150)
    BackgroundMigrationJobFactory(background_migration=migration)
    found = shown(ask, signer, migration)
    assert (found["finished_jobs"], found["total_tuple_count"], found["capped"]) == (1, 150, False)
    assert found["progress"] == pytest.approx(100 * 100 / 150, abs=0.05)
    BackgroundMigrationJobFactory(background_migration=migration)
    found = shown(ask, signer, migration)
    assert (found["finished_jobs"], found["progress"], found["capped"]) == (2, 99.9, True)
    migration.status = int(Status.FINISHED)
    migration.save()
    assert shown(ask, signer, migration)["progress"] == 100


STATUSES = {0: "paused", 1: "active", 2: "finished", 3: "failed", 4: "running"}


@pytest.mark.parametrize(("number", "name"), STATUSES.items())
def test_a_status_is_shown_by_its_name(ask, signer, number, name):
    assert shown(ask, signer, BackgroundMigrationFactory(status=number))["status"] == name


def test_times_are_in_utc_without_needless_zeros(ask, signer):
    migration = BackgroundMigrationFactory(
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), started_at=datetime(2026, 1, 2, 3, 4, 5, 120_000, UTC)
    )
    found = shown(ask, signer, migration)
    assert (found["created_at"], found["started_at"]) == ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.12Z")
    for name in TIMES:
        assert found.get(name) is None or re.fullmatch(r"[\d-]{10}T[\d:]{8}(\.\d*[1-9])?Z", found[name])


def test_every_answer_is_compact_json(ask, signer):
    BackgroundMigrationFactory()
    for path in (STATISTICS, STATUS, MIGRATIONS):
        content = ask(path, signer.grant(*ALL), **RAILS).content
        assert json.loads(content)
        assert b'": ' not in content
