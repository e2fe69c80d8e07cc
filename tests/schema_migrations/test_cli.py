"""`database migrate` as it is typed: what it prints, asks, refuses and with which exit code."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from psycopg import sql

from schema_migrations import cli, loader, writer
from schema_migrations.printing import ProgressReporter
from tests.schema_migrations.declared import folders, module
from tests.waiting import until

FIRST, SECOND, THIRD = "20260101000001_first", "20260101000002_second", "20260101000003_third"
SHOW_CURSOR = "\x1b[?25h"  # what a bar ends with
CREATE = {"up": ["CREATE TABLE {0} ()"], "down": ["DROP TABLE {0}"]}


def table(name):
    return {direction: [statement.format(name) for statement in statements] for direction, statements in CREATE.items()}


@pytest.fixture
def database(scratch_database, monkeypatch, django_db_blocker):
    """An empty database behind the alias `registry`."""
    monkeypatch.setitem(connections["registry"].settings_dict, "NAME", scratch_database.url.rpartition("/")[2])
    with django_db_blocker.unblock():
        yield scratch_database


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Three migrations of the test's own in place of the shipped ones, the third post-deployment."""
    paths = folders(
        tmp_path,
        {
            f"pre/{FIRST}.py": module(**table("first")),
            f"pre/{SECOND}.py": module(**table("second")),
            f"post/{THIRD}.py": module(requires=[SECOND], **table("third")),
        },
    )
    monkeypatch.setattr(loader.load_migrations, "__defaults__", (paths,))
    monkeypatch.setattr(writer.write_migration, "__kwdefaults__", {"folders": paths})
    return paths


def run(*arguments, **options):
    out, err = io.StringIO(), io.StringIO()
    call_command("database", "migrate", *arguments, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def refusal(*arguments):
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    return str(caught.value)


def recorded(database):
    with database.connect() as connection:
        query = "SELECT id FROM schema_migrations UNION ALL SELECT id FROM post_deploy_schema_migrations ORDER BY 1"
        return [id_ for (id_,) in connection.execute(query)]


def tables(database):
    with database.connect() as connection:
        return [
            name for (name,) in connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid >= 16384")
        ]


@pytest.mark.usefixtures("three")
class TestUp:
    def test_up_prints_a_line_per_step_and_a_summary(self, database):
        out, err = run("up")
        assert re.fullmatch(
            r"OK: applied 2 pre-deployment migration\(s\), 1 post-deployment migration\(s\) "
            r"and 0 background migration\(s\) in \d+\.\d{3}s\n",
            out,
        )
        assert [line.split(" (")[0] for line in err.splitlines()] == [
            f"[1/3] up {FIRST}",
            f"[2/3] up {SECOND}",
            f"[3/3] up {THIRD}",
        ]
        assert recorded(database) == [FIRST, SECOND, THIRD]

    def test_a_second_up_says_that_there_is_nothing_to_do(self, database):
        run("up")
        assert run("up") == ("OK: nothing to do\n", "")

    def test_json_is_one_object(self, database):
        facts = json.loads(run("up", "--json", "--limit", "1")[0])
        assert facts["migrations"] == [FIRST]
        assert facts["background_migrations"] == 0
        assert facts["unfinished_background_migrations"] == []
        assert facts["seconds"] > 0

    def test_a_dry_run_prints_the_sql_and_changes_nothing(self, database):
        out, _ = run("up", "--dry-run", "--post-deploy-limit", "1")
        assert (
            f"-- up {SECOND} (pre-deployment, in a transaction)\n-- needed by {THIRD}\nCREATE TABLE second ();" in out
        )
        assert out.endswith("-- 3 migrations; dry run, nothing was changed\n")
        assert tables(database) == []

    def test_a_dry_run_shows_background_migrations(self, database, three):
        queued = [f"copy_{number}" for number in range(5)]
        needy = next(iter(three.values())) / "20260101000004_needy.py"
        needy.write_text(module(required_background_migrations=["copy_1", "copy_4"]))
        (needy.parent / f"{FIRST}.py").write_text(module(queued_background_migrations=queued))
        out, _ = run("up", "--dry-run")
        assert "-- queues background migrations: copy_0, copy_1, copy_2 and 2 more\n" in out
        assert "-- requires background migrations: copy_1, copy_4\n" in out
        plan = {step["id"]: step for step in json.loads(run("up", "--dry-run", "--json")[0])["plan"]}
        assert plan[FIRST]["queued_background_migrations"] == queued
        assert plan[needy.stem]["required_background_migrations"] == ["copy_1", "copy_4"]

    def test_a_misspelt_background_migration_is_refused_before_anything_changes(self, database, three):
        first = next(iter(three.values())) / f"{FIRST}.py"
        first.write_text(module(required_background_migrations=["copy_1"]))
        assert "requires background migration 'copy_1', which no schema migration declares" in refusal("up")
        assert tables(database) == []

    def test_a_dry_run_speaks_json_too(self, database):
        plan = json.loads(run("up", "--dry-run", "--json")[0])["plan"]
        assert [step["id"] for step in plan] == [FIRST, SECOND, THIRD]
        assert plan[0]["statements"] == ["CREATE TABLE first ()"]

    def test_the_environment_skips_post_deployment_unless_a_limit_asks_for_it(self, database, settings):
        settings.SKIP_POST_DEPLOYMENT_MIGRATIONS = True
        run("up")
        assert recorded(database) == [FIRST, SECOND]
        run("up", "-p", "1")
        assert recorded(database) == [FIRST, SECOND, THIRD]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["up", "--limit", "0"], "--limit is 0; it must be at least 1"),
            (["up", "--post-deploy-limit", "-3"], "--post-deploy-limit is -3"),
            (["up", "-s", "-p", "1"], "contradict each other"),
            (["down", "-n", "0"], "--limit is 0"),
        ],
    )
    def test_bad_options_are_refused_before_anything_changes(self, database, arguments, message):
        assert message in refusal(*arguments)
        assert tables(database) == []


@pytest.mark.usefixtures("three")
class TestDown:
    @pytest.fixture(autouse=True)
    def applied(self, database, three):
        run("up")

    @pytest.mark.parametrize("answer", ["y\n", "YES\n"])
    def test_yes_undoes(self, database, monkeypatch, answer):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        out, err = run("down", "-p", "1")
        assert THIRD in err
        assert out.startswith("OK: undid 0 pre-deployment migration(s) and 1 post-deployment migration(s) in ")
        assert recorded(database) == [FIRST, SECOND]

    @pytest.mark.parametrize("answer", ["\n", "n\n", "what?\n", ""])
    def test_anything_else_changes_nothing(self, database, monkeypatch, answer):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert "othing was undone" in refusal("down")
        assert recorded(database) == [FIRST, SECOND, THIRD]

    def test_force_does_not_ask_and_dependents_go_first(self, database, monkeypatch):
        monkeypatch.setattr("sys.stdin", None)
        facts = json.loads(run("down", "--force", "--limit", "1", "--json")[0])
        assert facts["migrations"] == [THIRD, SECOND]

    def test_a_dry_run_shows_the_sql_of_the_way_back(self, database):
        assert f"-- down {THIRD} (post-deployment, in a transaction)\nDROP TABLE third;" in run("down", "-d")[0]
        assert recorded(database) == [FIRST, SECOND, THIRD]


@pytest.mark.usefixtures("three")
class TestStatus:
    def test_status_shows_applied_pending_and_unknown(self, database):
        run("up", "-n", "1")
        with database.connect() as connection:
            connection.execute("INSERT INTO schema_migrations VALUES ('20260101000009_from_elsewhere', now())")
            connection.execute(
                "UPDATE schema_migrations SET applied_at = '2026-07-03 16:29:12.74+01' WHERE id ~ 'first'"
            )
        assert run("status")[0].splitlines() == [
            "-----------------------------  ------------------------------------",
            "MIGRATION                      APPLIED",
            "-----------------------------  ------------------------------------",
            "20260101000001_first           2026-07-03 15:29:12.740000 +0000 UTC",
            "20260101000002_second          no",
            "20260101000003_third           no",
            "20260101000009_from_elsewhere  unknown migration",
            "-----------------------------  ------------------------------------",
        ]

    def test_times_are_shown_in_the_configured_zone(self, database, settings):
        settings.TIME_ZONE = "Asia/Tokyo"
        run("up", "-n", "1")
        with database.connect() as connection:
            connection.execute("UPDATE schema_migrations SET applied_at = '2026-07-03 16:29:12.74+01'")
        assert f"{FIRST}   2026-07-04 00:29:12.740000 +0900 JST\n" in run("status")[0]
        with database.connect() as connection:
            connection.execute("UPDATE schema_migrations SET applied_at = NULL")
        assert f"{FIRST}   at an unknown time\n" in run("status")[0]

    def test_status_of_an_empty_database_creates_nothing(self, database):
        assert run("status")[0].count(" no\n") == 3
        assert tables(database) == []

    def test_a_changed_migration_is_reported(self, database, three):
        run("up")
        path = next(three.values().__iter__()) / f"{FIRST}.py"
        path.write_text(module(up=["CREATE TABLE other ()"], down=["DROP TABLE other"]))
        out, err = run("status", "--json")
        assert [each["id"] for each in json.loads(out)["migrations"] if each["changed"]] == [FIRST]
        assert err == f"Changed since they were applied: {FIRST}\n"
        assert run("up") == ("OK: nothing to do\n", err)

    @pytest.mark.parametrize(("arguments", "text"), [([], "true\n"), (["--json"], '{"up_to_date": true}\n')])
    def test_up_to_date_is_true(self, database, arguments, text):
        run("up")
        assert run("status", "--up-to-date", *arguments)[0] == text

    def test_up_to_date_is_false_with_exit_code_1(self, database):
        run("up", "--skip-post-deployment")
        assert run("status", "-u", "-s")[0] == "true\n"
        out = io.StringIO()
        with pytest.raises(SystemExit) as caught:
            call_command("database", "migrate", "status", "-u", stdout=out)
        assert (out.getvalue(), caught.value.code) == ("false\n", 1)


@pytest.mark.usefixtures("three")
class TestVersionAndNew:
    def test_version_is_the_newest_applied(self, database):
        run("up", "-n", "2")
        assert run("version") == (f"{SECOND}\n", "")

    def test_version_of_an_empty_database_is_an_error(self, database):
        assert "database migrate up" in refusal("version")

    def test_new_prints_the_path_and_the_file_runs(self, database, three):
        path = Path(run("new", "add_column", "--post-deployment")[0].strip())
        assert path.exists()
        run("up")
        assert path.stem in recorded(database)

    def test_new_prints_the_path_as_json_too(self, database):
        facts = json.loads(run("new", "add_column", "--json")[0])
        assert facts["paths"] == [facts["path"]]
        assert Path(facts["path"]).exists()

    def test_new_refuses_options_that_are_for_a_background_migration(self, database, three):
        assert "give --background too" in refusal("new", "add_column", "--table", "public.tags")
        assert [path.stem for folder in three.values() for path in folder.glob("*add_column.py")] == []

    def test_new_refuses_a_bad_name(self, database):
        assert "lower-case words" in refusal("new", "Add Column")


@pytest.mark.parametrize("arguments", [["up"], ["up", "--dry-run"], ["down", "--force"], ["new", "anything"]])
def test_gitlab_s_schema_is_left_alone(database, settings, arguments):
    settings.SCHEMA_OWNER = "gitlab"
    assert "registry database migrate up" in refusal(*arguments)
    assert tables(database) == []


def test_gitlab_s_schema_can_be_looked_at(database, settings):
    settings.SCHEMA_OWNER = "gitlab"
    with database.connect() as connection:
        connection.execute("CREATE TABLE schema_migrations (id text PRIMARY KEY, applied_at timestamptz)")
        connection.execute("INSERT INTO schema_migrations VALUES ('20990101000000_newer', now())")
    out, _ = run("status")
    assert re.search(r"20990101000000_newer +unknown migration\n", out)
    assert "container_repositories" not in out
    assert run("version")[0] == "20990101000000_newer\n"


def test_the_bar_gives_way_to_others_and_comes_back():
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    with contextlib.closing(ProgressReporter(terminal)) as reporter:
        reporter.planned([None, None])
        with reporter.aside():
            assert terminal.getvalue().endswith(SHOW_CURSOR)
            print("Finishing", file=terminal)
        assert not terminal.getvalue().endswith(SHOW_CURSOR)
    assert terminal.getvalue().endswith(SHOW_CURSOR)


# --- In a process of its own --------------------------------------------------------------------------------------


def start(database, *arguments, **environment):
    environment = {**os.environ, "DATABASE_URL": database.url, **environment}
    command = [sys.executable, "manage.py", "database", "migrate", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(database, *arguments, **environment):
    process = start(database, *arguments, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


WORKING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name LIKE 'database migrate up%' AND datname = current_database()
"""
BLOCKED = f"{WORKING} AND wait_event_type = 'Lock'"


def wait_for(observer, query, count):
    """Wait until a query counts so many."""
    until(lambda: observer.execute(query).fetchone() == (count,))


@contextlib.contextmanager
def blocked_up(database, table):
    """Start `up` and let it come to a statement that waits, for one who has a table of that name half made."""
    with database.connect() as blocker, database.connect() as observer:
        blocker.execute(sql.SQL("BEGIN; CREATE TABLE {} ()").format(sql.Identifier(table)))
        process = start(database, "up", REGISTRY_SCHEMA_LOCK_TIMEOUT="60")
        try:
            wait_for(observer, BLOCKED, 1)
            yield process, observer
        finally:
            process.kill()
            process.communicate()
            blocker.execute("ROLLBACK")


@pytest.mark.parametrize("table", ["top_level_namespaces", "tags", "import_statistics"])
def test_a_killed_up_is_taken_up_again(scratch_database, table):
    with blocked_up(scratch_database, table) as (process, _):
        process.kill()
    survived = len(recorded(scratch_database))
    code, _, err = finish(scratch_database, "up")
    everything = {each.id for each in loader.load_migrations()}
    assert survived < len(everything)
    assert (code, err.count("] up ")) == (0, len(everything) - survived)
    assert set(recorded(scratch_database)) == everything


def test_a_killed_command_s_statement_ends_in_the_server(scratch_database):
    with blocked_up(scratch_database, "tags") as (process, observer):
        process.kill()
        wait_for(observer, WORKING, 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_leave_no_statement_and_no_lock(scratch_database, number, code):
    with blocked_up(scratch_database, "top_level_namespaces") as (process, observer):
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (code, "")
        assert "Traceback" not in err
        wait_for(observer, WORKING, 0)


def test_a_reader_that_has_enough_is_no_traceback(scratch_database):
    command = f"{sys.executable} manage.py database migrate status | head -1"
    environment = {**os.environ, "DATABASE_URL": scratch_database.url}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("-----")
    assert "Traceback" not in done.stderr


def test_closed_streams_are_no_traceback(scratch_database):
    environment = {**os.environ, "DATABASE_URL": scratch_database.url}
    for redirection, code in (("up >&-", 0), ("down <&-", 1), ("status 2>&-", 0)):
        command = f"{sys.executable} manage.py database migrate {redirection}"
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "Traceback" not in done.stderr


def test_an_account_without_a_name_is_named_by_its_number(monkeypatch):
    def refuse():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", refuse)
    assert cli._user() == f"uid {os.getuid()}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda url: url.replace("registry:", "registry:wrong"), "password authentication failed"),
        (lambda url: re.sub(r":\d+/", ":1/", url), "Connection refused"),
        (lambda url: url + "_missing", "does not exist"),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_clear_line(scratch_database, change, message):
    for arguments in (["up"], ["status"], ["up", "--dry-run"]):
        code, out, err = finish(type(scratch_database)(change(scratch_database.url)), *arguments)
        assert (code, out) == (1, "")
        assert message in err
        assert err.count("\n") == 1


def test_help_has_examples(scratch_database):
    for arguments in (["up"], ["down"], ["status"], ["version"], ["new"]):
        code, out, _ = finish(scratch_database, *arguments, "--help")
        assert code == 0
        assert f"python manage.py database migrate {arguments[0]}" in out
