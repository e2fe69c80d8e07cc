"""One database of GitLab's registry for each module, behind the aliases, with the settings that say whose it is."""

import io
from collections.abc import Callable, Iterator

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from registry_project.control_tables import ensure_control_tables
from tests.conftest import Database, drop


@pytest.fixture(scope="module")
def shared(create_database, reference_template) -> Iterator[Database]:
    """A database of GitLab's registry, with nothing of ours yet."""
    database = create_database(template=reference_template)
    yield database
    drop(database)


@pytest.fixture
def behind(committed_db, settings) -> Iterator[Callable[..., None]]:
    """Put a database behind the alias `registry`, as GitLab's; other settings of the connection may go with it."""
    settings.SCHEMA_OWNER, settings.REGISTRY_VERSION = "gitlab", "v4.32.0-gitlab"
    with pytest.MonkeyPatch.context() as patch:

        def put(database: Database, **changes: object) -> None:
            for alias in ("registry", "rails"):
                connections[alias].close()
                for name, value in {"NAME": database.url.rpartition("/")[2], **changes}.items():
                    patch.setitem(connections[alias].settings_dict, name, value)

        yield put
        for alias in ("registry", "rails"):
            connections[alias].close()


@pytest.fixture
def ours(shared, behind) -> Database:
    """The module's database of GitLab's registry, with our control tables, behind the alias."""
    behind(shared)
    ensure_control_tables()
    return shared


def run(*arguments: str, **options: object) -> str:
    """Run a command that succeeds; return what it prints."""
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


def refusal(*arguments: str, **options: object) -> str:
    """Run a command that must be refused, in one line; return that."""
    with pytest.raises(CommandError) as caught:
        run(*arguments, **options)
    (line,) = str(caught.value).splitlines()
    return line
