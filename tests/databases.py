"""Gives each test process a PostgreSQL server of its own, before Django reads its settings; loaded with `-p`.

The server is the bundled one, started by the launcher that ships; only its durability is switched off.
"""

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from registry_project.embedded_postgres import EmbeddedPostgres

SERVER = pytest.StashKey[tuple[EmbeddedPostgres, Path]]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Start the server and point the settings at it, ahead of pytest-django's own hook."""
    home = Path(tempfile.mkdtemp(prefix="registry-tests-"))
    home.chmod(0o755)  # as root the server runs under another account, which must reach its data
    server = EmbeddedPostgres(home, durable=False)
    early_config.stash[SERVER] = (server, home)
    os.environ["DATABASE_URL"] = server.start().url or ""
    os.environ["SECRET_KEY"] = "only-for-tests"
    os.environ["REGISTRY_HTTPS"] = "false"
    for name in ("REGISTRY_DATABASE_URL", "REGISTRY_SCHEMA_OWNER", "SKIP_POST_DEPLOYMENT_MIGRATIONS"):
        os.environ.pop(name, None)
    return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server and remove all of it."""
    if SERVER in config.stash:
        server, home = config.stash[SERVER]
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
