"""A worker process's signs of life for its claims, and how its threads wait for work and wake one another."""

import threading
import uuid

import pytest

from background_migrations import presence as module
from background_migrations.presence import Bell, Presence
from background_migrations.transitions import ring
from tests.background_migrations.by_hand import fall_silent, hand
from tests.waiting import until

LONG = 60.0  # what lasts so long has hung
LISTENING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND starts_with(query, 'LISTEN')"
PIDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
SEEN = "SELECT seen_at FROM registry_admin.background_migration_job_progress WHERE claim = %s"


@pytest.fixture
def bell():
    return Bell()


@pytest.fixture
def presence(quick_bench, bell):
    """Beats 40 times a second."""
    presence = Presence(quick_bench.database.connect, grace=0.1, bell=bell)
    presence.start()
    yield presence
    presence.end()
    assert not presence.is_alive()


def waiting(bell, seconds=LONG, **options):
    thread = threading.Thread(target=bell.wait, args=(seconds,), kwargs=options, daemon=True)
    thread.start()
    return thread


def ends(thread) -> bool:
    thread.join(timeout=60)
    return not thread.is_alive()


# --- The bell -----------------------------------------------------------------------------------------------------


def test_ringing_wakes_all_who_wait(bell):
    threads = [waiting(bell) for _ in range(5)]
    bell.ring()
    assert all(map(ends, threads))
    assert (bell.rung, bell.stopped) == (1, False)


def test_whoever_waits_since_before_it_rang_does_not_wait(bell):
    before = bell.rung
    bell.ring()
    bell.wait(LONG, since=before)


def test_nobody_waits_any_more_once_all_is_to_end(bell):
    thread = waiting(bell)
    bell.stop()
    assert ends(thread)
    bell.wait(LONG)
    assert bell.stopped


def test_a_wait_ends_by_itself(bell):
    bell.wait(0.01)
    assert bell.rung == 0


def test_stopping_from_within_a_signal_handler_does_not_lock_itself_out(bell):
    with bell._condition:
        bell.stop()
    assert bell.stopped


# --- Signs of life ------------------------------------------------------------------------------------------------


def test_a_claim_that_is_held_stays_alive_and_one_that_is_not_does_not(quick_bench, presence):
    quick_bench.fill(20)
    quick_bench.control(quick_bench.queue(batch_size=10), max_parallel_jobs=2)
    with hand(quick_bench) as one, hand(quick_bench) as two:
        held, dropped = one.claim().token, two.claim().token
        fall_silent(quick_bench)
        silent = quick_bench.one(SEEN, dropped)
        with presence.holding(held):
            until(lambda: quick_bench.one(SEEN, held) > silent)
        assert quick_bench.one(SEEN, dropped) <= silent


def test_after_the_block_a_claim_is_not_kept_alive_any_more(quick_bench, presence):
    quick_bench.fill(20)
    quick_bench.control(quick_bench.queue(batch_size=10), max_parallel_jobs=2)
    with hand(quick_bench) as one, hand(quick_bench) as two:
        first, second = one.claim().token, two.claim().token
        with presence.holding(first):
            pass
        fall_silent(quick_bench)
        silent = quick_bench.one(SEEN, first)
        with presence.holding(second):  # by its signs of life time goes by
            until(lambda: quick_bench.one(SEEN, second) > silent)
        assert quick_bench.one(SEEN, first) == silent


def test_a_claim_held_by_a_block_that_raises_is_let_go(presence):
    token = uuid.uuid4()
    with pytest.raises(ValueError, match="it broke"), presence.holding(token):
        raise ValueError("it broke")
    assert token not in presence._claims


def test_a_lost_connection_is_opened_again(quick_bench, presence, monkeypatch):
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.01)
    ((lost,),) = until(lambda: quick_bench.rows(LISTENING))
    quick_bench.connection.execute("SELECT pg_terminate_backend(%s)", (lost,))
    quick_bench.fill(10)
    quick_bench.queue()
    with hand(quick_bench) as worker:
        token = worker.claim().token
        fall_silent(quick_bench)
        silent = quick_bench.one(SEEN, token)
        with presence.holding(token):
            until(lambda: quick_bench.one(SEEN, token) > silent)


def test_a_server_that_cannot_be_reached_at_first_is_tried_again(quick_bench, bell, monkeypatch):
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.01)
    missing = type(quick_bench.database)(quick_bench.database.url + "_missing")
    databases = iter([missing, missing])
    presence = Presence(lambda: next(databases, quick_bench.database).connect(), grace=0.1, bell=bell)
    presence.start()
    until(lambda: quick_bench.rows(LISTENING))
    presence.end()


def test_its_connection_goes_with_it(quick_bench, presence):
    until(lambda: quick_bench.rows(LISTENING))
    presence.end()
    until(lambda: quick_bench.rows(PIDS) == [])


def test_one_that_was_never_started_can_be_ended(quick_bench, bell):
    presence = Presence(quick_bench.database.connect, grace=0.1, bell=bell)
    presence.end()
    presence._end_seen.close()


# --- Being woken --------------------------------------------------------------------------------------------------


def test_whoever_rings_on_the_channel_wakes_those_who_wait(quick_bench, presence, bell):
    until(lambda: quick_bench.rows(LISTENING))
    thread = waiting(bell)
    ring(quick_bench.connection, "count")
    assert ends(thread)


def test_what_is_rolled_back_wakes_nobody(quick_bench, presence, bell):
    until(lambda: bell.rung == 1)  # by listening
    with quick_bench.connection.transaction(force_rollback=True):
        ring(quick_bench.connection, "never")
    for number in (2, 3):
        ring(quick_bench.connection, "count")
        until(lambda number=number: bell.rung == number)


def test_the_end_does_not_wait_for_the_next_beat(quick_bench, bell):
    presence = Presence(quick_bench.database.connect, grace=10 * LONG, bell=bell)
    presence.start()
    until(lambda: quick_bench.rows(LISTENING))
    presence.end()
    assert not presence.is_alive()
