"""Gives each test process a PostgreSQL server of its own, before Django reads its settings; loaded with `-p`.

The server is the bundled one, started by the launcher that ships; only its durability is switched off.
"""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from registry_project.embedded_postgres import EmbeddedPostgres

SERVER = pytest.StashKey[ExitStack]()


@contextmanager
def throwaway_server(*, durable: bool = False) -> Iterator[EmbeddedPostgres]:
    """Give an empty bundled server, not yet started; at the end it is stopped and all of it removed."""
    home = Path(tempfile.mkdtemp(prefix="registry-throwaway-"))
    home.chmod(0o755)  # as root the server runs under another account, which must reach its data
    server = EmbeddedPostgres(home, durable=durable)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Start the server and point the settings at it, ahead of pytest-django's own hook."""
    stack = early_config.stash[SERVER] = ExitStack()
    for name in [*os.environ]:
        if name.startswith(("REGISTRY_", "RAILS_", "SKIP_POST_DEPLOYMENT_MIGRATIONS")):
            del os.environ[name]
    os.environ["DATABASE_URL"] = stack.enter_context(throwaway_server()).start().url or ""
    os.environ["SECRET_KEY"] = "only-for-tests"
    os.environ["REGISTRY_HTTPS"] = "false"
    return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server and remove all of it."""
    if SERVER in config.stash:
        config.stash[SERVER].close()
