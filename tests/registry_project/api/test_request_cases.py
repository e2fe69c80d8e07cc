"""Which paths, methods and headers are answered how: all routes with all their aliases, with and without a slash."""

import pytest
from django.test import Client

from background_migrations.status import Status
from tests.factories import BackgroundMigrationFactory, UserFactory
from tests.registry_project.api.asking import (
    ALL,
    MIGRATIONS,
    PLAIN_TEXT,
    PRESENCE,
    STATISTICS,
    STATUS,
    TO_STATISTICS,
    Asker,
    assert_refused,
)
from tests.registry_project.api.paths import (
    EACH_METHOD,
    EACH_PATH,
    METHOD_NAMES,
    METHODS,
    PATH_NAMES,
    ROUTES,
)

pytestmark = pytest.mark.django_db(databases=["default", "registry", "rails"])


@pytest.fixture
def migration():
    return BackgroundMigrationFactory()


def fitting(migration, path):
    """Bring the migration into a status from which this path may move it, and return the path for it."""
    last = path.strip("/").split("/")
    to = "restart" if "restart" in last else last[-1]
    migration.status = {"restart": Status.FAILED, "resume": Status.PAUSED}.get(to, Status.ACTIVE)
    migration.save()
    return path.format(id=migration.pk)


@pytest.mark.parametrize("asked", EACH_METHOD, ids=METHOD_NAMES)
def test_every_path_asks_for_its_access(ask, signer, migration, asked):
    method, required, path = asked
    path = path.format(id=migration.pk)
    assert_refused(ask(path, method=method), error=None, required=required)
    assert_refused(ask(path, "Bearer a.b.c", method=method), error="invalid_token", required=required)
    assert_refused(ask(path, signer.bearer(), method=method), error="insufficient_scope", required=required)


@pytest.mark.parametrize("asked", EACH_METHOD, ids=METHOD_NAMES)
def test_every_path_answers(ask, signer, migration, asked):
    method, required, path = asked
    path = fitting(migration, path)
    answer = ask(path, signer.grant(required), method=method, body=b"{}" if method == "PATCH" else b"")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json"), answer.content
    assert not {"WWW-Authenticate", "X-Request-ID", "Docker-Distribution-Api-Version"} & set(answer.headers)
    assert not {"Set-Cookie", "Location"} & set(answer.headers)


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if "GET" in route.methods], ids=lambda route: route.paths[0]
)
def test_all_paths_of_a_route_answer_the_same_bytes(ask, signer, migration, route):
    paths = [f"{path}{slash}".format(id=migration.pk) for path in route.paths for slash in ("", "/")]
    assert len({ask(path, signer.grant(route.methods["GET"])).content for path in paths}) == 1


@pytest.mark.parametrize(("route", "path"), EACH_PATH, ids=PATH_NAMES)
def test_another_method_is_told_which_are_allowed(ask, signer, migration, route, path):
    path = path.format(id=migration.pk)
    for method in sorted({*METHODS} - {*route.methods} - {"OPTIONS"}):
        answer = ask(path, signer.grant(*ALL), method=method)
        assert (answer.status_code, answer.headers["Allow"]) == (405, route.allowed), method
        assert answer.headers["Content-Type"] == PLAIN_TEXT
        assert answer.content == (b"" if method == "HEAD" else b"Method not allowed")
        assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize(("route", "path"), EACH_PATH, ids=PATH_NAMES)
def test_another_method_needs_a_token_first(ask, signer, migration, route, path):
    path = path.format(id=migration.pk)
    for method in sorted({*METHODS} - {*route.methods} - {"HEAD"}):
        for authorization in (None, "Bearer x", signer.bearer()):
            answer = ask(path, authorization, method=method)
            assert answer.status_code == 401, method
            assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")
            assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(("route", "path"), EACH_PATH, ids=PATH_NAMES)
def test_options_says_what_is_allowed(ask, signer, migration, route, path):
    answer = ask(path.format(id=migration.pk), signer.grant(*ALL), method="OPTIONS")
    assert (answer.status_code, answer.content, answer.headers["Allow"]) == (200, b"", route.allowed)


@pytest.mark.parametrize(("route", "path"), EACH_PATH, ids=PATH_NAMES)
def test_head_without_a_token_is_refused(ask, migration, route, path):
    answer = ask(path.format(id=migration.pk), method="HEAD")
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/gitlab/v1", "/gitlab/v1/"])
def test_presence_answers_any_method(ask, signer, method, path):
    answer = ask(path, signer.bearer(), method=method)
    assert (answer.status_code, answer.content) == (200, b"" if method == "HEAD" else b"{}")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Gitlab-Container-Registry-Version"] == "4.32.0-gitlab"
    assert ask(path, method=method).status_code == 401


QUERIES = [
    "format=json",
    "format=xml",
    "format=api",
    "a=1&a=2",
    "n=x&last=",
    "%FF=%00",
    "=&&=",
    "_method=POST",
    "a" * 9_000,
]


@pytest.mark.parametrize("query", QUERIES, ids=[query[:12] for query in QUERIES])
@pytest.mark.parametrize("path", [STATISTICS, STATUS, MIGRATIONS, PRESENCE])
def test_a_query_that_a_route_does_not_know_changes_nothing(ask, signer, path, query):
    plain = ask(path, signer.grant(*ALL))
    answer = ask(path, signer.grant(*ALL), QUERY_STRING=query)
    assert (answer.status_code, answer.content) == (200, plain.content)


ACCEPTED = [
    "application/json",
    "application/json; indent=4",
    "application/json;charset=utf-8",
    "*/*",
    "text/html,application/xhtml+xml",
    "application/xml",
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json",
    "image/*;q=0",
    "nonsense",
    "",
    "/" * 1_000,
]


@pytest.mark.parametrize("accept", ACCEPTED, ids=[accept[:30] or "empty" for accept in ACCEPTED])
def test_the_answer_is_the_same_json_whatever_is_accepted(ask, signer, accept):
    for path in (STATISTICS, STATUS, MIGRATIONS):
        plain = ask(path, signer.grant(*ALL))
        answer = ask(path, signer.grant(*ALL), HTTP_ACCEPT=accept)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.content == plain.content
    assert_refused(ask(STATISTICS, HTTP_ACCEPT=accept), error=None, required=TO_STATISTICS)


BODIES = {
    "an object": (b'{"a":1}', "application/json"),
    "broken JSON": (b'{"a":', "application/json"),
    "deep JSON": (b"[" * 100_000, "application/json"),
    "a form": (b"a=1&csrfmiddlewaretoken=x", "application/x-www-form-urlencoded"),
    "a form with too many fields": (b"a=1&" * 2_000, "application/x-www-form-urlencoded"),
    "a broken form in parts": (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
    "parts without a boundary": (b"nonsense", "multipart/form-data"),
    "bytes": (bytes(range(256)), "application/octet-stream"),
    "no known type": (b"x", "nonsense"),
    "no type": (b"x", ""),
    "an unknown alphabet": (b"{}", "application/json; charset=klingon"),
    "four megabytes": (b'"' + b"x" * 4_000_000 + b'"', "application/json"),
}


@pytest.mark.parametrize(("body", "content_type"), BODIES.values(), ids=BODIES)
def test_a_post_ignores_its_body(ask, signer, migration, body, content_type):
    for path in (f"{MIGRATIONS}pause/", f"{MIGRATIONS}resume/", f"{MIGRATIONS}{migration.pk}/pause/"):
        answer = ask(path, signer.grant(*ALL), method="POST", body=body, content_type=content_type)
        assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert_refused(ask(PRESENCE, method="POST", body=body, content_type=content_type), error=None)


def test_a_method_cannot_be_smuggled(ask, signer):
    smuggled = {"HTTP_X_HTTP_METHOD_OVERRIDE": "POST", "HTTP_X_METHOD_OVERRIDE": "POST", "QUERY_STRING": "_method=POST"}
    assert ask(f"{MIGRATIONS}pause/", signer.grant(*ALL), **smuggled).status_code == 405


def test_an_unknown_method_is_another_method(ask, signer):
    assert ask(STATISTICS, signer.grant(*ALL), method="BREW").status_code == 405
    assert_refused(ask(STATISTICS, method="BREW"), error=None, required=TO_STATISTICS)


def test_whoever_is_logged_in_to_the_site_still_needs_a_token(signer):
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    client.force_login(UserFactory(is_superuser=True))
    ask = Asker(client)
    assert_refused(ask(PRESENCE), error=None)
    assert_refused(ask(STATISTICS), error=None, required=TO_STATISTICS)
    assert ask(f"{MIGRATIONS}pause/", signer.grant(*ALL), method="POST").status_code == 200


def test_the_request_id_is_not_echoed(ask, signer):
    answer = ask(STATISTICS, signer.grant(*ALL), HTTP_X_REQUEST_ID="5d1d")
    assert "5d1d" not in str(answer.headers)
