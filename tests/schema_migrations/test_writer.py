"""A new migration's file is right from its first moment."""

import datetime
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from schema_migrations.errors import FileTakenError, InvalidNameError, NameTakenError
from schema_migrations.loader import load_migrations
from schema_migrations.writer import write_migration, write_queueing_migration
from tests.schema_migrations.declared import POST, PRE, folders, module

NOW = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


def assert_clean(path):
    for arguments in (["check", "--ignore", "N999"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--config", "pyproject.toml", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("phase", [PRE, POST])
def test_a_new_file_loads_and_lints(tmp_path, phase):
    paths = folders(tmp_path, {})
    path = write_migration("add_tags_size_column", phase=phase, now=NOW, folders=paths)
    assert path == paths[phase] / "20260203040506_add_tags_size_column.py"
    assert [each.id for each in load_migrations(paths)] == [path.stem]
    assert_clean(path)


@pytest.mark.parametrize("name", ["", "Add", "add-column", "1st", "add__column", "a/../b", "_a", "a_", "x" * 81])
def test_a_bad_name_is_refused_and_nothing_is_written(tmp_path, name):
    paths = folders(tmp_path, {})
    with pytest.raises(InvalidNameError):
        write_migration(name, phase=PRE, now=NOW, folders=paths)
    assert list(paths[PRE].iterdir()) == []


def test_a_taken_name_is_refused_in_either_phase(tmp_path):
    paths = folders(tmp_path, {})
    write_migration("add_column", phase=POST, now=NOW, folders=paths)
    with pytest.raises(NameTakenError, match="20260203040506_add_column"):
        write_migration("add_column", phase=PRE, now=NOW, folders=paths)


def test_two_in_one_second_get_versions_of_their_own(tmp_path):
    paths = folders(tmp_path, {})
    first = write_migration("first", phase=PRE, now=NOW, folders=paths)
    second = write_migration("second", phase=POST, now=NOW, folders=paths)
    assert (first.stem, second.stem) == ("20260203040506_first", "20260203040507_second")


# --- One that queues a background migration -----------------------------------------------------------------------


@dataclass
class Drafted:
    """A background migration's files, in a directory of the test's own."""

    root: Path
    insert: str = "INSERT INTO rows\nVALUES ('copy_tags')\n"
    delete: str = "DELETE FROM rows\n"
    asked: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.created = {self.root / "function.py": "FUNCTION = 1\n", self.root / "test.py": "TEST = 1\n"}
        self.listing = (self.root / "list.py", "LIST = [1]\n")
        self.listing[0].write_text("LIST = []\n")

    def __call__(self, name):
        self.asked.append(name)
        return self

    def texts(self):
        return {path.name: path.read_text() for path in self.root.iterdir() if path.is_file()}


@pytest.fixture
def drafted(tmp_path):
    root = tmp_path / "background"
    root.mkdir()
    return Drafted(root)


@pytest.fixture
def paths(tmp_path):
    return folders(tmp_path, {})


@pytest.fixture
def write(paths, drafted):
    return partial(write_queueing_migration, "copy_tags", phase=PRE, now=NOW, draft=drafted, folders=paths)


def left(paths):
    return [path for folder in paths.values() for path in folder.iterdir()]


def test_a_queueing_migration_comes_with_its_files(write, paths, drafted):
    migration = paths[PRE] / "20260203040506_copy_tags.py"
    assert write() == [*drafted.created, drafted.listing[0], migration]
    assert drafted.texts() == {"function.py": "FUNCTION = 1\n", "test.py": "TEST = 1\n", "list.py": "LIST = [1]\n"}
    (known,) = load_migrations(paths)
    assert known.migration.queued_background_migrations == ["copy_tags"]
    assert [statement.split() for statement in known.migration.up] == [drafted.insert.split()]
    assert [statement.split() for statement in known.migration.down] == [drafted.delete.split()]
    assert_clean(migration)


def test_after_the_deployment_it_requires_all_that_there_is_before_it(write, paths):
    write_migration("first", phase=PRE, now=NOW, folders=paths)
    newest = write_migration("second", phase=PRE, now=NOW, folders=paths)
    (paths[PRE] / "20260303000000_elsewhere.py").write_text(module(own_database_only=True))
    migration = write(phase=POST)[-1]
    assert load_migrations(paths, own_database=False)[-1].requires == (newest.stem,)
    assert_clean(migration)


def test_after_the_deployment_it_may_be_the_first(write, paths):
    write(phase=POST)
    assert load_migrations(paths)[-1].requires == ()


def test_nothing_is_drafted_for_a_bad_or_taken_name(write, paths, drafted):
    write_migration("copy_tags", phase=POST, now=NOW, folders=paths)
    with pytest.raises(NameTakenError):
        write()
    with pytest.raises(InvalidNameError):
        write_queueing_migration("../copy", phase=PRE, now=NOW, draft=drafted, folders=paths)
    assert drafted.asked == []


def test_a_file_that_exists_is_left_alone_and_the_others_go(write, paths, drafted):
    (drafted.root / "test.py").write_text("mine")
    with pytest.raises(FileTakenError, match=r"test\.py exists"):
        write()
    assert drafted.texts() == {"test.py": "mine", "list.py": "LIST = []\n"}
    assert left(paths) == []


def test_what_was_written_before_a_fault_goes_again(write, paths, drafted):
    (drafted.root / ".list.py.new").mkdir()  # where the new list would be put together
    with pytest.raises(IsADirectoryError):
        write()
    assert drafted.texts() == {"list.py": "LIST = []\n"}
    assert left(paths) == []
