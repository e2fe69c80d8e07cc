"""What a good token's access opens, route by route, and the challenge that names what is missing."""

from dataclasses import dataclass

import pytest

from tests.factories import BackgroundMigrationFactory
from tests.registry_project.api.asking import (
    MIGRATIONS,
    PRESENCE,
    STATISTICS,
    STATUS,
    TO_READ,
    TO_STATISTICS,
    TO_STATUS,
    TO_WRITE,
    assert_refused,
)
from tests.registry_project.api.issuer import ABSENT

pytestmark = pytest.mark.django_db(databases=["default", "registry", "rails"])
ADMIN = {
    "type": "admin",
    "name": "container_registry_migrations",
    "actions": ["read"],
    "meta": {"role": "administrator"},
}


@dataclass(frozen=True)
class Route:
    """One route and the access that its challenge names."""

    method: str
    path: str
    required: tuple[str, str, str]

    def __str__(self):
        return f"{self.method} {self.path}"


READ_STATISTICS = Route("GET", STATISTICS, TO_STATISTICS)
READ_STATUS = Route("GET", STATUS, TO_STATUS)
LIST = Route("GET", MIGRATIONS, TO_READ)
PAUSE = Route("POST", f"{MIGRATIONS}pause/", TO_WRITE)
RESUME = Route("POST", f"{MIGRATIONS}resume/", TO_WRITE)
ROUTES = [
    READ_STATISTICS,
    READ_STATUS,
    LIST,
    Route("GET", f"{MIGRATIONS}1/", TO_READ),
    Route("PATCH", f"{MIGRATIONS}1/", TO_WRITE),
    Route("GET", f"{MIGRATIONS}1/jobs/", TO_READ),
    PAUSE,
    RESUME,
    Route("POST", f"{MIGRATIONS}1/pause/", TO_WRITE),
    Route("POST", f"{MIGRATIONS}1/resume/", TO_WRITE),
    Route("POST", f"{MIGRATIONS}1/restart/", TO_WRITE),
    Route("POST", "/gitlab/v1/restart/1/", TO_WRITE),
]


def entry(kind="registry", name="statistics", actions=("*",), **fields):
    values = {"type": kind, "name": name, "actions": list(actions), **fields}
    return {field: value for field, value in values.items() if value is not ABSENT}


def background(*actions, **fields):
    return entry(name="background-migrations", actions=actions, **fields)


OPENED = {
    "exactly": (READ_STATISTICS, [entry()]),
    "the star beside others": (READ_STATISTICS, [entry(actions=["read", "*"])]),
    "beside other entries": (READ_STATISTICS, [entry("repository", "a/b", ["pull"]), entry(), entry(name="catalog")]),
    "twice the same": (READ_STATISTICS, [entry(), entry()]),
    "in the second of two": (READ_STATISTICS, [entry(actions=[]), entry()]),
    "in the first of two": (READ_STATISTICS, [entry(), entry(actions=["read"])]),
    "with a class": (READ_STATISTICS, [entry(**{"class": "plugin"})]),
    "with meta": (READ_STATISTICS, [entry(meta={"project_path": "a/b"})]),
    "with unknown fields": (READ_STATISTICS, [entry(role="nobody", scope=[1])]),
    "status by its star": (READ_STATUS, [entry(name="migrations")]),
    "status by the administrator's entry": (READ_STATUS, [ADMIN]),
    "status by the administrator's entry with more in it": (
        READ_STATUS,
        [ADMIN | {"actions": ["write", "read"], "meta": {"role": "administrator", "project_path": "a"}}],
    ),
    "status by the administrator's star": (READ_STATUS, [ADMIN | {"actions": ["*"]}]),
    "status by both": (READ_STATUS, [ADMIN, entry(name="migrations")]),
    "status by the administrator's entry beside others": (
        READ_STATUS,
        [ADMIN | {"meta": {"role": "reader"}}, entry(), ADMIN],
    ),
    "read": (LIST, [background("read")]),
    "read by a star": (LIST, [background("*")]),
    "read beside write": (LIST, [background("write", "read")]),
    "read merged with write": (LIST, [background("write"), background("read")]),
    "write": (PAUSE, [background("write")]),
    "write by a star": (PAUSE, [background("*")]),
    "write merged with read": (PAUSE, [background("read"), entry(), background("write")]),
    "resume by write": (RESUME, [background("write")]),
}

CLOSED = {
    "no entries": (READ_STATISTICS, []),
    "another name": (READ_STATISTICS, [entry(name="catalog")]),
    "another type": (READ_STATISTICS, [entry("repository")]),
    "another action": (READ_STATISTICS, [entry(actions=["read"])]),
    "no action": (READ_STATISTICS, [entry(actions=[])]),
    "actions left out": (READ_STATISTICS, [entry(actions=[], Actions=["*"])]),
    "null actions": (READ_STATISTICS, [entry() | {"actions": None}]),
    "an empty action": (READ_STATISTICS, [entry(actions=[""])]),
    "all the actions of a repository": (READ_STATISTICS, [entry(actions=["pull", "push", "delete"])]),
    "a star in a list in a text": (READ_STATISTICS, [entry(actions=["pull,*"])]),
    "a star and a space": (READ_STATISTICS, [entry(actions=["* "])]),
    "two stars": (READ_STATISTICS, [entry(actions=["**"])]),
    "a star as the name": (READ_STATISTICS, [entry(name="*")]),
    "a star as the type": (READ_STATISTICS, [entry("*")]),
    "stars alone": (READ_STATISTICS, [entry("*", "*")]),
    "a capital in the type": (READ_STATISTICS, [entry("Registry")]),
    "a capital in the name": (READ_STATISTICS, [entry(name="Statistics")]),
    "a space behind the name": (READ_STATISTICS, [entry(name="statistics ")]),
    "a beginning of the name": (READ_STATISTICS, [entry(name="statistic")]),
    "a pattern as the name": (READ_STATISTICS, [entry(name="stat.*")]),
    "the whole scope as the name": (READ_STATISTICS, [entry(name="registry:statistics:*")]),
    "letters that look alike": (READ_STATISTICS, [entry(name="st\u0430tistics")]),
    "the name in the class": (READ_STATISTICS, [entry(name="", **{"class": "statistics"})]),
    "no type": (READ_STATISTICS, [entry() | {"type": None}]),
    "no name": (READ_STATISTICS, [entry() | {"name": None}]),
    "a capital in the field": (READ_STATISTICS, [{"Type": "registry", "Name": "statistics", "Actions": ["*"]}]),
    "type and name of two entries": (READ_STATISTICS, [entry(name="x"), entry("x")]),
    "the administrator's entry": (READ_STATISTICS, [ADMIN]),
    "status by the star of statistics": (READ_STATUS, [entry()]),
    "status by the star of background migrations": (READ_STATUS, [background("*")]),
    "status by reading": (READ_STATUS, [entry(name="migrations", actions=["read"])]),
    "status by the administrator without meta": (READ_STATUS, [ADMIN | {"meta": None}]),
    "status by the administrator with empty meta": (READ_STATUS, [ADMIN | {"meta": {}}]),
    "status by somebody else": (READ_STATUS, [ADMIN | {"meta": {"role": "reader"}}]),
    "status by an Administrator": (READ_STATUS, [ADMIN | {"meta": {"role": "Administrator"}}]),
    "status by an administrator with a space": (READ_STATUS, [ADMIN | {"meta": {"role": "administrator "}}]),
    "status by a Role": (READ_STATUS, [ADMIN | {"meta": {"Role": "administrator"}}]),
    "status by a role outside meta": (READ_STATUS, [ADMIN | {"meta": {}, "role": "administrator"}]),
    "status by a role in a null": (READ_STATUS, [ADMIN | {"meta": {"role": None}}]),
    "status by the role of another entry": (
        READ_STATUS,
        [ADMIN | {"meta": {}}, entry(meta={"role": "administrator"})],
    ),
    "status by the role of an entry without the action": (
        READ_STATUS,
        [ADMIN | {"meta": {}}, ADMIN | {"actions": []}],
    ),
    "status by the administrator's writing": (READ_STATUS, [ADMIN | {"actions": ["write"]}]),
    "status by the administrator of something else": (READ_STATUS, [ADMIN | {"name": "migrations"}]),
    "status by a registry's administrator": (READ_STATUS, [ADMIN | {"type": "registry"}]),
    "status by a role at the registry's own entry": (
        READ_STATUS,
        [entry(name="migrations", actions=["read"], meta={"role": "administrator"})],
    ),
    "read by write": (LIST, [background("write")]),
    "read by Read": (LIST, [background("Read")]),
    "read by an underscore": (LIST, [entry(name="background_migrations", actions=["read"])]),
    "read by the administrator": (LIST, [ADMIN]),
    "write by read": (PAUSE, [background("read")]),
    "write by two in a text": (PAUSE, [background("read,write")]),
    "write by the star of migrations": (PAUSE, [entry(name="migrations")]),
    "resume by read": (RESUME, [background("read")]),
}


@pytest.mark.parametrize(("route", "access"), OPENED.values(), ids=OPENED)
def test_enough_access_opens(ask, signer, route, access):
    answer = ask(route.path, signer.bearer({"access": access}), method=route.method)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize(("route", "access"), CLOSED.values(), ids=CLOSED)
def test_other_access_is_insufficient(ask, signer, route, access):
    answer = ask(route.path, signer.bearer({"access": access}), method=route.method)
    assert_refused(answer, error="insufficient_scope", required=route.required)


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_the_challenge_names_what_the_route_requires(ask, signer, route):
    for authorization, error in (
        (None, None),
        ("Basic eDp5", None),
        ("Bearer nonsense", "invalid_token"),
        (signer.bearer({"exp": 5, "access": [entry(), background("*")]}), "invalid_token"),
        (signer.bearer(), "insufficient_scope"),
        (signer.grant(("registry", "catalog", "*")), "insufficient_scope"),
    ):
        answer = ask(route.path, authorization, method=route.method)
        assert_refused(answer, error=error, required=route.required)


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_access_to_everything_else_does_not_open_a_route(ask, signer, route):
    entries = {each.required for each in ROUTES} - {route.required}
    answer = ask(route.path, signer.grant(*sorted(entries)), method=route.method)
    assert_refused(answer, error="insufficient_scope", required=route.required)


@pytest.mark.parametrize("name", ["Access", "ACCESS", "scope", "scopes"])
def test_access_under_another_name_is_none(ask, signer, name):
    authorization = signer.bearer({"access": ABSENT, name: [entry()]})
    assert_refused(ask(STATISTICS, authorization), error="insufficient_scope", required=TO_STATISTICS)


def test_null_access_is_none(ask, signer):
    authorization = signer.bearer({"access": None})
    assert_refused(ask(STATISTICS, authorization), error="insufficient_scope", required=TO_STATISTICS)


def test_a_route_that_requires_nothing_is_open_to_any_good_token(ask, signer):
    assert ask(PRESENCE, signer.bearer({"access": []})).status_code == 200
    assert ask(PRESENCE, signer.grant(("repository", "a/b", "pull"))).status_code == 200


def test_who_may_read_changes_nothing(ask, signer):
    migration = BackgroundMigrationFactory()
    for route in ROUTES:
        if route.required == TO_WRITE:
            path = route.path.replace("/1/", f"/{migration.pk}/")
            answer = ask(path, signer.grant(TO_READ), method=route.method, body=b'{"batch_size":7}')
            assert_refused(answer, error="insufficient_scope", required=TO_WRITE)
    before = migration.status
    migration.refresh_from_db()
    assert migration.status == before
