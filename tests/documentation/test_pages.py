"""What the documentation shows is true: each command is run, each example at least read."""

import configparser
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command
from django.db import connections

from tests.conftest import TEMPLATE, Database, drop
from tests.documentation.fences import PAGES, Fence, fences, name
from tests.documentation.scene import ROWS, Scene

ALIASES = ("default", "registry", "rails")
FENCES = [fence for page in PAGES for fence in fences(page)]


def bash_reads(text: str) -> None:
    """Let bash read a script without running it."""
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def configparser_reads(text: str) -> None:
    """Read variables as systemd and Docker do."""
    configparser.ConfigParser(interpolation=None).read_string(f"[variables]\n{text}")


# What can be said of a block that is not run, by its language; of the last ones nothing.
READERS: Mapping[str, Callable[[str], object]] = {
    "sh": bash_reads,
    "sql": str,
    "python": lambda text: compile(text, "example", "exec"),
    "json": json.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "ini": configparser_reads,
    "ruby": str,
    "text": str,
}


@pytest.mark.parametrize("fence", [fence for fence in FENCES if not fence.is_run], ids=str)
def test_an_example_can_be_read(fence: Fence):
    READERS[fence.language](fence.text)


@pytest.fixture(scope="module")
def documented(create_database, template_database, django_db_blocker) -> Iterator[Database]:
    """A database with all tables, Django's too, and background migrations of the names that the pages use."""
    database = create_database(template=TEMPLATE)
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        point_at(database, patch)
        call_command("migrate", verbosity=0)
        connections.close_all()
    with database.connect() as connection:
        connection.execute(ROWS)
    yield database
    drop(database)


def point_at(database: Database, patch: pytest.MonkeyPatch) -> None:
    """Let this process find a database behind every alias."""
    for alias in ALIASES:
        patch.setitem(connections[alias].settings_dict, "NAME", database.url.rpartition("/")[2])


def of_a_page(page: Path) -> list[Fence]:
    return [fence for fence in FENCES if fence.page == page and fence.is_run and not fence.is_of_the_demonstration]


@pytest.fixture
def database(documented, create_database, django_db_blocker, monkeypatch) -> Iterator[Database]:
    """A copy of that database, behind the aliases."""
    copy = create_database(template=documented.url.rpartition("/")[2])
    point_at(copy, monkeypatch)
    with django_db_blocker.unblock():
        yield copy
        connections.close_all()
    drop(copy)


@pytest.fixture
def scene(database, tmp_path, monkeypatch) -> Iterator[Scene]:
    """What one page may use up."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        yield Scene(home=tmp_path, database=database, stack=stack)


@pytest.mark.parametrize("page", [page for page in PAGES if of_a_page(page)], ids=name)
def test_the_commands_of_a_page_work(page: Path, scene: Scene):
    for fence in of_a_page(page):
        scene.run(fence)
