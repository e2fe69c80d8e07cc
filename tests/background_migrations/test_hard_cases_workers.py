"""Whole workers in the cases that are hard: what is in the way of one thing must neither end nor delay the rest."""

import asyncio
import datetime
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from background_migrations import claims, pacing
from background_migrations.jobs import Outcome
from background_migrations.presence import Bell, Presence
from background_migrations.status import Status
from background_migrations.work import WorkFunction
from background_migrations.worker import Worker
from tests.background_migrations.by_hand import fall_silent, hand
from tests.background_migrations.conftest import increment
from tests.waiting import DEADLINE_SECONDS, until

NOTES = "SELECT throttled_by, throttled_reason FROM registry_admin.background_migration_controls"
CLAIMED = """
    SELECT count(*) FROM registry_admin.background_migration_job_progress WHERE claim IS NOT NULL AND NOT set_aside
"""
SEEN = "SELECT seen_at FROM registry_admin.background_migration_job_progress WHERE id = %s"
LOCK_MIGRATION = "SELECT FROM batched_background_migrations WHERE name = 'first' FOR UPDATE"
LOCK_PIECE = "SELECT FROM registry_admin.background_migration_job_progress WHERE id = %s FOR UPDATE"
BLOCKED = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
SLEEPING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT pg_sleep(60)'"
END = "SELECT pg_terminate_backend(%s)"
# All that a worker needs, but for our controls and the first table.
WEAK_ROLE = """
    CREATE ROLE weak;
    GRANT USAGE ON SCHEMA registry_admin, far TO weak;
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public, registry_admin, far TO weak;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public, registry_admin TO weak;
    REVOKE INSERT, UPDATE ON registry_admin.background_migration_controls FROM weak;
    REVOKE ALL ON public.counters FROM weak;
"""
OTHER_TABLE = """
    CREATE SCHEMA far;
    CREATE TABLE far.counters (id integer PRIMARY KEY, hits integer NOT NULL DEFAULT 0);
    INSERT INTO far.counters SELECT generate_series(1, 30);
"""
FAR_HITS = "SELECT hits, count(*) FROM far.counters GROUP BY hits"


@pytest.fixture
def bench(quick_bench):
    """Thirty rows here and thirty in another table."""
    quick_bench.connection.execute(OTHER_TABLE)
    quick_bench.fill(30)
    return quick_bench


@pytest.fixture
def _impatient(monkeypatch):
    """Let pauses that double begin small."""
    monkeypatch.setattr(claims, "FAULT_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(pacing, "IDLE_FIRST_SECONDS", 0.01)


@contextmanager
def running(worker: Worker) -> Iterator[Future[bool]]:
    """Run a worker beside the test, and stop it at the end whatever happened."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool.submit(worker.run)
    finally:
        worker.stop()
        pool.shutdown(wait=False)


def ends_well(worker: Worker) -> bool:
    with running(worker) as ending:
        return ending.result(DEADLINE_SECONDS)


# --- A migration that cannot be had -------------------------------------------------------------------------------


def test_a_migration_that_an_administrator_has_locked_delays_no_other_one_and_is_not_blamed(bench):
    bench.queue("first")
    bench.queue("second", table="far.counters")
    with bench.database.connect() as admin:
        admin.execute("BEGIN")
        admin.execute(LOCK_MIGRATION)
        worker = bench.worker(rules=bench.rules(lock_timeout=0.1), concurrency=2)
        with running(worker) as ending:
            until(lambda: bench.status("second") == Status.FINISHED)
            until(lambda: "lock timeout" in worker.reasons.get("first", ""))
            assert bench.rows(NOTES) == []
            admin.execute("ROLLBACK")
            assert ending.result(DEADLINE_SECONDS)
    assert (bench.status("first"), bench.hits(), bench.rows(NOTES)) == (Status.FINISHED, {1: 30}, [])


def test_a_connection_that_is_killed_while_it_claims_does_not_end_a_run_with_work_left(bench):
    bench.queue("first")
    with bench.database.connect() as admin:
        admin.execute("BEGIN")
        admin.execute(LOCK_MIGRATION)
        with running(bench.worker()) as ending:
            ((pid,),) = until(lambda: bench.rows(BLOCKED, admin.info.backend_pid))
            bench.connection.execute(END, (pid,))
            until(lambda: bench.rows(BLOCKED, admin.info.backend_pid) not in ([], [(pid,)]))
            admin.execute("ROLLBACK")
            assert ending.result(DEADLINE_SECONDS)
    assert (bench.status("first"), bench.hits()) == (Status.FINISHED, {1: 30})


@pytest.fixture
def weak(bench):
    """Connections of a role that may not write our controls."""
    bench.connection.execute(WEAK_ROLE)

    def connect():
        connection = bench.database.connect()
        connection.execute("SET ROLE weak")
        return connection

    yield {"registry": connect}
    bench.connection.execute("DROP OWNED BY weak; DROP ROLE weak")


@pytest.mark.usefixtures("_impatient")
def test_a_role_that_may_not_note_what_is_wrong_with_one_migration_works_on_the_others_and_ends(bench, weak):
    bench.queue("first")
    bench.queue("second", table="far.counters", batch_size=10)
    worker = bench.worker(connect=weak)
    assert ends_well(worker)
    assert dict(worker.reasons) == {"first": "permission denied for table counters"}
    assert (bench.status("first"), bench.status("second")) == (Status.ACTIVE, Status.FINISHED)
    assert (bench.rows(FAR_HITS), bench.hits()) == ([(1, 30)], {0: 30})


@pytest.mark.usefixtures("_impatient")
def test_a_run_gives_up_when_the_server_stays_away_and_says_so(bench):
    bench.queue()
    tries = []

    def connect():
        tries.append(threading.current_thread().name)
        raise psycopg.OperationalError("connection refused")

    assert not ends_well(bench.worker(connect={"registry": connect}))
    assert 2 < tries.count("lane-0") < 20


@pytest.mark.usefixtures("_impatient")
def test_a_column_that_becomes_wider_meanwhile_stops_nobody(bench):
    bench.queue(table="far.counters", batch_size=3, max_value=30)
    done = []

    def advanced(claim, *, rows):
        done.append(claim.piece.next_value)
        if len(done) == 5:
            bench.connection.execute("ALTER TABLE far.counters ALTER id TYPE bigint")

    assert ends_well(bench.worker(on_advance=advanced))
    assert done == list(range(1, 31, 3))
    assert (bench.rows(FAR_HITS), bench.status()) == ([(1, 30)], Status.FINISHED)
    assert bench.rows(NOTES) == [("", "")]  # the plan that was kept had been in the way


# --- Waiting ------------------------------------------------------------------------------------------------------


def test_a_hold_that_ends_is_taken_up_in_time_however_long_idle_workers_wait(bench, monkeypatch):
    monkeypatch.setattr(pacing, "IDLE_FIRST_SECONDS", 30.0)
    now = datetime.datetime.now(tz=datetime.UTC)
    bench.control(bench.queue(), hold_until=now + datetime.timedelta(seconds=1))
    with running(bench.worker(once=False)):
        until(lambda: bench.status() == Status.FINISHED)
    assert bench.one("SELECT started_at FROM batched_background_migrations") >= now + datetime.timedelta(seconds=1)


def test_one_locked_record_stops_no_other_claim_s_signs_of_life(bench):
    bench.control(bench.queue(batch_size=10), max_parallel_jobs=2)
    presence = Presence(bench.database.connect, grace=0.1, bell=Bell())
    with hand(bench) as one, hand(bench) as two, bench.database.connect() as admin:
        first, second = one.claim(), two.claim()
        fall_silent(bench)
        silent = bench.one(SEEN, first.piece.id)
        admin.execute("BEGIN")
        admin.execute(LOCK_PIECE, (first.piece.id,))
        with presence.holding(first.token), presence.holding(second.token):
            presence.start()
            for _ in range(3):
                seen = bench.one(SEEN, second.piece.id)
                until(lambda seen=seen: bench.one(SEEN, second.piece.id) > seen)
            assert bench.one(SEEN, first.piece.id) == silent
            admin.execute("ROLLBACK")
            until(lambda: bench.one(SEEN, first.piece.id) > silent)
    presence.end()


# --- Ending -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_what_is_meant_to_end_a_program_fails_a_job_and_the_lane_goes_on(bench, error):
    def work(cursor, batch, context) -> int:
        if batch.min_value == 1:
            raise error
        return increment(cursor, batch, context)

    bench.functions["increment"] = WorkFunction(run=work)
    bench.queue(batch_size=10, max_value=30)
    worker = bench.worker(rules=bench.rules(max_attempts=1))
    assert ends_well(worker)
    assert worker.counts == {Outcome.FAILED: 1, Outcome.FINISHED: 2}
    assert (bench.status(), bench.hits()) == (Status.FAILED, {1: 20, 0: 10})


class Uncancellable(psycopg.Connection):
    """A connection whose server does not answer requests to cancel."""

    def cancel_safe(self, *, timeout=30.0):
        raise psycopg.OperationalError("no answer")


@pytest.mark.parametrize("stuck", ["lane-0", "lane-1"])
def test_a_statement_that_cannot_be_cancelled_keeps_nobody_from_ending(bench, stuck):
    def connect():
        if threading.current_thread().name == stuck:
            return Uncancellable.connect(bench.database.url, autocommit=True)
        return bench.database.connect()

    def hang(cursor, batch, context) -> int:
        return cursor.execute("SELECT pg_sleep(60)").rowcount

    bench.functions["increment"] = WorkFunction(run=hang)
    bench.control(bench.queue(batch_size=10), max_parallel_jobs=2)
    worker = bench.worker(connect={"registry": connect}, concurrency=2, once=False, stop_seconds=0.5)
    with running(worker) as ending:
        until(lambda: len(bench.rows(SLEEPING)) == 2)
        worker.stop()
        assert ending.result(DEADLINE_SECONDS) is False
        assert bench.one(CLAIMED) == 1  # the other one gave its job back
        ((pid,),) = bench.rows(SLEEPING)
        bench.connection.execute(END, (pid,))
        until(lambda: stuck not in {thread.name for thread in threading.enumerate()})
