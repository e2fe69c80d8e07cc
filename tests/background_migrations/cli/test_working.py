"""`run` and `worker` as they are typed: what they print, and with which exit code they end."""

import json
import re

import pytest

from background_migrations import following
from background_migrations.jobs import Outcome
from background_migrations.work import WorkFunction
from background_migrations.work_functions import WORK_FUNCTIONS
from tests.background_migrations.cli.conftest import fail, statuses
from tests.background_migrations.conftest import increment

# --- Run -----------------------------------------------------------------------------------------------------------


def test_run_finishes_everything_and_a_second_one_has_nothing_to_do(bench, run, done):
    bench.fill(50)
    bench.queue(batch_size=10)
    bench.queue("paused", status=0, min_value=100)
    assert done("run") == "Finished 2 background migrations.\n"
    assert bench.hits() == {1: 50}
    assert done("run") == "There was nothing to run.\n"
    assert bench.hits() == {1: 50}
    assert json.loads(done("run", "--json")) == {"finished": [], "unfinished": {}}


def test_run_of_one_leaves_the_others_alone(bench, done):
    bench.queue("one", status=0)
    bench.queue("two", status=0)
    assert done("run", "two", "--concurrency", "2") == "Finished 1 background migration.\n"
    assert statuses(bench) == {"one": "paused", "two": "finished"}


def test_run_names_what_failed_and_why_and_exits_1(bench, run):
    bench.fill(20)
    bench.queue("sound", batch_size=10)
    bench.queue("unsound", function="broken")
    code, out, err = run("run", "-r", "1")
    assert (code, out) == (1, "Finished 1 background migration.\n")
    (line,) = err.splitlines()
    assert line.startswith("unsound is not finished: it failed: 1 of its jobs had their last attempt")
    assert line.endswith("ValueError it never works")
    assert statuses(bench) == {"sound": "finished", "unsound": "failed"}


def test_run_as_json_tells_both_and_exits_1(bench, run):
    bench.queue("sound")
    bench.queue("unknown", function="fromTheNextRelease")
    code, out, err = run("run", "--json")
    facts = json.loads(out)
    assert (code, facts["finished"], list(facts["unfinished"])) == (1, ["sound"], ["unknown"])
    assert "fromTheNextRelease" in facts["unfinished"]["unknown"]
    assert "fromTheNextRelease" in err


def test_run_tries_a_job_as_often_as_asked(bench, run):
    bench.queue(function="broken")
    assert run("run", "--max-job-retry", "2")[0] == 1
    assert bench.one("SELECT attempts FROM registry_admin.background_migration_job_progress") == 2


def test_run_says_how_far_it_is(bench, run, monkeypatch):
    monkeypatch.setattr(following, "PLAIN_SECONDS", 0.05)

    def slowly(cursor, batch, context):
        cursor.execute("SELECT pg_sleep(0.2)")
        return increment(cursor, batch, context)

    monkeypatch.setitem(WORK_FUNCTIONS, "increment", WorkFunction(run=slowly))
    bench.fill(30)
    bench.queue(batch_size=10)
    bench.queue("other", status=2)
    code, out, err = run("run")
    assert (code, out) == (0, "Finished 1 background migration.\n")
    assert re.search(r"^\[\d s\] 1/2 finished; count \d+\.\d %", err, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["run"], "Finished 1 background migration.\n"),
        (["worker", "--once"], "2 jobs finished, 0 attempts failed.\n"),
    ],
)
def test_a_command_outlives_the_connection_that_it_began_with(bench, run, monkeypatch, words, printed):
    began_with = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name ~ '^background_migrate (run|worker) by'
    """

    def cut_off(cursor, batch, context):
        bench.connection.execute(began_with)
        return increment(cursor, batch, context)

    monkeypatch.setitem(WORK_FUNCTIONS, "increment", WorkFunction(run=cut_off))
    bench.fill(20)
    bench.queue(batch_size=10, max_value=20)
    code, out, _ = run(*words)
    assert (code, out) == (0, printed)


def test_what_follows_a_run_does_not_end_with_a_lost_connection(bench, run, monkeypatch):
    monkeypatch.setattr(following, "PLAIN_SECONDS", 0.01)
    others = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'background_migrate'
    """

    def cut_off(cursor, batch, context):
        bench.connection.execute(others)
        cursor.execute("SELECT pg_sleep(0.3)")
        return increment(cursor, batch, context)

    monkeypatch.setitem(WORK_FUNCTIONS, "increment", WorkFunction(run=cut_off))
    bench.fill(20)
    bench.queue(batch_size=10)
    code, _, err = run("run")
    assert code == 0
    assert "Traceback" not in err
    assert "/1 finished; count" in err


# --- Worker --------------------------------------------------------------------------------------------------------


def test_worker_once_works_everything_off_and_ends(bench, run):
    bench.fill(30)
    bench.queue(batch_size=10, max_value=30)
    code, out, err = run("worker", "--once")
    assert (code, out) == (0, "3 jobs finished, 0 attempts failed.\n")
    assert err == "Working in 1 thread; Ctrl-C or SIGTERM ends it.\n"
    assert statuses(bench) == {"count": "finished"}
    code, out, err = run("worker", "--once", "--concurrency", "3", "--json")
    assert (code, json.loads(out)) == (0, dict.fromkeys((outcome.value for outcome in Outcome), 0))
    assert err == "Working in 3 threads; Ctrl-C or SIGTERM ends it.\n"


def test_worker_once_does_not_resume_what_is_paused_nor_retry_what_failed(bench, done):
    fail(bench, "failed")
    bench.queue("paused", status=0)
    assert done("worker", "--once") == "0 jobs finished, 0 attempts failed.\n"
    assert statuses(bench) == {"failed": "failed", "paused": "paused"}


def test_worker_once_exits_1_when_a_migration_failed_meanwhile(bench, run, settings):
    settings.BBM_MAX_ATTEMPTS = 1
    bench.queue(function="broken")
    code, out, err = run("worker", "--once")
    assert (code, out) == (1, "0 jobs finished, 1 attempt failed.\n")
    assert "count is not finished: it failed: 1 of its jobs" in err


def test_worker_once_says_what_it_could_not_do(bench, run):
    bench.queue(function="fromTheNextRelease")
    held = bench.queue("held", table="public.tags")
    bench.control(held, hold_until="2100-01-01Z")
    code, _, err = run("worker", "--once")
    assert code == 0
    assert "count is not finished: There is no work function 'fromTheNextRelease'" in err
    assert "held is not finished: it is on hold" in err


def test_the_worker_s_interval_is_what_was_asked_for(bench, done):
    bench.fill(30)
    bench.queue(batch_size=10, max_value=30)
    done("worker", "--once", "--interval", "0.2")
    pauses = """
        SELECT bool_and(claimed_at - before >= interval '0.2 s') FROM (
            SELECT claimed_at, lag(ended_at) OVER (ORDER BY id) AS before
            FROM registry_admin.background_migration_job_progress
        ) AS pieces WHERE before IS NOT NULL
    """
    assert bench.one(pauses) is True
