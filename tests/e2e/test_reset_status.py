"""GitLab's deletions undone against a real registry that asks for tokens: its answers decide which are kept."""

import io
import json
import logging

import pytest

from background_migrations import registry_client
from background_migrations.batching import Batch
from background_migrations.registry_client import RegistryClient
from background_migrations.work import WorkContext
from background_migrations.work_functions.reset_status_on_container_repositories import (
    RESET_STATUS_ON_CONTAINER_REPOSITORIES,
)
from registry_project.logs import JsonLines
from tests.conftest import TEMPLATE, drop
from tests.e2e.registry import OciLayout, require_programs, running_registry
from tests.e2e.tokens import TokenAuth

pytestmark = pytest.mark.e2e

PROJECT = "root/bkg-migration"
NAMES = [f"registry-test{number}" for number in range(1, 11)]
EMPTIED = {"registry-test3", "registry-test5", "registry-test7"}
NEVER_PUSHED = "registry-test11"  # the registry answers 404: it may as well be broken


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry with ten repositories of ten tags each, of which three were emptied."""
    require_programs("docker-registry", "skopeo")
    directory = tmp_path_factory.mktemp("e2e")
    with running_registry(directory / "root", token_auth=True) as registry:
        registry.put_repositories({f"{PROJECT}/{name}": list(map(str, range(10))) for name in NAMES[1:]})
        layout = OciLayout(directory / "layout")
        layout.image(layers=["seed"], name="seed")
        registry.push(layout, "seed", f"{PROJECT}/{NAMES[0]}:latest")
        for name in EMPTIED:
            registry.empty(f"{PROJECT}/{name}")
        yield registry


@pytest.fixture(scope="module")
def database(create_database, template_database):
    database = create_database(template=TEMPLATE)
    yield database
    drop(database)


@pytest.fixture
def connection(database):
    """A connection to the database in which all of these repositories wait for their deletion."""
    with database.connect() as connection:
        connection.execute("TRUNCATE container_repositories, routes RESTART IDENTITY")
        connection.execute("INSERT INTO routes (source_type, source_id, path) VALUES ('Project', 7, %s)", (PROJECT,))
        connection.cursor().executemany(
            "INSERT INTO container_repositories (project_id, name, status) VALUES (7, %s, 0)",
            [(name,) for name in [*NAMES, NEVER_PUSHED]],
        )
        yield connection


@pytest.fixture
def lines():
    """The log's lines, as they are written, by path."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.getLogger("migrations").addHandler(handler)
    yield lambda: {line["container_repository_path"]: line for line in map(json.loads, stream.getvalue().splitlines())}
    logging.getLogger("migrations").removeHandler(handler)


def run(connection, url, auth, *, issuer=TokenAuth.issuer):
    client = RegistryClient(url, user_agent="tests/1.0", signing_key=auth.signing_key, issuer=issuer)
    batch = Batch(table=("public", "container_repositories"), column="id", min_value=1, max_value=50, size=50)
    with connection.cursor() as cursor:
        context = WorkContext("any name", 1, {"registry": client})
        return RESET_STATUS_ON_CONTAINER_REPOSITORIES.run(cursor, batch, context)


def statuses(connection):
    return dict(connection.execute("SELECT name, status FROM container_repositories ORDER BY id").fetchall())


def test_only_emptied_repositories_go_on_being_deleted(registry, connection, lines):
    assert registry.tags(f"{PROJECT}/{NAMES[0]}") == {"latest"}
    assert registry.tags(f"{PROJECT}/{NAMES[1]}") == set(map(str, range(10)))
    assert run(connection, registry.url, registry.auth) == 8
    assert statuses(connection) == {name: 0 if name in EMPTIED else None for name in [*NAMES, NEVER_PUSHED]}
    told = {path.removeprefix(f"{PROJECT}/"): line["has_tags"] for path, line in lines().items()}
    assert told == {name: name not in EMPTIED for name in [*NAMES, NEVER_PUSHED]}
    assert run(connection, registry.url, registry.auth) == 0


@pytest.mark.parametrize(
    ("auth", "issuer"), [(TokenAuth(), TokenAuth.issuer), (None, "another-issuer")], ids=["another key", "issuer"]
)
def test_tokens_that_the_registry_refuses_spare_all(registry, connection, lines, auth, issuer):
    assert run(connection, registry.url, auth or registry.auth, issuer=issuer) == 11
    assert set(statuses(connection).values()) == {None}
    assert [line["has_tags"] for line in lines().values()] == [True] * 11


def test_a_registry_that_is_stopped_spares_all(tmp_path, connection, lines, monkeypatch):
    require_programs("docker-registry")
    monkeypatch.setattr(registry_client, "RETRY_SECONDS", 0.0)
    with running_registry(tmp_path / "root", token_auth=True) as stopped:
        pass
    assert run(connection, stopped.url, stopped.auth) == 11
    assert set(statuses(connection).values()) == {None}
    assert [line["has_tags"] for line in lines().values()] == [True] * 11
