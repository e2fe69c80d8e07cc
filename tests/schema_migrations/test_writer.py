"""A new migration's file is right from its first moment."""

import datetime
import subprocess
import sys

import pytest

from schema_migrations.errors import InvalidNameError, NameTakenError
from schema_migrations.loader import load_migrations
from schema_migrations.writer import write_migration
from tests.schema_migrations.declared import POST, PRE, folders

NOW = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


@pytest.mark.parametrize("phase", [PRE, POST])
def test_a_new_file_loads_and_lints(tmp_path, phase):
    paths = folders(tmp_path, {})
    path = write_migration("add_tags_size_column", phase=phase, now=NOW, folders=paths)
    assert path == paths[phase] / "20260203040506_add_tags_size_column.py"
    assert [each.id for each in load_migrations(paths)] == [path.stem]
    for arguments in (["check", "--ignore", "N999"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--config", "pyproject.toml", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


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
