"""`manage.py database migrate up` together with the background migrations that it requires or installs."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from background_migrations.locks import GITLAB_KEY, TABLE_CLASS
from background_migrations.status import Status
from schema_migrations import loader
from schema_migrations.migration import Phase
from tests.schema_migrations.declared import module
from tests.waiting import until

COPY = "copy_manifests_media_type_id_column_to_media_type_id_convert_to_bigint_column"
FILL = "backfill_blobs_p_{}_id_column"
NAMES = [name for each in loader.load_migrations() for name in each.migration.queued_background_migrations]
BEFORE, NEEDY = "20990101000000_before", "20990101000001_needy"
STATUSES = "SELECT status, count(*) FROM batched_background_migrations GROUP BY status"
SUMMARY = (
    r"OK: applied (\d+) pre-deployment .*, (\d+) post-deployment .* and (\d+) background migration\(s\) in [\d.]+s\n"
)
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'database migrate up%'
"""
AT_A_LOCK = f"{SESSIONS} AND wait_event_type = 'Lock'"
WORKERS = f"{SESSIONS} AND application_name LIKE '%:%'"  # a worker has two, one of them for its signs of life
DONE_IN_ORDER = """
    SELECT m.finished_at <= s.applied_at FROM batched_background_migrations m, schema_migrations s
    WHERE m.name = %s AND s.id = %s
"""


@pytest.fixture
def behind_the_alias(monkeypatch, django_db_blocker):
    """Puts a database behind the alias `registry`."""

    def put(database):
        connections["registry"].close()
        monkeypatch.setitem(connections["registry"].settings_dict, "NAME", database.url.rpartition("/")[2])
        return database

    with django_db_blocker.unblock():
        yield put
        connections["registry"].close()


@pytest.fixture
def empty(scratch_database, behind_the_alias):
    """An empty database."""
    return behind_the_alias(scratch_database)


@pytest.fixture
def installed(scratch_copy, behind_the_alias):
    """A database with the whole schema; its background migrations are active."""
    return behind_the_alias(scratch_copy)


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Adds pre-deployment migrations to the shipped ones."""
    paths = {**loader.FOLDERS, Phase.PRE_DEPLOYMENT: tmp_path / "pre"}
    shutil.copytree(loader.FOLDERS[Phase.PRE_DEPLOYMENT], paths[Phase.PRE_DEPLOYMENT])
    monkeypatch.setattr(loader.load_migrations, "__defaults__", (paths,))

    def write(id_, **declared):
        (paths[Phase.PRE_DEPLOYMENT] / f"{id_}.py").write_text(module(**declared))

    return write


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command("database", "migrate", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def refusal(*arguments):
    err = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("database", "migrate", *arguments, stdout=io.StringIO(), stderr=err)
    return str(caught.value), err.getvalue()


def rows(database, query, *values):
    with database.connect() as connection:
        return connection.execute(query, values).fetchall()


def recorded(database):
    return {id_ for (id_,) in rows(database, "SELECT id FROM schema_migrations")}


# --- An upgrade ---------------------------------------------------------------------------------------------------


def test_up_stops_before_a_migration_whose_requirements_are_not_finished(installed, add):
    add(BEFORE)
    add(NEEDY, required_background_migrations=[COPY, FILL.format(0), FILL.format(9)])
    with installed.connect() as connection:
        connection.execute("UPDATE batched_background_migrations SET status = 2 WHERE name = %s", [FILL.format(0)])
    message, _ = refusal("up")
    assert f"{NEEDY} requires background migrations that are not finished: {COPY}, {FILL.format(9)}" in message
    assert f"python manage.py background_migrate run {COPY} {FILL.format(9)}" in message
    assert BEFORE in recorded(installed)
    assert NEEDY not in recorded(installed)

    call_command("background_migrate", "run", COPY, FILL.format(9), stdout=io.StringIO(), stderr=io.StringIO())
    assert re.fullmatch(SUMMARY, run("up")[0]).groups() == ("1", "0", "0")
    assert NEEDY in recorded(installed)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE batched_background_migrations SET status = 0",
        "UPDATE batched_background_migrations SET status = 3",
        "UPDATE batched_background_migrations SET status = 4",
        "DELETE FROM batched_background_migrations",
    ],
)
def test_paused_failed_running_and_missing_ones_are_not_finished(installed, add, change):
    add(NEEDY, required_background_migrations=[COPY])
    with installed.connect() as connection:
        connection.execute(change)
    assert COPY in refusal("up")[0]


def test_an_upgrade_needs_no_control_tables_to_look(installed, add):
    add(NEEDY, required_background_migrations=[COPY])
    with installed.connect() as connection:
        connection.execute("DROP SCHEMA registry_admin CASCADE")
    assert COPY in refusal("up")[0]
    assert rows(installed, "SELECT to_regclass('registry_admin.background_migration_events')") == [(None,)]
    with installed.connect() as connection:
        connection.execute("UPDATE batched_background_migrations SET status = 2")
    assert re.fullmatch(SUMMARY, run("up")[0])


# --- An installation ----------------------------------------------------------------------------------------------


def test_an_installation_runs_what_a_migration_requires_before_it(empty, add):
    add(NEEDY, required_background_migrations=[COPY])
    out, err = run("up")
    assert re.fullmatch(SUMMARY, out).group(3) == str(len(NAMES))
    assert [line for line in err.splitlines() if line.startswith("Finishing")] == [
        "Finishing 1 background migration(s)",
        f"Finishing {len(NAMES) - 1} background migration(s)",
    ]
    assert rows(empty, DONE_IN_ORDER, COPY, NEEDY) == [(True,)]
    assert rows(empty, STATUSES) == [(Status.FINISHED, len(NAMES))]


def test_an_installation_leaves_paused_ones_paused_and_says_so(empty, add):
    pause = f"UPDATE public.batched_background_migrations SET status = 0 WHERE name = '{COPY}'"
    add(BEFORE, up=[pause], requires=[loader.load_migrations()[-1].id])
    out, err = run("up", "--json")
    facts = json.loads(out)
    assert (facts["background_migrations"], facts["unfinished_background_migrations"]) == (len(NAMES) - 1, [COPY])
    assert f"{COPY} is not finished: it is paused" in err
    assert run("up")[0] == "OK: nothing to do\n"
    assert dict(rows(empty, STATUSES)) == {Status.PAUSED: 1, Status.FINISHED: len(NAMES) - 1}


def test_an_installation_stops_before_a_migration_whose_requirement_cannot_be_finished(empty, add):
    add(BEFORE, up=["UPDATE public.batched_background_migrations SET job_signature_name = 'unheardOf'"])
    add(NEEDY, required_background_migrations=[COPY])
    message, err = refusal("up")
    assert f"{NEEDY} requires background migrations that are not finished: {COPY}." in message
    assert "There is no work function 'unheardOf' in this release" in err
    assert BEFORE in recorded(empty)
    assert NEEDY not in recorded(empty)


# --- In a process of its own --------------------------------------------------------------------------------------


def start(database):
    return subprocess.Popen(
        [sys.executable, "manage.py", "database", "migrate", "up"],
        env={**os.environ, "DATABASE_URL": database.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(database):
    process = start(database)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out, err


def wait_for(database, query, count):
    """Wait until a query counts so many."""
    with database.connect() as observer:
        until(lambda: observer.execute(query).fetchone() == (count,))


@contextmanager
def up_behind(database, lock, *, until, count):
    """Start a first `up` where somebody holds an advisory lock, and let it come there."""
    with database.connect() as holder:
        holder.execute(f"SELECT pg_advisory_lock({lock})")
        process = start(database)
        try:
            wait_for(database, until, count)
            yield process
        finally:
            process.kill()
            process.communicate()


def test_the_first_up_finishes_the_background_migrations(scratch_database):
    out, err = finish(scratch_database)
    assert re.fullmatch(SUMMARY, out).group(3) == str(len(NAMES))
    assert err.splitlines()[-1] == f"Finishing {len(NAMES)} background migration(s)"
    assert rows(scratch_database, STATUSES) == [(Status.FINISHED, len(NAMES))]
    assert finish(scratch_database) == ("OK: nothing to do\n", "")


def test_a_first_up_that_is_killed_while_it_finishes_them_is_taken_up_again(scratch_database):
    lock = f"{TABLE_CLASS}, hashtext('partitions.blobs_p_9')"
    with up_behind(scratch_database, lock, until=AT_A_LOCK, count=1) as process:
        process.kill()
        process.wait()
        ((done,),) = rows(scratch_database, "SELECT count(*) FROM batched_background_migrations WHERE status = 2")
    assert 0 < done < len(NAMES)
    out, _ = finish(scratch_database)
    assert re.fullmatch(SUMMARY, out).groups() == ("0", "0", str(len(NAMES) - done))
    assert rows(scratch_database, STATUSES) == [(Status.FINISHED, len(NAMES))]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_it_in_good_order(scratch_database, number, code):
    with up_behind(scratch_database, GITLAB_KEY, until=WORKERS, count=2) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (code, "")
        assert "Traceback" not in err
        assert f"Finishing {len(NAMES)} background migration(s)" in err
        wait_for(scratch_database, SESSIONS, 0)
    out, _ = finish(scratch_database)
    assert re.fullmatch(SUMMARY, out).groups() == ("0", "0", str(len(NAMES)))
