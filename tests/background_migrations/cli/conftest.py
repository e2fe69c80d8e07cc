"""`background_migrate` over the bench's database: in the test's own process, and in one of its own."""

import os
import subprocess
import sys

import pytest
from django.db import connections

from background_migrations.status import Status
from background_migrations.work import WorkFunction
from background_migrations.work_functions import WORK_FUNCTIONS
from registry_project.management.commands.background_migrate import Command
from tests.background_migrations.by_hand import broken, hand

COPIES = """
    CREATE SCHEMA far;
    CREATE TABLE far.copies (id bigint PRIMARY KEY, media_type_id int, media_type_id_convert_to_bigint bigint);
    INSERT INTO far.copies SELECT n, n FROM generate_series(1, 30) AS n;
"""
COPY = {"table": "far.copies", "function": "copyManifestMediaTypeIDToNewBigIntColumn"}
STATUSES = "SELECT name, status FROM batched_background_migrations ORDER BY id"


@pytest.fixture
def bench(quick_bench, monkeypatch, settings):
    """The database behind the aliases, and two work functions of the tests' own beside the shipped ones."""
    for alias in ("registry", "rails"):
        monkeypatch.setitem(connections[alias].settings_dict, "NAME", quick_bench.database.url.rpartition("/")[2])
    quick_bench.functions["broken"] = WorkFunction(run=broken)
    for name, function in quick_bench.functions.items():
        monkeypatch.setitem(WORK_FUNCTIONS, name, function)
    settings.BBM_JOB_INTERVAL_SECONDS = 0.0
    return quick_bench


@pytest.fixture
def run(bench, capsys):
    """Run a command line in this process; give its exit code and what it printed to standard output and error."""

    def run(*words):
        command = Command()
        try:
            command.run_from_argv(["manage.py", "background_migrate", *map(str, words)])
            code = 0
        except SystemExit as ending:
            code = ending.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def done(run):
    """Run what has to succeed; give its standard output."""

    def done(*words):
        code, out, err = run(*words)
        assert code == 0, err
        return out

    return done


@pytest.fixture
def refused(run):
    """Run what has to be refused, in one line; give it."""

    def refused(*words):
        code, out, err = run(*words)
        assert (code, out) == (1, "")
        assert len(err.splitlines()) == 1
        return err

    return refused


def statuses(bench):
    return {name: Status(status).label for name, status in bench.rows(STATUSES)}


def fail(bench, name="count"):
    """Let both jobs of a migration fail for good."""
    bench.fill(20)
    bench.queue(name, function="broken", batch_size=10, max_value=20)
    with hand(bench, max_attempts=1) as worker:
        worker.work_off()
    assert statuses(bench)[name] == "failed"


def start(database, *words, **environment):
    environment = {**os.environ, "DATABASE_URL": database.url, **environment}
    command = [sys.executable, "manage.py", "background_migrate", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(database, *words, **environment):
    process = start(database, *words, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
