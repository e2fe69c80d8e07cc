"""One line in the log for each request, and the correlation id that events and jobs go on with."""

import logging

import pytest
from django.test import Client

from background_migrations.models import BackgroundMigration, Event
from tests.factories import BackgroundMigrationFactory

pytestmark = pytest.mark.django_db(databases=["default", "registry"])

HERE = "/gitlab/v1/background-migrations/"
WRITE = "registry:background-migrations:write"


@pytest.fixture
def lines(caplog):
    """What was logged of requests and by Django itself since the last call."""
    caplog.set_level(logging.DEBUG)

    def lines():
        found = [record.msg for record in caplog.records if record.name.startswith(("django", "registry_project"))]
        caplog.clear()
        return found

    return lines


@pytest.mark.parametrize(
    ("path", "code"), [(f"{HERE}?private_token=abc", 401), ("/nowhere", 404), ("/admin/", 302), (HERE, 500)]
)
def test_a_request_is_one_line(api, lines, monkeypatch, path, code):
    scope = None
    if code == 500:
        scope = "registry:background-migrations:read"
        monkeypatch.setattr("background_migrations.reports.migration_reports", lambda *_, **__: 1 / 0)
    assert api.get(path, scope).status_code == code
    (line,) = lines()
    assert (line["event"], line["code"], line["request"]) == (
        "request_failed" if code == 500 else "request_finished",
        code,
        f"GET {path.partition('?')[0]}",
    )
    assert line["duration_s"] >= 0
    assert line["remote_ip"] == "127.0.0.1"


@pytest.mark.parametrize("given", ["01HQ-abc", "x" * 128])
def test_a_request_s_own_id_is_taken_into_its_line_and_its_events(api, lines, given):
    BackgroundMigration.objects.all().delete()
    BackgroundMigrationFactory()
    headers = {**api.headers(WRITE), "X-Request-ID": given}
    assert api.client.post(f"{HERE}pause/", headers=headers).status_code == 200
    assert lines()[-1]["correlation_id"] == given
    assert Event.objects.get().correlation_id == given


@pytest.mark.parametrize("given", ["", "two words", "a\u2028b", "x" * 129, '{"a":1}'])
def test_an_id_that_is_none_is_replaced(lines, given):
    Client().get("/nowhere", headers={"X-Request-ID": given})
    (line,) = lines()
    assert len(line["correlation_id"]) == 32
