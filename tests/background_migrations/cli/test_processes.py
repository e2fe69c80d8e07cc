"""The command in a process of its own: its streams, signals, and databases that are not what it expects."""

import json
import os
import re
import signal
import subprocess
import sys

import psycopg
import pytest
from psycopg import sql

from tests.background_migrations.cli.conftest import COPIES, COPY, finish, start, statuses

RESET = "ResetStatusOnContainerRepositories"


# --- In a process of its own ---------------------------------------------------------------------------------------


def test_the_real_command_runs_what_is_shipped(bench):
    bench.connection.execute(COPIES)
    bench.queue(**COPY, status=0, batch_size=10)
    assert finish(bench.database, "run") == (0, "Finished 1 background migration.\n", "")
    assert bench.one("SELECT count(*) FROM far.copies WHERE media_type_id_convert_to_bigint = media_type_id") == 30
    code, out, _ = finish(bench.database, "worker", "--once", "--json")
    assert (code, json.loads(out)["finished"]) == (0, 0)


def test_the_real_command_exits_1_when_one_fails_and_does_not_go_on_for_ever(bench):
    bench.connection.execute(COPIES)
    bench.connection.execute("ALTER TABLE far.copies ADD CHECK (media_type_id_convert_to_bigint <> 15)")
    bench.queue(**COPY, batch_size=10, max_value=30)
    code, out, err = finish(bench.database, "run", "-r", "1")
    assert (code, out) == (1, "Finished 0 background migrations.\n")
    assert "count is not finished: it failed" in err
    assert "CheckViolation 23514" in err
    assert bench.one("SELECT count(*) FROM far.copies WHERE media_type_id_convert_to_bigint IS NOT NULL") == 20


def test_watching_ends_with_ctrl_c_and_exit_code_130(bench):
    bench.queue()
    process = start(bench.database, "status", "--watch", PYTHONUNBUFFERED="1")
    shown = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    # What lies between them may change, when the table is analyzed meanwhile.
    assert shown[0] == shown[2]
    assert shown[1].split()[0] == shown[3].split()[0] == "count"
    assert "Traceback" not in err


# --- Streams and databases -----------------------------------------------------------------------------------------


def test_a_reader_that_has_enough_is_no_traceback(bench):
    for number in range(2_000):
        bench.queue(f"migration {number}")
    command = f"{sys.executable} manage.py background_migrate status | head -1"
    environment = {**os.environ, "DATABASE_URL": bench.database.url}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("name ")
    assert done.stderr == ""


def test_closed_streams_are_no_traceback(bench):
    environment = {**os.environ, "DATABASE_URL": bench.database.url}
    for redirection, code in (("status >&-", 0), ("retry missing 2>&-", 1), ("pause <&-", 0)):
        command = f"{sys.executable} manage.py background_migrate {redirection}"
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)


@pytest.mark.parametrize("words", [["status"], ["pause"], ["run"], ["worker", "--once"], ["queue", RESET]])
def test_an_empty_database_is_one_line_that_says_which_command_to_run(scratch_database, words):
    code, out, err = finish(scratch_database, *words)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "python manage.py database migrate up" in err
    with scratch_database.connect() as connection:
        assert connection.execute("SELECT FROM pg_class WHERE relkind = 'r' AND oid >= 16384").fetchall() == []


def test_missing_control_tables_are_one_line_that_says_which_command_to_run(scratch_copy):
    with scratch_copy.connect() as connection:
        connection.execute("DROP SCHEMA registry_admin CASCADE")
    code, out, err = finish(scratch_copy, "status")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.strip().endswith("make it with: python manage.py migrate")


@pytest.fixture
def role(bench):
    """A role that may do nothing but log in."""
    name = sql.Identifier("nobody_in_particular")
    bench.connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(name))
    yield name
    bench.connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
    bench.connection.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.mark.parametrize(
    ("grants", "text"),
    [
        ([], "permission denied for"),
        (["USAGE ON SCHEMA registry_admin"], "permission denied for table"),
        (["USAGE ON SCHEMA registry_admin", "SELECT ON batched_background_migrations"], "permission denied for table"),
    ],
)
def test_a_role_without_privileges_is_told_in_one_line(bench, role, grants, text):
    for grant in grants:
        bench.connection.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(grant), role))
    database = type(bench.database)(re.sub(r"//[^@]*@", "//nobody_in_particular:secret@", bench.database.url))
    for words in (["status"], ["pause"]):
        code, out, err = finish(database, *words)
        assert (code, out) == (1, "")
        assert len(err.splitlines()) == 1
        assert text in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda url: url.replace("registry:", "registry:wrong"), "password authentication failed"),
        (lambda url: re.sub(r":\d+/", ":1/", url), "Connection refused"),
        (lambda url: url + "_missing", "does not exist"),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line(bench, change, message):
    code, out, err = finish(type(bench.database)(change(bench.database.url)), "status")
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert "secret" not in err


def test_a_traceback_is_there_for_those_who_ask(bench):
    code, _, err = finish(bench.database, "status", "missing", "--traceback")
    assert code == 1
    assert "UnknownMigrationError" in err


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"REGISTRY_API_URL": "registry.example.com"}, "The registry's address cannot be used"),
        ({"REGISTRY_API_URL": "http://127.0.0.1:1", "REGISTRY_API_SIGNING_KEY": "what?"}, "signing key cannot be used"),
        ({"REGISTRY_BBM_THROTTLE_HOOK": "nowhere:hook"}, "REGISTRY_BBM_THROTTLE_HOOK is 'nowhere:hook'"),
        ({"REGISTRY_BBM_JOB_INTERVAL": "soon"}, "REGISTRY_BBM_JOB_INTERVAL is 'soon'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line_and_nothing_begins(bench, environment, text):
    bench.queue()
    code, out, err = finish(bench.database, "worker", "--once", **environment)
    assert (code, out) == (1, "")
    assert text in err
    assert len(err.splitlines()) == 1
    assert statuses(bench) == {"count": "active"}


def test_no_session_of_a_command_stays_behind(bench):
    bench.queue()
    finish(bench.database, "run")
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'background_migrate' || chr(37)"
    with psycopg.connect(bench.database.url) as connection:
        assert connection.execute(others).fetchone() == (0,)
