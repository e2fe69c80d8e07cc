"""`database import` as an operator sees it."""

import argparse
import io
import json

import pytest
from django.core.management import CommandError, call_command

from metadata_import import cli
from metadata_import.errors import StorageError
from metadata_import.importer import Progress
from metadata_import.statistics import Step
from metadata_import.storage.filesystem import FilesystemDriver
from tests.metadata_import.trees import Tree

pytestmark = pytest.mark.usefixtures("committed_db")


def run(*arguments: object) -> tuple[str, str]:
    """Parse and handle a command line; return what it printed to standard output and standard error."""
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    stdout, stderr = io.StringIO(), io.StringIO()
    options = vars(parser.parse_args([str(argument) for argument in arguments]))
    cli.handle(options, stdout=stdout, stderr=stderr, pending_migrations=lambda: 0)
    return stdout.getvalue(), stderr.getvalue()


def test_the_report_is_a_table_with_an_ending(registry_tree):
    stdout, stderr = run(registry_tree, "--row-count")
    assert "repositories" in stdout
    assert "Rows in the database: repositories 5, manifests 12, blobs 23, tags 11" in stdout
    assert stdout.rstrip().endswith("the storage is marked as managed by a database.")
    assert stdout.isascii()
    assert stderr == ""


def test_a_fault_of_storage_is_told_by_the_exit_code_and_leaves_the_lock_files(registry_tree, monkeypatch):
    tree = Tree(registry_tree)
    broken = tree.tag_link("base", "latest")
    read = FilesystemDriver.read

    def fail_once(self, path, *, limit):
        if broken == registry_tree / path:
            raise StorageError(path, reason="Input/output error")
        return read(self, path, limit=limit)

    monkeypatch.setattr(FilesystemDriver, "read", fail_once)
    stdout = io.StringIO()
    with pytest.raises(CommandError, match="left out 1 item, which may be sound"):
        call_command("database", "import", str(registry_tree), stdout=stdout)
    assert "Left out, storage_unreadable: 1" in stdout.getvalue()
    assert "the lock files are as they were" in stdout.getvalue()
    assert not (registry_tree / "docker/registry/lockfiles").exists()


def test_a_dry_run_with_a_fault_gives_no_advice_for_a_real_one(registry_tree):
    (registry_tree / "docker/registry/v2/repositories/linked").symlink_to(registry_tree)
    with pytest.raises(CommandError, match="An import would leave out 1 item") as caught:
        call_command("database", "import", str(registry_tree), "--dry-run", stdout=io.StringIO())
    assert "TRUNCATE" not in str(caught.value)


def test_an_empty_path_is_not_the_working_directory(capsys):
    with pytest.raises(SystemExit):
        run("")
    assert "must not be empty" in capsys.readouterr().err


def test_a_dry_run_says_so(registry_tree):
    stdout, _ = run(registry_tree, "-d")
    assert "dry run, everything was rolled back" in stdout


def test_json_is_one_object_and_nothing_else(registry_tree):
    tree = Tree(registry_tree)
    for number in range(7):
        tree.tag_link("base", f"broken{number}").parent.mkdir(parents=True)
    stdout, stderr = run(registry_tree, "--json", "--row-count", "--concurrency", 1)
    report = json.loads(stdout)
    assert report["counts"]["tags"] == 11
    assert report["table_rows"]["tags"] == 11
    assert set(report["rates"]) == {"repositories", "tags", "manifests", "blobs"}
    assert report["seconds"] > 0
    assert (report["faults"], report["is_marked"]) == (0, True)
    assert len(report["skips"]["tag_link_missing"]) == 7
    assert report["skips"]["tag_link_missing"][0]["path"].endswith("/tags/broken0/current/link")
    assert stderr == ""


def test_the_screen_shows_a_few_skips_of_each_reason(registry_tree):
    tree = Tree(registry_tree)
    for number in range(7):
        tree.tag_link("base", f"broken{number}").parent.mkdir(parents=True)
    stdout, _ = run(registry_tree)
    assert "Left out, tag_link_missing: 7" in stdout
    assert "broken4" in stdout
    assert "broken5" not in stdout
    assert "and 2 more" in stdout


def test_names_are_not_read_as_markup(registry_tree):
    tree = Tree(registry_tree)
    (tree.repository("a") / "_manifests" / "tags" / "[bold]x[").mkdir(parents=True)
    stdout, _ = run(registry_tree)
    assert "[bold]x[" in stdout


def test_an_empty_directory_gets_a_warning(tmp_path):
    _, stderr = run(tmp_path)
    assert stderr.startswith("Warning: ")


def test_an_interrupt_says_what_stays_and_goes_on(registry_tree, monkeypatch):
    def interrupt(*_arguments, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_registry", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(registry_tree)
    assert "what was committed before stays" in cli._what_stays(dry_run=False)
    assert "rolled back" in cli._what_stays(dry_run=True)


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_concurrency_is_a_positive_number(registry_tree, value, capsys):
    with pytest.raises(SystemExit):
        run(registry_tree, "--concurrency", value)
    assert "--concurrency" in capsys.readouterr().err


def test_help_has_examples(capsys):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    parser.print_help()
    assert "python manage.py database import /var/lib/registry --dry-run" in capsys.readouterr().out


def test_logs_get_a_line_of_progress_now_and_then(monkeypatch):
    monkeypatch.setattr(cli, "PLAIN_PROGRESS_SECONDS", 0.0)
    stream = io.StringIO()
    with cli._shown_progress(stream) as show:
        show(Progress(Step.TAG_IMPORT, 1000, 2000))
    assert stream.getvalue() == "1,000 of 2,000 repositories\n"


def test_a_terminal_gets_bars():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with cli._shown_progress(stream) as show:
        show(Progress(Step.TAG_IMPORT, 1, 2))
        show(Progress(Step.TAG_IMPORT, 2, 2))
        show(Progress(Step.BLOB_IMPORT, 256, 256))
    assert "repositories" in stream.getvalue()
    assert "256/256" in stream.getvalue()


def test_the_command_refuses_in_one_line(tmp_path):
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("database", "import", str(tmp_path / "missing"))
