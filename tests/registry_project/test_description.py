"""The OpenAPI document against the API itself, by generated requests; and who may see it."""

import itertools
import re
from collections.abc import Set

import pytest
import schemathesis
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application
from drf_spectacular.views import SpectacularSwaggerSplitView
from hypothesis import HealthCheck, given
from hypothesis import settings as options
from rest_framework.views import APIView
from schemathesis.config import SchemathesisConfig

from registry_project.api import urls
from registry_project.api.access import alternatives
from registry_project.api.routes import api_patterns
from tests.factories import BackgroundMigrationFactory, JobProgressFactory, UserFactory

DOCUMENT = "/gitlab/v1/openapi.json"
GRANTED = [
    {"type": "registry", "name": name, "actions": ["*"]}
    for name in ("migrations", "background-migrations", "statistics")
]
# Generated tokens would all be wrong, and soon too many.
WITHOUT_TOKENS = SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}})
generously = options(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture
def schema(api, committed_db, settings):
    settings.ALLOWED_HOSTS = ["localhost"]
    settings.API_FAILED_TOKENS_PER_MINUTE = 0
    for migration in BackgroundMigrationFactory.create_batch(3, running=True):
        JobProgressFactory(job__background_migration=migration)
    return schemathesis.openapi.from_wsgi(DOCUMENT, get_wsgi_application(), config=WITHOUT_TOKENS)


def check_all(schema, *, headers: dict[str, str], statuses: Set[int] = frozenset(range(500))) -> None:
    """Send generated requests to each operation: what it answers must be what the document says.

    Schemathesis' own pytest functions do not know this pytest yet.
    """
    for found in schema.get_all_operations():

        @generously
        @given(found.ok().as_strategy())
        def check(case):
            assert case.call_and_validate(headers=headers).status_code in statuses

        check()


def test_what_is_described_is_what_a_token_finds(api, schema):
    check_all(schema, headers={"Authorization": f"Bearer {api.auth.granting(*GRANTED)}"})


def test_what_is_described_is_what_nobody_finds(schema):
    check_all(schema, headers={}, statuses={401})


def test_every_route_is_described_once_with_its_refusals(client):
    paths = client.get(DOCUMENT).json()["paths"]
    assert set(paths) == {
        "/gitlab/v1/",
        "/gitlab/v1/admin/db/migrations/status/",
        "/gitlab/v1/background-migrations/",
        "/gitlab/v1/background-migrations/pause/",
        "/gitlab/v1/background-migrations/resume/",
        "/gitlab/v1/background-migrations/{id}/",
        "/gitlab/v1/background-migrations/{id}/jobs/",
        "/gitlab/v1/background-migrations/{id}/pause/",
        "/gitlab/v1/background-migrations/{id}/resume/",
        "/gitlab/v1/background-migrations/{id}/restart/",
        "/gitlab/v1/statistics/",
    }
    for operations in paths.values():
        for operation in operations.values():
            assert {"200", "401", "429", "500", "503"} <= set(operation["responses"])


def test_every_route_says_what_a_token_must_grant(client):
    paths = client.get(DOCUMENT).json()["paths"]
    one = paths["/gitlab/v1/background-migrations/{id}/"]
    assert one["get"]["security"] == [{"token": ["registry:background-migrations:read"]}]
    assert one["patch"]["security"] == [{"token": ["registry:background-migrations:write"]}]
    assert paths["/gitlab/v1/"]["get"]["security"] == [{"token": []}]
    status = paths["/gitlab/v1/admin/db/migrations/status/"]["get"]["security"]
    assert [scope.split()[0] for each in status for scope in each["token"]] == [
        "registry:migrations:*",
        "admin:container_registry_migrations:read",
    ]


class Undeclared(APIView):
    """A view that does not say what it requires."""


def test_a_view_without_a_declaration_fails_when_its_url_is_made():
    with pytest.raises(ImproperlyConfigured, match="Undeclared does not declare its required_access"):
        api_patterns([("gitlab/v1/undeclared/", Undeclared, ())])


def test_every_view_of_the_api_declares_what_it_requires():
    views = {pattern.callback.cls for pattern in urls.urlpatterns if hasattr(pattern.callback, "cls")}
    views -= {urls.DescriptionView, SpectacularSwaggerSplitView}
    assert len(views) == 11
    for view, method in itertools.product(views, ("GET", "POST", "PATCH")):
        assert all(requirement.action for requirement in alternatives(view, method))


@pytest.mark.django_db(databases=["default"])
def test_the_description_is_open_and_the_browser_s_page_for_staff_alone(client):
    assert client.get(DOCUMENT).headers["Content-Type"] == "application/vnd.oai.openapi+json"
    assert client.get("/docs/").status_code == 302
    client.force_login(UserFactory())
    page = client.get("/docs/")
    assert page.status_code == 200
    assert re.findall(rb"""(?:src|href|url)\s*[=:]\s*["']?(?:https?:)?//(?!testserver)""", page.content) == []
