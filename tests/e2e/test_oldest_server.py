"""The whole schema on the oldest PostgreSQL that is supported: Debian's own server in place of the bundled one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from registry_project.embedded_postgres import EmbeddedPostgres
from schema_migrations.preflight import MINIMUM_VERSION
from tests.conftest import SEEDED_BACKGROUND_MIGRATIONS, Database, migrate
from tests.databases import throwaway_server
from tests.e2e.registry import require_programs
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
