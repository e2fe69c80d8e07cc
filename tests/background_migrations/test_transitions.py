"""The one writer of statuses: which moves it makes, what it writes with them, and what it leaves alone."""

import itertools
import threading
from datetime import timedelta

import pytest

from background_migrations.status import MOVES, FailureErrorCode, Status, origins
from background_migrations.transitions import CHANNEL, Moved, ring, transition

COLUMNS = "status, failure_error_code, updated_at, started_at, finished_at"
EVENTS = """
    SELECT background_migration_id, name, kind, actor, old_status, new_status, reason, job_id, error_class, sqlstate
    FROM registry_admin.background_migration_events ORDER BY id
"""
PAIRS = list(itertools.product(Status, Status))


@pytest.fixture
def bench(quick_bench):
    return quick_bench


def row(bench, name: str = "count"):
    (found,) = bench.rows(f"SELECT {COLUMNS} FROM batched_background_migrations WHERE name = %s", name)
    return found


def move(bench, ids, to: Status, **values) -> list[Moved]:
    return transition(bench.connection, ids, to=to, **{"actor": "somebody", "reason": "because", **values})


def test_the_moves_are_those_of_the_table():
    assert set(MOVES) == {
        (Status.ACTIVE, Status.RUNNING),
        (Status.ACTIVE, Status.FINISHED),
        (Status.ACTIVE, Status.FAILED),
        (Status.ACTIVE, Status.PAUSED),
        (Status.RUNNING, Status.FINISHED),
        (Status.RUNNING, Status.FAILED),
        (Status.RUNNING, Status.PAUSED),
        (Status.PAUSED, Status.ACTIVE),
        (Status.FAILED, Status.ACTIVE),
    }
    for after in Status:
        assert set(origins(after)) == {before for before, to in MOVES if to is after}


@pytest.mark.parametrize(("before", "after"), [pair for pair in PAIRS if pair in MOVES])
def test_a_legal_move_is_made_and_written_down_once(bench, before, after):
    migration_id = bench.queue(status=int(before))
    assert move(bench, [migration_id], after) == [Moved(migration_id, "count", before)]
    assert row(bench)[0] == after
    assert bench.rows(EVENTS) == [
        (migration_id, "count", "status", "somebody", before, after, "because", None, "", ""),
    ]


@pytest.mark.parametrize(("before", "after"), [pair for pair in PAIRS if pair not in MOVES])
def test_any_other_move_changes_and_writes_nothing(bench, before, after):
    migration_id = bench.queue(status=int(before))
    untouched = row(bench)
    assert move(bench, [migration_id], after) == []
    assert (row(bench), bench.rows(EVENTS)) == (untouched, [])


def test_a_status_of_a_later_release_is_left_alone(bench):
    migration_id = bench.queue(status=9)
    for after in Status:
        assert move(bench, [migration_id], after) == []
    assert row(bench)[0] == 9


def test_the_narrower_of_what_may_and_what_is_asked_counts(bench):
    failed, paused = bench.queue("failed", status=3), bench.queue("paused", status=0)
    moved = move(bench, [failed, paused], Status.ACTIVE, only_from=[Status.PAUSED, Status.FINISHED])
    assert [each.name for each in moved] == ["paused"]
    assert (bench.status("failed"), bench.status("paused")) == (Status.FAILED, Status.ACTIVE)


def test_all_that_may_move_do_when_none_is_named_and_the_others_stay(bench):
    names = {status: f"{status.label} one" for status in Status}
    for status, name in names.items():
        bench.queue(name, status=int(status))
    assert [each.before for each in move(bench, None, Status.PAUSED)] == [Status.ACTIVE, Status.RUNNING]
    assert {name: bench.status(name) for name in names.values()} == {
        "paused one": Status.PAUSED,
        "active one": Status.PAUSED,
        "running one": Status.PAUSED,
        "finished one": Status.FINISHED,
        "failed one": Status.FAILED,
    }
    assert move(bench, [], Status.ACTIVE) == []


# --- What else is written -----------------------------------------------------------------------------------------


def test_the_first_start_is_kept_and_the_end_is_written(bench):
    migration_id = bench.queue()
    move(bench, [migration_id], Status.RUNNING)
    _, _, updated, started, finished = row(bench)
    assert (updated is not None, started is not None, finished) == (True, True, None)
    move(bench, [migration_id], Status.PAUSED)
    move(bench, [migration_id], Status.ACTIVE)
    move(bench, [migration_id], Status.RUNNING)
    assert row(bench)[3] == started
    move(bench, [migration_id], Status.FINISHED)
    _, _, updated, again, finished = row(bench)
    assert again == started
    assert started < finished
    assert abs(updated - finished) < timedelta(seconds=1)  # each has its own look at the clock


def test_a_failure_has_its_code_until_the_migration_is_active_again(bench):
    migration_id = bench.queue(status=4)
    move(bench, [migration_id], Status.FAILED, code=FailureErrorCode.MAX_JOB_RETRY)
    assert row(bench)[:2] == (Status.FAILED, FailureErrorCode.MAX_JOB_RETRY)
    move(bench, [migration_id], Status.ACTIVE)
    assert row(bench)[:2] == (Status.ACTIVE, None)


def test_a_pause_keeps_the_code_that_tells_of_a_failure_before(bench):
    migration_id = bench.queue(status=1)
    bench.connection.execute("UPDATE batched_background_migrations SET failure_error_code = 4")
    move(bench, [migration_id], Status.PAUSED)
    assert row(bench)[:2] == (Status.PAUSED, FailureErrorCode.MAX_JOB_RETRY)


def test_a_move_and_its_event_are_part_of_the_open_transaction(bench):
    migration_id = bench.queue()
    with bench.connection.transaction(force_rollback=True):
        assert move(bench, [migration_id], Status.PAUSED)
    assert (row(bench)[0], bench.rows(EVENTS)) == (Status.ACTIVE, [])


def test_of_two_at_once_the_second_looks_again_after_the_first(bench):
    migration_id = bench.queue(status=4)
    outcome = []
    with bench.database.connect() as first, bench.database.connect() as second:
        with first.transaction():
            transition(first, [migration_id], to=Status.PAUSED, actor="somebody", reason="first")
            late = {"to": Status.FINISHED, "actor": "a worker", "reason": "second"}
            thread = threading.Thread(target=lambda: outcome.append(transition(second, [migration_id], **late)))
            thread.start()
            waiting = f"SELECT cardinality(pg_blocking_pids({second.info.backend_pid}))"
            while thread.is_alive() and not bench.one(waiting):
                pass
        thread.join()
    assert (outcome, bench.status()) == ([[]], Status.PAUSED)


# --- Whoever waits ------------------------------------------------------------------------------------------------


@pytest.fixture
def listener(bench):
    with bench.database.connect() as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        yield listener


def heard(listener) -> list[str]:
    listener.execute("SELECT 1")  # what was sent before has arrived by its answer
    return [notification.payload for notification in listener.notifies(timeout=0)]


@pytest.mark.parametrize(("before", "after"), list(MOVES))
def test_only_what_becomes_active_wakes_those_who_wait(bench, listener, before, after):
    migration_id = bench.queue(status=int(before))
    move(bench, [migration_id], after)
    assert heard(listener) == (["count"] if after is Status.ACTIVE else [])


def test_nobody_is_woken_by_a_move_that_was_not_made_or_taken_back(bench, listener):
    migration_id = bench.queue(status=2)
    move(bench, [migration_id], Status.ACTIVE)
    with bench.connection.transaction(force_rollback=True):
        ring(bench.connection, "count")
    assert heard(listener) == []
    ring(bench.connection, "count")
    assert heard(listener) == ["count"]
