"""`database import` as an operator sees it."""

import argparse
import io
import json
import stat
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from metadata_import import cli, following
from metadata_import.errors import StorageError
from metadata_import.importer import Progress
from metadata_import.options import ImportOptions, Resume
from metadata_import.refusals import DebugServerError, StepsRefusedError
from metadata_import.statistics import Counts, ImportKind, Mode
from metadata_import.storage.filesystem import FilesystemDriver
from tests.metadata_import.trees import Tree

pytestmark = pytest.mark.usefixtures("committed_db")


def run(*arguments: object, stderr: io.StringIO | None = None) -> tuple[str, str]:
    """Parse and handle a command line; return what it printed to standard output and standard error."""
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    stdout, stderr = io.StringIO(), stderr or io.StringIO()
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


def test_a_fault_of_storage_is_told_by_the_exit_code_and_keeps_databases_away(registry_tree, monkeypatch):
    tree = Tree(registry_tree)
    broken = tree.tag_link("base", "latest")
    read = FilesystemDriver.read_dated

    def fail_once(self, path, *, limit):
        if broken == registry_tree / path:
            raise StorageError(path, reason="Input/output error")
        return read(self, path, limit=limit)

    monkeypatch.setattr(FilesystemDriver, "read_dated", fail_once)
    stdout = io.StringIO()
    with pytest.raises(CommandError, match="left out 1 item, which may be sound"):
        call_command("database", "import", str(registry_tree), stdout=stdout)
    assert "Left out, storage_unreadable: 1" in stdout.getvalue()
    assert "the storage is not marked as managed by a database" in stdout.getvalue()
    locks = registry_tree / "docker/registry/lockfiles"
    assert [path.name for path in locks.iterdir()] == ["filesystem-in-use"]


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


def test_an_interrupt_says_how_to_go_on(registry_tree, monkeypatch):
    def interrupt(*_arguments, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_registry", interrupt)
    for option, said in (("--concurrency=1", "Run the same command again"), ("--dry-run", "rolled back")):
        stderr = io.StringIO()
        with pytest.raises(KeyboardInterrupt):
            run(registry_tree, option, stderr=stderr)
        assert said in stderr.getvalue()


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


# --- Options --------------------------------------------------------------------------------------------------------


def parsed(*arguments: str) -> ImportOptions:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli._import_options(vars(parser.parse_args(["root", *arguments])), is_remote=False)


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        (Mode.PRE_IMPORT, ("-p", "--pre-import", "-1", "--step-one")),
        (Mode.ALL_REPOSITORIES, ("-r", "--all-repositories", "-2", "--step-two")),
        (Mode.COMMON_BLOBS, ("-B", "--common-blobs", "-3", "--step-three")),
    ],
)
def test_a_step_has_four_names_that_may_stand_together(mode, names):
    assert {parsed(name).mode for name in names} == {mode}
    assert parsed(*names).mode is mode
    assert parsed().mode is Mode.FULL


@pytest.mark.parametrize("pair", [("-1", "-2"), ("-1", "-3"), ("-2", "-3")])
def test_two_steps_at_once_are_refused(pair):
    with pytest.raises(StepsRefusedError, match="cannot be run together"):
        parsed(*pair)


@pytest.mark.parametrize("name", ["import-statistics", "dynamic-media-types"])
def test_what_is_on_by_default_can_be_switched_off_in_either_style(name):
    field = {"import-statistics": "keeps_statistics"}.get(name, name.replace("-", "_"))
    assert getattr(parsed(), field)
    assert getattr(parsed(f"--{name}"), field)
    assert getattr(parsed(f"--{name}=true"), field)
    assert not getattr(parsed(f"--{name}=false"), field)
    assert not getattr(parsed(f"--no-{name}"), field)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("72h", timedelta(hours=72)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("90s", timedelta(seconds=90)),
        ("0", timedelta()),
    ],
)
def test_durations_are_read_as_go_writes_them(text, expected):
    assert parsed("--pre-import-skip-recent", text).skip_recent == expected


def test_a_duration_without_a_unit_is_refused(capsys):
    with pytest.raises(SystemExit):
        parsed("--pre-import-skip-recent", "72")
    assert "such as 72h" in capsys.readouterr().err


def test_tag_concurrency_is_a_hint_within_its_bounds(capsys):
    assert parsed("-t", "3").concurrency == 3
    assert parsed("-t", "3", "--concurrency", "2").concurrency == 2
    with pytest.raises(SystemExit):
        parsed("-t", "6")
    assert "from 1 to 5" in capsys.readouterr().err


def test_a_debug_server_is_refused_with_an_explanation():
    with pytest.raises(DebugServerError, match="--log-to-stdout"):
        parsed("-s", "localhost:6060")


def test_resume_and_restart_exclude_each_other(capsys):
    assert (parsed("--resume").resume, parsed("--restart").resume) == (Resume.REQUIRED, Resume.RESTART)
    with pytest.raises(SystemExit):
        parsed("--resume", "--restart")
    assert "not allowed with" in capsys.readouterr().err


# --- What is shown and written --------------------------------------------------------------------------------------


def test_the_report_can_be_kept_in_a_file(registry_tree, tmp_path):
    run(registry_tree, "--report", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["mode"], report["counts"]["tags"], report["attempts"]) == ("full", 11, 1)


def test_a_log_file_is_for_its_owner_and_tells_of_each_repository(registry_tree, tmp_path):
    Tree(registry_tree).tag_link("base", "broken").parent.mkdir(parents=True)
    run(registry_tree, "--log-directory", tmp_path, "--concurrency", 1)
    (file,) = tmp_path.glob("*-registry-import.log")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert (lines[0]["msg"], lines[-1]["msg"]) == ("import started", "import finished")
    assert sum(line["msg"] == "repository finished" and line["dry_run"] is False for line in lines) == 5
    assert any((line["level"], line.get("reason")) == ("warning", "tag_link_missing") for line in lines)


def test_a_log_on_standard_output_takes_the_place_of_bars_and_tables(registry_tree, capsys):
    stdout, stderr = run(registry_tree, "--log-to-stdout")
    assert (stdout, stderr) == ("", "")
    assert '"msg": "import finished"' in capsys.readouterr().out


def test_logs_get_a_line_of_progress_now_and_then(monkeypatch):
    monkeypatch.setattr(following, "PLAIN_PROGRESS_SECONDS", 0.0)
    stream = io.StringIO()
    with following.shown_progress(stream) as show:
        show(Progress(ImportKind.REPOSITORY, 1000, 2000, Counts(tags=7000)))
    assert stream.getvalue() == "42%: 1,000 of 2,000 repositories, 7,000 tags\n"


def test_a_terminal_gets_one_bar_over_everything():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with following.shown_progress(stream) as show:
        show(Progress(ImportKind.REPOSITORY, 1, 2))
        show(Progress(ImportKind.REPOSITORY, 2, 2))
        show(Progress(ImportKind.BLOB_PREFIX, 256, 256, Counts(blobs=63_200)))
    assert "256 of 256 blob prefixes, 63,200 blobs" in stream.getvalue()
    assert "100%" in stream.getvalue()


def test_a_step_of_its_own_fills_the_bar():
    alone = Progress(ImportKind.BLOB_PREFIX, 64, 256, kinds=(ImportKind.BLOB_PREFIX,))
    assert following.overall(alone) == 0.25
    assert following.overall(Progress(ImportKind.BLOB_PREFIX, 0, 0)) == 1.0


def test_the_command_refuses_in_one_line(tmp_path):
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("database", "import", str(tmp_path / "missing"))
