"""The whole schema on the oldest PostgreSQL that is supported: Debian's own server in place of the bundled one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from registry_project.embedded_postgres import EmbeddedPostgres
from schema_migrations.preflight import MINIMUM_VERSION
from tests.conftest import SEEDED_BACKGROUND_MIGRATIONS, Database, migrate
from tests.databases import throwaway_server
from tests.gitlab_registry.test_roles import ROLES
from tests.programs import require_programs
from tests.reference import make_reference
from tests.schema_migrations.test_structure import assert_down_and_up_changes_nothing

pytestmark = pytest.mark.e2e

DEBIAN = Path(f"/usr/lib/postgresql/{MINIMUM_VERSION}/bin")


@pytest.fixture
def oldest(monkeypatch):
    """A database of the oldest supported server."""
    require_programs(f"{DEBIAN}/postgres", packages=[f"postgresql-{MINIMUM_VERSION}"])
    bundled = EmbeddedPostgres._programs
    # The copy of the bundled programs has chosen the account; Debian's may be run by any.
    monkeypatch.setattr(EmbeddedPostgres, "_programs", lambda self: replace(bundled(self), directory=DEBIAN))
    with throwaway_server() as server:
        yield Database(server.start().url)


def test_everything_goes_up_down_and_up_on_the_oldest_server(oldest):
    migrate(oldest)
    with oldest.connect() as connection:
        assert connection.info.server_version // 10_000 == MINIMUM_VERSION
    assert_down_and_up_changes_nothing(oldest)


def test_background_migrations_run_on_the_oldest_server(oldest):
    migrate(oldest)
    for command in (["migrate"], ["background_migrate", "run"], ["background_migrate", "status", "--json"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            env={**os.environ, "DATABASE_URL": oldest.url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    statuses = [migration["status"] for migration in json.loads(done.stdout)["migrations"]]
    assert statuses == ["finished"] * SEEDED_BACKGROUND_MIGRATIONS


def test_a_role_imports_into_gitlab_s_database_on_the_oldest_server(oldest, registry_tree):
    make_reference(oldest)
    gitlab_s = {"REGISTRY_SCHEMA_OWNER": "gitlab", "REGISTRY_VERSION": "v4.32.0-gitlab"}

    def manage(url: str, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **gitlab_s, "REGISTRY_DATABASE_URL": url}
        command = (sys.executable, "manage.py", *command)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert manage(oldest.url, "migrate", "--database", "registry").returncode == 0
    with oldest.connect() as connection:
        connection.execute(ROLES.read_text())
        connection.execute("CREATE ROLE importer LOGIN PASSWORD 'secret' IN ROLE registry_metadata_importer")
    server = urlsplit(oldest.url)
    url = urlunsplit(server._replace(netloc=f"importer:secret@127.0.0.1:{server.port}"))
    done = manage(url, "database", "import", str(registry_tree), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inserted_rows"]["tags"] == 11
    assert "importer" in manage(url, "background_migrate", "pause").stderr
