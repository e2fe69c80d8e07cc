"""Pausing, resuming, queuing, controls, new attempts: what is printed, and what is refused."""

import json

import pytest

from background_migrations import services
from background_migrations.status import Status
from tests.background_migrations.cli.conftest import fail, statuses

CONTROLS = [f"--{control.replace('_', '-')}" for control in services.CONTROLS]


# --- Pause and resume ----------------------------------------------------------------------------------------------


def test_pause_and_resume_of_all_print_how_many_moved_and_which(bench, done):
    for name, status in {"one": 1, "two": 4, "three": 3}.items():
        bench.queue(name, status=status)
    assert done("pause") == "Paused 2 background migrations:\n  one\n  two\n"
    assert statuses(bench) == {"one": "paused", "two": "paused", "three": "failed"}
    assert done("pause") == "Paused 0 background migrations: none is active or running.\n"
    assert done("resume") == "Resumed 2 background migrations:\n  one\n  two\n"
    assert statuses(bench) == {"one": "active", "two": "active", "three": "failed"}
    assert done("resume") == "Resumed 0 background migrations: none is paused.\n"


def test_pause_and_resume_of_one_leave_the_others_alone(bench, done):
    bench.queue("one")
    bench.queue("two")
    assert done("pause", "two") == "Paused 1 background migration:\n  two\n"
    assert statuses(bench) == {"one": "active", "two": "paused"}
    assert json.loads(done("resume", "two", "--json")) == {"resumed": ["two"]}
    assert json.loads(done("pause", "--json")) == {"paused": ["one", "two"]}
    assert json.loads(done("pause", "--json")) == {"paused": []}


@pytest.mark.parametrize(("command", "name"), [("pause", "finished"), ("resume", "active"), ("restart", "paused")])
def test_a_status_that_does_not_allow_it_is_named_and_nothing_moves(bench, refused, command, name):
    for status in Status:
        bench.queue(status.label, status=int(status))
    before = statuses(bench)
    names = [name] if command == "restart" else ["active" if command == "pause" else "paused", name]
    assert f"'{name}' is {name}" in refused(command, *names)
    assert statuses(bench) == before


def test_who_did_it_is_in_the_events(bench, done, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "anna")
    bench.queue()
    done("pause")
    (event,) = json.loads(done("events", "count", "--json"))["events"]
    assert event["actor"].startswith("anna@")
    assert (event["old_status"], event["new_status"], event["reason"]) == ("active", "paused", "paused by hand")


# --- Queue, control, retry, restart --------------------------------------------------------------------------------


@pytest.fixture
def repositories(bench):
    """Three repositories, two of them to be deleted."""
    bench.connection.execute("INSERT INTO container_repositories (id, project_id, name, status) VALUES (1, 1, 'a', 0)")
    bench.connection.execute("INSERT INTO container_repositories (id, project_id, name) VALUES (2, 1, 'b')")
    bench.connection.execute("INSERT INTO container_repositories (id, project_id, name, status) VALUES (9, 1, 'c', 0)")
    yield bench
    bench.connection.execute("DELETE FROM container_repositories")


RESET = "ResetStatusOnContainerRepositories"


def test_queue_inserts_a_migration_and_a_second_time_refuses(repositories, done, refused):
    migration_id = repositories.one("SELECT nextval('batched_background_migrations_id_seq')") + 1
    assert done("queue", RESET) == f"Queued {RESET}, id {migration_id}.\n"
    query = "SELECT min_value, max_value, batch_size, status FROM batched_background_migrations"
    assert repositories.rows(query) == [(1, 9, 50, Status.ACTIVE)]
    assert "is queued already; it is active" in refused("queue", RESET)


def test_queue_as_json(repositories, done):
    facts = json.loads(done("queue", RESET, "--json"))
    assert facts == {"queued": RESET, "id": repositories.one("SELECT id FROM batched_background_migrations")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing", "There is no work function 'missing' in this release; it has ResetStatus"),
        ("populateBlobsIDColumn", "populateBlobsIDColumn is queued by a schema migration"),
        (RESET, "public.container_repositories holds no row"),
    ],
)
def test_what_cannot_be_queued_is_refused_in_one_line(bench, refused, name, text):
    assert text in refused("queue", name)
    assert statuses(bench) == {}


def test_on_gitlab_s_database_queue_wants_to_know_that_its_worker_is_stopped(repositories, done, refused, settings):
    settings.SCHEMA_OWNER = "gitlab"
    assert "give --gitlab-worker-stopped" in refused("queue", RESET)
    assert statuses(repositories) == {}
    done("queue", RESET, "--gitlab-worker-stopped")
    assert statuses(repositories) == {RESET: "active"}


def test_control_shows_sets_and_sets_back(bench, done):
    bench.queue()
    shown = done("control", "count").splitlines()
    assert [line.split() for line in shown] == [[name.removeprefix("--"), "default"] for name in CONTROLS]
    changed = done(
        *["control", "count", "--batch-size", "500", "--interval-seconds", "0.5", "--adaptive", "true"],
        *["--hold-until", "2026-12-01T20:00+02:00", "--sub-batch-size", "0", "--shares-table", "false"],
    )
    facts = dict(line.split() for line in changed.splitlines())
    assert {name: value for name, value in facts.items() if value != "default"} == {
        "batch-size": "500",
        "sub-batch-size": "0",
        "interval-seconds": "0.5",
        "hold-until": "2026-12-01T18:00:00+00:00",
        "adaptive": "true",
        "shares-table": "false",
    }
    assert done("control", "count") == changed
    assert json.loads(done("control", "count", "--json"))["hold_until"] == "2026-12-01T18:00:00+00:00"
    options = [word for name in facts for word in (f"--{name}", "default")]
    assert done("control", "count", *options).splitlines() == shown


def test_what_control_shows_can_be_typed(bench, done):
    bench.queue()
    done("control", "count", "--batch-size", "7", "--target-seconds", "0.25", "--hold-until", "2026-12-01T20:00Z")
    shown = dict(line.split() for line in done("control", "count").splitlines())
    bench.queue("other")
    words = [word for name, value in shown.items() for word in (f"--{name}", value)]
    assert dict(line.split() for line in done("control", "other", *words).splitlines()) == shown


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--batch-size", "0"], "batch_size cannot be 0: it must be between 1 and 2147483647"),
        (["--max-parallel-jobs", "1001"], "between 1 and 1000"),
        (["--interval-seconds", "-1"], "between 0 and"),
        (["--job-timeout-seconds", "nan"], "between 0 and"),
        (["--min-batch-size", "10", "--max-batch-size", "9"], "max_batch_size is 9"),
        (["--adaptive", "true", "--batch-size", "0"], "batch_size cannot be 0"),
    ],
)
def test_a_control_out_of_bounds_is_one_line_and_nothing_is_set(bench, done, refused, words, text):
    bench.queue()
    before = done("control", "count")
    assert text in refused("control", "count", *words)
    assert done("control", "count") == before


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (Status.FAILED, "will be tried again after: python manage.py background_migrate restart count\n"),
        (Status.PAUSED, "will be tried again after: python manage.py background_migrate resume count\n"),
        (Status.RUNNING, "will be tried again.\n"),
    ],
)
def test_retry_says_what_is_needed_besides(bench, done, status, ending):
    fail(bench)
    bench.connection.execute("UPDATE batched_background_migrations SET status = %s", (status,))
    assert done("retry", "count") == f"2 failed jobs of count {ending}"


def test_retry_as_json_says_how_many(bench, done):
    fail(bench)
    assert json.loads(done("retry", "count", "--json")) == {"retried": "count", "jobs": 2}


def test_retry_without_a_failed_job_is_refused(bench, refused):
    bench.queue()
    assert "'count' has no failed job" in refused("retry", "count")


def test_restart_makes_a_failed_one_active(bench, done):
    fail(bench)
    assert done("restart", "count") == "count is active again.\n"
    assert statuses(bench) == {"count": "active"}
    bench.connection.execute("UPDATE batched_background_migrations SET status = 3")
    assert json.loads(done("restart", "count", "--json")) == {"restarted": "count"}
