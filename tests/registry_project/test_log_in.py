"""The log in and what every page sends along: a throttle, cookies, headers."""

import pytest
from django.contrib.auth.models import Group
from django.test import Client, RequestFactory

from registry_project.log_in import client_address
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(databases=["default", "registry"])

LOG_IN = "/admin/login/"


@pytest.fixture
def user(db):
    user = UserFactory(username="alice")
    user.set_password("right")
    user.save()
    return user


def log_in(client: Client, password: str, **extra):
    return client.post(LOG_IN, {"username": "alice", "password": password, "next": "/admin/"}, **extra)


def test_after_five_failures_the_right_password_has_to_wait_too(client, user):
    assert [log_in(client, "wrong").status_code for _ in range(5)] == [200, 200, 200, 200, 429]
    answer = log_in(client, "right")
    assert answer.status_code == 429
    assert "15 minutes" in answer.content.decode()
    assert log_in(client, "right", REMOTE_ADDR="10.0.0.9").status_code == 302


def test_four_failures_are_forgiven_by_a_success(client, user):
    for _ in range(2):
        for _ in range(4):
            log_in(client, "wrong")
        assert log_in(client, "right").status_code == 302


@pytest.mark.parametrize(("behind_proxy", "address"), [(False, "10.0.0.1"), (True, "10.0.0.3")])
def test_an_address_that_a_client_made_up_is_not_believed(settings, behind_proxy, address):
    settings.BEHIND_PROXY = behind_proxy
    headers = {"X-Forwarded-For": "10.0.0.2, 10.0.0.3"}
    assert client_address(RequestFactory(REMOTE_ADDR="10.0.0.1").get("/", headers=headers)) == address


@pytest.mark.parametrize("path", [LOG_IN, "/docs/"])
def test_a_page_takes_nothing_from_other_hosts_and_is_framed_by_none(admin_client, path):
    headers = admin_client.get(path, follow=True).headers
    policy = dict(each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["script-src"] == "'self' 'unsafe-eval'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_cookies_are_kept_from_scripts_and_other_sites(client, user):
    cookies = log_in(client, "right").cookies
    assert cookies["sessionid"]["httponly"]
    assert {cookies[name]["samesite"] for name in ("sessionid", "csrftoken")} == {"Lax"}


def test_the_favicon_is_there(client):
    assert client.get("/favicon.ico").url.endswith("favicon.svg")


def test_three_groups_are_ready():
    permissions = {
        group.name: set(group.permissions.values_list("codename", flat=True)) for group in Group.objects.all()
    }
    looking = {"view_backgroundmigration", "view_backgroundmigrationjob", "view_importrun", "view_schemamigration"}
    operating = looking | {"operate_backgroundmigration"}
    assert permissions == {
        "Viewer": looking,
        "Operator": operating,
        "Administrator": operating | {"configure_backgroundmigration"},
    }
