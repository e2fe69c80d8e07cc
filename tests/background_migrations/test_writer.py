"""The generator of background migrations: what it drafts runs, passes its own test and every check as it is."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from background_migrations.errors import InvalidColumnError, InvalidTableError, UnusableNameError
from background_migrations.work_functions import WORK_FUNCTIONS
from background_migrations.writer import MAXIMUM_NAME_LENGTH, draft_background_migration

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "var", "__pycache__")
LIST = Path("background_migrations/work_functions/__init__.py")
TARGET = {"table": "public.repositories", "column": "id"}
LONGEST = "x" * MAXIMUM_NAME_LENGTH


@pytest.fixture
def checkout(tmp_path):
    """A copy of the project."""
    shutil.copytree(ROOT, tmp_path / "checkout", ignore=LEFT_OUT)
    return tmp_path / "checkout"


@pytest.fixture
def small(tmp_path):
    """A tree that holds the list of work functions alone."""
    path = tmp_path / LIST
    path.parent.mkdir(parents=True)
    shutil.copy(ROOT / LIST, path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def python(*arguments, cwd):
    command = [sys.executable, *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def new(checkout, *arguments):
    return python("manage.py", "database", "migrate", "new", *arguments, cwd=checkout)


def assert_clean(*paths, cwd):
    for arguments in (["check"], ["format", "--check"]):
        done = python("-m", "ruff", *arguments, "--config", "pyproject.toml", *paths, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr


def files(directory):
    return {path: path.read_bytes() for path in directory.rglob("*.py")}


# --- In a copy of the project -------------------------------------------------------------------------------------


def test_what_is_generated_passes_its_own_test_and_ruff(checkout):
    before = files(checkout)
    done = new(checkout, "backfill_tags_size", "--background", "--table", "public.tags", "--column", "id")
    assert done.returncode == 0, done.stderr
    *paths, migration = [Path(line).relative_to(checkout) for line in done.stdout.splitlines()]
    assert paths == [
        Path("background_migrations/work_functions/backfill_tags_size.py"),
        Path("tests/background_migrations/work_functions/test_backfill_tags_size.py"),
        LIST,
    ]
    assert migration.match("schema_migrations/pre_deployment/[0-9]*_backfill_tags_size.py")
    assert {path.relative_to(checkout) for path in files(checkout)} == {
        *(path.relative_to(checkout) for path in before),
        *paths,
        migration,
    }
    assert_clean(*paths, migration, cwd=checkout)
    tested = python("-m", "pytest", "-q", str(paths[1]), cwd=checkout)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "1 passed" in tested.stdout


def test_two_can_follow_each_other_and_one_may_be_for_after_the_deployment(checkout):
    first = new(checkout, "fill_p10", "--background", "--json")
    second = new(checkout, LONGEST, "--background", "--post-deployment", "--table", "partitions.blobs_p_10", "--json")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    queued_first, queued_second = (Path(json.loads(done.stdout)["path"]) for done in (first, second))
    assert queued_second.parent.name == "post_deployment"
    assert f'requires=["{queued_first.stem}"]' in queued_second.read_text()
    paths = {path for done in (first, second) for path in json.loads(done.stdout)["paths"]}
    assert_clean(*paths, cwd=checkout)
    tested = python("-m", "pytest", "-q", *(path for path in paths if "/test_" in path), cwd=checkout)
    assert "2 passed" in tested.stdout, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Copy", "--background"], "lower-case words"),
        (["class", "--background"], "no word of Python's own"),
        (["populate_blobs_id_column", "--background"], "exists already"),
        (["create_tags_table", "--background"], "exists already"),
        (["copy_tags", "--background", "--table", "tags"], "not written as schema.table"),
        (["copy_tags", "--background", "--table", ""], "not written as schema.table"),
        (["copy_tags", "--background", "--column", "id; DROP"], "is not a lower-case name"),
    ],
)
def test_a_refusal_is_one_line_and_writes_nothing(checkout, arguments, message):
    before = files(checkout)
    done = new(checkout, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert files(checkout) == before


# --- The draft ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a-b", "Fill", "../fill", "fill size", "import", "ünder", "1st", LONGEST + "x"])
def test_a_name_that_cannot_be_a_module_is_refused(small, name):
    with pytest.raises(UnusableNameError):
        draft_background_migration(name, **TARGET, root=small)


@pytest.mark.parametrize("name", ["work_functions", "statement", "fill"])
def test_a_name_that_the_code_has_already_is_refused(small, name):
    path = small / LIST
    path.write_text(path.read_text().replace('"populateBlobsIDColumn"', '"fill"'))
    with pytest.raises(UnusableNameError, match="it is taken"):
        draft_background_migration(name, **TARGET, root=small)


@pytest.mark.parametrize(
    "table", ["", "tags", ".tags", "public.", "a.b.c", "public.Tags", "public.t'; --", "p.1", f"public.{'t' * 64}"]
)
def test_a_table_is_schema_and_name(small, table):
    with pytest.raises(InvalidTableError):
        draft_background_migration("fill", table=table, column="id", root=small)


@pytest.mark.parametrize("column", ["", "Id", "id'", "a.b", "c" * 64])
def test_a_column_is_a_name(small, column):
    with pytest.raises(InvalidColumnError):
        draft_background_migration("fill", table="public.tags", column=column, root=small)


def test_the_list_stays_sorted_and_clean_whatever_is_added(small):
    path = small / LIST
    names = ["zoo", "fill_p_10", "fill_p_9", "a", "copy_tags", LONGEST, "populate_blobs_id", "fill_p10", "orphan_tags2"]
    for name in names:
        path.write_text(draft_background_migration(name, **TARGET, root=small).listing[1])
    assert_clean(LIST, cwd=small)
    assignment = ast.parse(path.read_text()).body[-1]
    entries = {key.value: value.id for key, value in zip(assignment.value.keys, assignment.value.values, strict=True)}
    assert entries.keys() == {*WORK_FUNCTIONS, *names}
    assert {name: entries[name] for name in names} == {name: name.upper() for name in names}
    assert next(iter(entries)) == "a"
    assert list(entries)[-1] == "zoo"
