"""The verbs of operators: each does all of what was asked, or raises and has done nothing."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from background_migrations import services
from background_migrations.errors import (
    AlreadyQueuedError,
    InvalidTransitionError,
    NothingToRetryError,
    TablesMissingError,
    UnknownMigrationError,
)
from background_migrations.services import Shipped
from background_migrations.status import FailureErrorCode, Status
from background_migrations.transitions import CHANNEL
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import broken, fall_silent, hand
from tests.waiting import until

ACTOR = "an operator"
EVENTS = """
    SELECT name, kind, actor, old_status, new_status, reason FROM registry_admin.background_migration_events ORDER BY id
"""
WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
ABOUT_JOBS = "SELECT status, attempts FROM batched_background_migration_jobs ORDER BY id"
PIECES = "SELECT attempts, set_aside FROM registry_admin.background_migration_job_progress ORDER BY id"


@pytest.fixture
def bench(quick_bench):
    quick_bench.functions["broken"] = WorkFunction(run=broken)
    return quick_bench


@pytest.fixture
def each(bench):
    """A migration in each status, by the name of the status."""
    for status in Status:
        bench.queue(status.label, status=int(status))
    return bench


def statuses(bench) -> dict[str, str]:
    found = bench.rows("SELECT name, status FROM batched_background_migrations ORDER BY id")
    return {name: Status(status).label for name, status in found}


def unchanged(bench) -> bool:
    """Whether each migration still has the status that it is called after, and nobody wrote an event."""
    return all(name == status for name, status in statuses(bench).items()) and bench.rows(EVENTS) == []


def fail_jobs(bench, name="count", *, jobs=2, attempts=1):
    """Let every job of a migration over `jobs` jobs fail as often as it may; then the migration has failed."""
    bench.fill(jobs * 10)
    migration_id = bench.queue(name, function="broken", batch_size=10)
    with hand(bench, max_attempts=attempts) as worker:
        worker.work_off()
    return migration_id


# --- Pause and resume -------------------------------------------------------------------------------------------------


def test_pause_moves_the_named_ones_alone_and_says_which(each):
    each.queue("another")
    assert services.pause(each.connection, ["running", "active"], actor=ACTOR) == ["active", "running"]
    assert {name for name, status in statuses(each).items() if status == "paused"} == {"paused", "active", "running"}
    assert statuses(each)["another"] == "active"


def test_pause_of_all_leaves_paused_finished_and_failed_ones_alone(each):
    assert services.pause(each.connection, None, actor=ACTOR) == ["active", "running"]
    assert statuses(each) == {
        "paused": "paused",
        "active": "paused",
        "finished": "finished",
        "failed": "failed",
        "running": "paused",
    }
    assert services.pause(each.connection, None, actor=ACTOR) == []


def test_a_move_is_an_event_with_its_actor_and_reason(each):
    services.pause(each.connection, ["running"], actor=ACTOR)
    services.resume(each.connection, ["running"], actor="another operator")
    assert each.rows(EVENTS) == [
        ("running", "status", ACTOR, Status.RUNNING, Status.PAUSED, "paused by hand"),
        ("running", "status", "another operator", Status.PAUSED, Status.ACTIVE, "resumed"),
    ]


@pytest.mark.parametrize("name", ["paused", "finished", "failed"])
def test_what_cannot_be_paused_is_named_with_its_status_and_nothing_is_paused(each, name):
    with pytest.raises(InvalidTransitionError, match=f"'{name}' is {name}") as caught:
        services.pause(each.connection, ["active", name, "running"], actor=ACTOR)
    assert (caught.value.name, caught.value.status, caught.value.to) == (name, name, "paused")
    assert unchanged(each)


@pytest.mark.parametrize("verb", [services.pause, services.resume])
def test_an_unknown_name_among_several_changes_nothing(each, verb):
    with pytest.raises(UnknownMigrationError, match="'missing'"):
        verb(each.connection, ["active", "paused", "missing"], actor=ACTOR)
    assert unchanged(each)


@pytest.mark.parametrize("verb", [services.pause, services.resume])
def test_no_names_are_not_all_names(each, verb):
    assert verb(each.connection, [], actor=ACTOR) == []
    assert unchanged(each)


def test_a_name_given_twice_moves_once(each):
    assert services.pause(each.connection, ["active", "active"], actor=ACTOR) == ["active"]
    assert len(each.rows(EVENTS)) == 1


def test_resume_makes_all_paused_ones_active_and_wakes_no_failed_one(each):
    assert services.resume(each.connection, None, actor=ACTOR) == ["paused"]
    assert statuses(each) == {name: name for name in ("active", "finished", "failed", "running")} | {"paused": "active"}


@pytest.mark.parametrize("name", ["active", "running", "finished", "failed"])
def test_what_is_not_paused_cannot_be_resumed(each, name):
    with pytest.raises(InvalidTransitionError, match=f"'{name}' is {name}"):
        services.resume(each.connection, ["paused", name], actor=ACTOR)
    assert unchanged(each)


def test_resume_rings_for_waiting_workers_and_pause_does_not(each):
    with each.database.connect() as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        services.pause(each.connection, None, actor=ACTOR)
        services.resume(each.connection, ["paused", "running"], actor=ACTOR)
        heard = [note.payload for note in listener.notifies(timeout=5, stop_after=2)]
    assert sorted(heard) == ["paused", "running"]


def test_a_pause_keeps_the_times_of_a_migration(each):
    query = "SELECT started_at, finished_at FROM batched_background_migrations WHERE name = 'running'"
    each.connection.execute("UPDATE batched_background_migrations SET started_at = '2026-01-01Z'")
    before = each.rows(query)
    services.pause(each.connection, ["running"], actor=ACTOR)
    assert each.rows(query) == before


# --- Two at once ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["active"], None])
def test_of_two_pauses_at_once_one_moves_it(each, names):
    """The second waits for the first, and then sees what it did."""
    with each.database.connect() as first, each.database.connect() as second, ThreadPoolExecutor(1) as pool:
        with first.transaction():
            services.pause(first, names, actor="first")
            later = pool.submit(services.pause, second, names, actor="second")
            wait_for_a_waiter(each)
        if names:
            with pytest.raises(InvalidTransitionError, match="is paused"):
                later.result(timeout=60)
        else:
            assert later.result(timeout=60) == []
    assert {actor for _, _, actor, *_ in each.rows(EVENTS)} == {"first"}


def test_pauses_and_resumes_of_many_at_once_never_lock_each_other_out(bench):
    names = [f"migration {number}" for number in range(20)]
    for name in names:
        bench.queue(name)
    moved, barrier = [], threading.Barrier(4)

    def move(order):
        with bench.database.connect() as connection:
            barrier.wait(timeout=60)
            for verb in (services.pause, services.resume) * 5:
                moved.extend(verb(connection, None, actor=ACTOR))
                try:
                    moved.extend(verb(connection, order, actor=ACTOR))
                except InvalidTransitionError:
                    continue

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(move, order) for order in (names, names[::-1]) * 2]:
            done.result(timeout=60)
    assert len(moved) == len(bench.rows(EVENTS))


def test_of_two_controls_set_at_once_both_stay(each):
    with each.database.connect() as first, each.database.connect() as second, ThreadPoolExecutor(1) as pool:
        with first.transaction():
            services.set_controls(first, "active", {"batch_size": 5}, actor="first")
            later = pool.submit(services.set_controls, second, "active", {"max_batch_size": 7}, actor="second")
            wait_for_a_waiter(each)
        assert later.result(timeout=60)["batch_size"] == 5
    found = services.controls(each.connection, "active")
    assert (found["batch_size"], found["max_batch_size"]) == (5, 7)


def test_of_two_queuings_at_once_one_wins(bench):
    shipped = Shipped({"new": queueable()}, gitlab_may_work=False)
    bench.fill(3)
    with bench.database.connect() as first, bench.database.connect() as second, ThreadPoolExecutor(1) as pool:
        with first.transaction():
            services.queue(first, "new", target=first, actor="first", shipped=shipped)
            later = pool.submit(services.queue, second, "new", target=second, actor="second", shipped=shipped)
            wait_for_a_waiter(bench)
        with pytest.raises(AlreadyQueuedError):
            later.result(timeout=60)
    assert [actor for _, _, actor, *_ in bench.rows(EVENTS)] == ["first"]


def wait_for_a_waiter(bench):
    until(lambda: bench.one(WAITING))


# --- Restart and retry ------------------------------------------------------------------------------------------------


def test_restart_makes_a_failed_migration_active_and_gives_its_jobs_new_attempts(bench):
    fail_jobs(bench)
    assert statuses(bench) == {"count": "failed"}
    assert bench.rows(PIECES) == [(1, True)] * 2
    services.restart(bench.connection, "count", actor=ACTOR)
    assert statuses(bench) == {"count": "active"}
    assert bench.rows("SELECT failure_error_code FROM batched_background_migrations") == [(None,)]
    assert bench.rows(PIECES) == [(0, False)] * 2
    assert bench.rows(ABOUT_JOBS) == [(Status.FAILED, 0)] * 2
    assert bench.rows(EVENTS)[-1][1:] == ("status", ACTOR, Status.FAILED, Status.ACTIVE, "restarted")


def test_after_a_restart_everything_can_succeed(bench):
    fail_jobs(bench)
    services.restart(bench.connection, "count", actor=ACTOR)
    bench.functions["broken"] = bench.functions["increment"]
    with hand(bench, max_attempts=1) as worker:
        worker.work_off()
    assert statuses(bench) == {"count": "finished"}
    assert bench.hits() == {1: 20}
    assert bench.rows("SELECT DISTINCT failure_error_code FROM batched_background_migration_jobs") == [(None,)]


@pytest.mark.parametrize("name", ["paused", "active", "finished", "running"])
def test_only_a_failed_migration_can_be_restarted(each, name):
    with pytest.raises(InvalidTransitionError, match=f"'{name}' is {name}"):
        services.restart(each.connection, name, actor=ACTOR)
    assert unchanged(each)


def test_retry_gives_new_attempts_and_leaves_the_status_alone(bench):
    fail_jobs(bench)
    assert services.retry(bench.connection, "count", actor=ACTOR) == 2
    assert statuses(bench) == {"count": "failed"}
    assert bench.rows(PIECES) == [(0, False)] * 2
    assert bench.rows(EVENTS)[-1] == ("count", "retry", ACTOR, None, None, "2 failed jobs got new attempts")


def test_retry_makes_waiting_jobs_due_at_once(bench):
    bench.fill(10)
    bench.queue(function="broken")
    with hand(bench) as worker:
        worker.execute()
        assert worker.idle().reasons["count"].startswith("its failed jobs wait")
        services.retry(bench.connection, "count", actor=ACTOR)
        assert worker.claim().piece.attempts == 1


def test_retry_leaves_a_job_that_is_being_worked_on_to_its_worker(bench):
    bench.fill(20)
    bench.control(bench.queue(function="broken", batch_size=10), max_parallel_jobs=2)
    with hand(bench) as first, hand(bench) as second:
        first.execute()
        bench.functions["broken"] = bench.functions["increment"]
        claim = second.claim()
        assert services.retry(bench.connection, "count", actor=ACTOR) == 1
        assert second.execute(claim).value == "finished"


def test_retry_counts_jobs_of_gitlab_s_worker_too(bench):
    migration_id = bench.queue()
    bench.connection.execute(
        """
        INSERT INTO batched_background_migration_jobs
            (batched_background_migration_id, min_value, max_value, status, failure_error_code, attempts)
        VALUES (%s, 1, 10, 3, 0, 5)
        """,
        (migration_id,),
    )
    assert services.retry(bench.connection, "count", actor=ACTOR) == 1
    assert bench.rows(ABOUT_JOBS) == [(Status.FAILED, 0)]


def test_a_migration_without_a_failed_job_has_nothing_to_retry(each):
    with pytest.raises(NothingToRetryError, match="'running'"):
        services.retry(each.connection, "running", actor=ACTOR)
    assert unchanged(each)


def test_restart_gives_new_attempts_to_a_job_whose_worker_vanished_as_well(bench):
    bench.fill(10)
    bench.queue()
    with hand(bench, max_attempts=1) as gone:
        gone.claim()
    fall_silent(bench)
    bench.connection.execute("UPDATE batched_background_migrations SET status = 3")
    services.restart(bench.connection, "count", actor=ACTOR)
    with hand(bench, max_attempts=1) as worker:
        worker.work_off()
    assert statuses(bench) == {"count": "finished"}
    assert bench.hits() == {1: 10}


@pytest.mark.parametrize(
    "verb",
    [
        services.restart,
        services.retry,
        lambda connection, name, **_: services.controls(connection, name),
        lambda connection, name, *, actor: services.set_controls(connection, name, {}, actor=actor),
    ],
)
def test_an_unknown_name_is_told(bench, verb):
    with pytest.raises(UnknownMigrationError, match="'missing'; `background_migrate status` lists them"):
        verb(bench.connection, "missing", actor=ACTOR)


@pytest.fixture
def active(bench):
    bench.queue("active")
    return bench


def queueable(**values) -> WorkFunction:
    return WorkFunction(
        **{"run": broken, "queued_on": ("public.counters", "id"), "columns": ("hits",), "batch_size": 50, **values}
    )


# --- The database and its own language --------------------------------------------------------------------------------


def test_a_database_that_has_all_tables_is_accepted(bench):
    services.check_database(bench.connection)


def test_missing_tables_are_named_with_the_command_that_makes_them(scratch_database):
    with scratch_database.connect() as connection:
        with pytest.raises(TablesMissingError, match=r"python manage\.py database migrate up"):
            services.check_database(connection)
        connection.execute("CREATE TABLE batched_background_migrations ()")
        with pytest.raises(TablesMissingError, match=r"registry_admin.* python manage\.py migrate$"):
            services.check_database(connection)


def test_the_runbook_s_own_sql_pauses_and_resumes(bench):
    bench.fill(30)
    bench.queue(batch_size=10)
    with hand(bench) as worker:
        worker.execute()
        bench.connection.execute("UPDATE batched_background_migrations SET status = 0 WHERE name = 'count'")
        assert worker.idle().reasons == {}
        bench.connection.execute("UPDATE batched_background_migrations SET status = 1 WHERE name = 'count'")
        worker.work_off()
    assert statuses(bench) == {"count": "finished"}
    assert bench.hits() == {1: 30}


def test_the_runbook_s_own_sql_gives_a_failed_migration_new_attempts(bench):
    fail_jobs(bench)
    bench.functions["broken"] = bench.functions["increment"]
    assert bench.one("SELECT failure_error_code FROM batched_background_migrations") == FailureErrorCode.MAX_JOB_RETRY
    bench.connection.execute("UPDATE batched_background_migrations SET status = 1 WHERE name = 'count'")
    with hand(bench, max_attempts=1) as worker:
        worker.work_off()
    assert statuses(bench) == {"count": "finished"}
    assert bench.hits() == {1: 20}
