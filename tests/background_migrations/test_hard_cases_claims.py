"""Claims in the cases that are hard: somebody else is in the middle of something at that very moment."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from background_migrations import services, sync_runner
from background_migrations.batching import NULL_STRATEGY, Target, next_bounds
from background_migrations.claims import Claimer, Idle
from background_migrations.errors import InvalidTransitionError
from background_migrations.jobs import Outcome
from background_migrations.pieces import Claim
from background_migrations.status import Status
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import DUE, fall_silent, hand
from tests.background_migrations.conftest import Bench, increment
from tests.background_migrations.gitlab_worker import Kind, decide, run_once
from tests.background_migrations.lanes import LONGEST, TIME_OUT, Fault, crew
from tests.waiting import DEADLINE_SECONDS, until

PIECES = "SELECT attempts, claim IS NOT NULL FROM registry_admin.background_migration_job_progress ORDER BY id"
SIZES = "SELECT size FROM registry_admin.background_migration_job_progress ORDER BY id"
KINDS = "SELECT kind FROM registry_admin.background_migration_events WHERE job_id IS NOT NULL ORDER BY id"
JOBS = "SELECT count(*) FROM batched_background_migration_jobs"
WAITERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
LOCK_PIECES = "SELECT FROM registry_admin.background_migration_job_progress FOR UPDATE"
KEPT = "SELECT statement FROM pg_prepared_statements"
OTHER_TABLE = """
    CREATE SCHEMA far;
    CREATE TABLE far.counters (id bigint PRIMARY KEY, hits integer NOT NULL DEFAULT 0);
    INSERT INTO far.counters SELECT generate_series(1, 30);
"""
NULLS = """
    CREATE SCHEMA far;
    CREATE TABLE far.nulls (id bigint PRIMARY KEY, value bigint);
    CREATE INDEX ON far.nulls (value) WHERE value IS NULL;
    INSERT INTO far.nulls SELECT generate_series(1, 60);
"""
FILL_NULLS = """
    UPDATE far.nulls SET value = id
    WHERE id IN (SELECT id FROM far.nulls WHERE value IS NULL LIMIT %s FOR UPDATE SKIP LOCKED)
"""
OVER_NULLS = {
    "table": "far.nulls",
    "column": "value",
    "strategy": NULL_STRATEGY,
    "min_value": 0,
    "max_value": 0,
    "batch_size": 60,
}


@pytest.fixture
def bench(quick_bench):
    return quick_bench


@pytest.fixture
def pool():
    """Somebody else's threads. Whoever hangs there is not waited for."""
    pool = ThreadPoolExecutor(2)
    yield pool
    pool.shutdown(wait=False, cancel_futures=True)


def uses(bench, work, **declared):
    bench.functions["increment"] = WorkFunction(run=work, **declared)


def fill_nulls(cursor, batch, context) -> int:
    return cursor.execute(FILL_NULLS, (batch.size,)).rowcount


def vanish():
    raise KeyboardInterrupt


class Gate:
    """Holds a work function where it is, its rows locked, until it is opened."""

    def __init__(self, work) -> None:
        self._work = work
        self._reached, self._opened = threading.Event(), threading.Event()

    def __call__(self, cursor, batch, context) -> int:
        rows = self._work(cursor, batch, context)
        if not self._reached.is_set():
            self._reached.set()
            assert self._opened.wait(DEADLINE_SECONDS)
        return rows

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Go on as soon as somebody is there, and open at the end."""
        try:
            assert self._reached.wait(DEADLINE_SECONDS)
            yield
        finally:
            self._opened.set()


def wait_for_waiters(bench: Bench, count: int = 1) -> None:
    until(lambda: bench.one(WAITERS) >= count)


# --- The fence ----------------------------------------------------------------------------------------------------


def test_whoever_waited_for_its_job_while_it_was_taken_over_does_nothing_though_it_had_moved(bench, pool):
    bench.fill(100)
    bench.control(bench.queue(), sub_batch_size=10)
    pause, resume = threading.Event(), threading.Event()
    with hand(bench, "the old one") as frozen, hand(bench, "the new one") as other:

        def freeze():
            pause.set()
            assert resume.wait(DEADLINE_SECONDS)

        frozen.after_sub_batch = freeze
        ending = pool.submit(frozen.execute)
        assert pause.wait(DEADLINE_SECONDS)
        fall_silent(bench)
        with other.session.registry.transaction():
            claim = other.claim()
            resume.set()
            wait_for_waiters(bench)
        assert ending.result(DEADLINE_SECONDS) is Outcome.LOST
        assert (claim.piece.next_value, bench.hits()) == (11, {1: 10, 0: 90})
        assert other.execute(claim) is Outcome.FINISHED
    assert bench.hits() == {1: 100}


@pytest.mark.parametrize("ending", ["fail", "give back"])
def test_whatever_we_were_about_to_write_what_gitlab_s_worker_took_is_due_again_at_once(bench, ending):
    bench.fill(10)
    bench.queue(max_value=10)
    with hand(bench, unfinished=Status.FAILED, grace=600.0) as worker:
        claim = worker.claim()
        assert run_once(bench.database.connect, lambda *_: 1 / 0, known={"increment"}).kind is Kind.RETRY
        if ending == "fail":
            assert worker.job(claim).fail(ValueError("too late")) is Outcome.LOST
        else:
            worker.stops = True
            assert worker.execute(claim) is Outcome.LOST
            worker.stops = False
        assert worker.work_off() == [Outcome.FINISHED]
    assert bench.hits() == {1: 10}


# --- Silent, but at work ------------------------------------------------------------------------------------------


def test_whoever_is_in_the_middle_of_a_statement_keeps_its_place_and_its_table_without_a_sign_of_life(bench, pool):
    bench.fill(30)
    bench.queue("first", batch_size=10)
    bench.queue("second", batch_size=10)
    gate = Gate(increment)
    uses(bench, gate)
    with hand(bench) as silent, hand(bench) as other:
        ending = pool.submit(silent.execute)
        with gate.closed():
            fall_silent(bench)
            reasons = other.idle().reasons
        assert reasons["first"].startswith("as many jobs as may run at once")
        assert reasons["second"] == "first works on the same table"
        assert ending.result(DEADLINE_SECONDS) is Outcome.FINISHED
        assert other.claim().piece.next_value == 11


def test_by_the_null_strategy_lanes_that_find_all_rows_locked_leave_no_jobs_behind(bench, pool):
    bench.connection.execute(NULLS)
    gate = Gate(fill_nulls)
    uses(bench, gate)
    bench.control(bench.queue(**OVER_NULLS), max_parallel_jobs=2)
    with hand(bench, max_attempts=1) as first, hand(bench, max_attempts=1) as second:
        ending = pool.submit(first.execute)
        with gate.closed():
            for _ in range(5):
                assert second.execute() is Outcome.RELEASED
                assert second.idle().wait_seconds is not None
                bench.connection.execute(DUE)
            assert bench.one(JOBS) == 2
        assert ending.result(DEADLINE_SECONDS) is Outcome.FINISHED
        assert second.work_off() == [Outcome.FINISHED]
    assert (bench.one(JOBS), bench.rows(KINDS), bench.status()) == (2, [], Status.FINISHED)


# --- Attempts -----------------------------------------------------------------------------------------------------


def test_by_the_null_strategy_too_an_attempt_that_got_something_done_is_not_counted(bench):
    bench.connection.execute(NULLS)
    uses(bench, fill_nulls)
    bench.control(bench.queue(**OVER_NULLS), sub_batch_size=10)
    attempts = []
    for _ in range(4):
        with hand(bench, max_attempts=2) as gone:
            claim = gone.claim()
            attempts.append(claim.piece.attempts)
            gone.after_sub_batch = vanish
            with pytest.raises(KeyboardInterrupt):
                gone.execute(claim)
        fall_silent(bench)
    assert attempts == [1] * 4
    with hand(bench, max_attempts=2) as worker:
        worker.work_off()
    assert (bench.one("SELECT count(value) FROM far.nulls"), bench.status()) == (60, Status.FINISHED)


def test_each_half_of_a_job_has_all_attempts_of_its_own(bench):
    bench.fill(8)
    bench.queue(batch_size=8, max_value=8)
    failures = {(1, 4): 2, (5, 8): 1}

    def work(cursor, batch, context) -> int:
        rows = increment(cursor, batch, context)
        if rows == 8:
            cursor.execute(TIME_OUT)
        bounds = (batch.min_value, batch.max_value)
        if failures[bounds]:
            failures[bounds] -= 1
            raise ValueError(f"not yet {bounds}")
        return rows

    uses(bench, work)
    with hand(bench, max_attempts=3) as worker:
        worker.work_off()
    kinds = [kind for (kind,) in bench.rows(KINDS)]
    assert kinds == ["job_failed"] * 2 + ["job_split"] + ["job_failed"] * 3
    assert (bench.hits(), bench.status()) == ({1: 8}, Status.FINISHED)


@pytest.mark.parametrize("faults", [[Fault.ERROR] * 4, [Fault.TIMEOUT] * 5 + [Fault.ERROR] * 8])
def test_gitlab_s_worker_never_fails_a_migration_whose_job_is_in_its_last_attempt_with_us(bench, faults):
    bench.fill(8)
    bench.queue(batch_size=8, max_value=8)
    kinds = set()
    with crew(bench, lanes=1, rules=bench.rules(unfinished=Status.FAILED), faults=faults) as one:
        for _ in range(LONGEST):
            if bench.status() == Status.FINISHED:
                break
            one.advance(0)
            kinds.add(decide(bench.connection, known={"increment"}).kind)
            one.help("count")
    assert Kind.FAIL not in kinds
    assert Kind.RETRY in kinds
    assert bench.rows("SELECT max(attempts) FROM registry_admin.background_migration_job_progress") == [(5,)]
    assert (bench.hits(), bench.status()) == ({1: 8}, Status.FINISHED)


def test_after_an_early_failure_a_restart_counts_anew(bench):
    bench.fill(520)
    bench.queue(batch_size=10, max_value=520)
    broken = set(range(1, 521))

    def work(cursor, batch, context) -> int:
        if batch.min_value in broken:
            raise ValueError("it is broken")
        return increment(cursor, batch, context)

    uses(bench, work)
    with hand(bench, max_attempts=2) as worker:
        worker.work_off()
        assert (bench.status(), bench.hits()) == (Status.FAILED, {0: 520})
        broken.intersection_update({1})
        services.restart(bench.connection, "count", actor="tests")
        assert worker.work_off().count(Outcome.FAILED) == 2
    assert (bench.status(), bench.hits()) == (Status.FAILED, {1: 510, 0: 10})


def test_retry_reaches_a_job_whose_worker_vanished_as_well(bench):
    bench.fill(20)
    bench.control(bench.queue(batch_size=10, max_value=20), max_parallel_jobs=2)
    uses(bench, lambda *_: 1 / 0)
    with hand(bench, max_attempts=1) as worker, hand(bench, max_attempts=1) as gone:
        worker.execute()
        gone.claim()
        fall_silent(bench)
        uses(bench, increment)
        assert services.retry(bench.connection, "count", actor="tests") == 2
        assert worker.work_off() == [Outcome.FINISHED] * 2
    assert (bench.hits(), bench.status()) == ({1: 20}, Status.FINISHED)


# --- Operators, at the same moment --------------------------------------------------------------------------------


def test_a_run_that_begins_while_a_job_is_being_claimed_takes_nothing_away(bench, pool):
    bench.fill(10)
    bench.queue(max_value=10)
    uses(bench, lambda *_: 1 / 0)
    with hand(bench) as worker, bench.database.connect() as operator:
        worker.execute()
        bench.connection.execute(DUE)
        with worker.session.registry.transaction():
            claim = worker.claim()
            preparing = pool.submit(sync_runner.prepare, operator, None, actor="somebody")
            wait_for_waiters(bench)
        preparing.result(DEADLINE_SECONDS)
        assert bench.rows(PIECES) == [(2, True)]
        assert isinstance(worker.look(), Idle)
        uses(bench, increment)
        assert worker.execute(replace(claim, function=bench.functions["increment"])) is Outcome.FINISHED


def test_a_run_and_a_restart_at_once_never_lock_each_other_out(bench, pool):
    bench.fill(20)
    bench.queue(batch_size=10, max_value=20)
    uses(bench, lambda *_: 1 / 0)
    with hand(bench, max_attempts=1) as worker:
        worker.work_off()
    connect = bench.database.connect
    with connect() as admin, connect() as first, connect() as second:
        with admin.transaction():
            admin.execute(LOCK_PIECES)
            run = pool.submit(sync_runner.prepare, first, None, actor="run")
            wait_for_waiters(bench)
            restart = pool.submit(services.restart, second, "count", actor="restart")
            wait_for_waiters(bench, 2)
        run.result(DEADLINE_SECONDS)
        with pytest.raises(InvalidTransitionError, match="is active"):
            restart.result(DEADLINE_SECONDS)
    assert (bench.status(), bench.rows(PIECES)) == (Status.ACTIVE, [(0, False)] * 2)


def test_a_control_that_is_set_while_a_claim_waits_is_obeyed_by_it(bench, pool):
    bench.fill(100)
    bench.control(bench.queue(batch_size=10), max_parallel_jobs=4)
    with hand(bench) as one, hand(bench) as two, bench.database.connect() as operator:
        one.claim()
        with operator.transaction():
            services.set_controls(operator, "count", {"max_parallel_jobs": 1}, actor="tests")
            looking = pool.submit(two.look)
            wait_for_waiters(bench)
        found = looking.result(DEADLINE_SECONDS)
    assert isinstance(found, Idle)
    assert found.reasons["count"].startswith("as many jobs as may run at once")


# --- The next batch -----------------------------------------------------------------------------------------------


def test_a_cut_that_takes_too_long_is_halved_after_growing_pauses_and_fails_alone_in_the_end(bench):
    """Any look at row 4 takes for ever: a batch of two rows needs one at row 3, a batch of one at row 3 one at 4."""
    bench.fill(10_000)
    bench.connection.execute(OTHER_TABLE)
    uses(bench, increment, predicate="id <> 4 OR pg_sleep(60) IS NOT NULL")
    bench.control(bench.queue("slow", batch_size=4), job_timeout_seconds=0.4)
    bench.functions["quick"] = WorkFunction(run=increment)
    bench.queue("quick", function="quick", table="far.counters", batch_size=10, max_value=30)
    now, pauses, claims = 0.0, [], []
    with hand(bench) as one:
        claimer = Claimer(
            session=one.session, functions=bench.functions, rules=one.rules, worker="one", clock=lambda: now
        )
        while bench.status("slow") != Status.FAILED:
            found = claimer.next_claim()
            if isinstance(found, Claim):
                claims.append((found.migration.name, found.piece.size))
                one.execute(found)
                continue
            assert found.reasons["slow"].startswith("canceling statement due to statement timeout")
            pauses.append(found.wait_seconds)
            now += found.wait_seconds
    assert claims == [*[("quick", 10)] * 3, ("slow", 2)]
    assert pauses == [5.0, 5.0, 10.0, 20.0]
    assert (bench.status("quick"), bench.hits()) == (Status.FINISHED, {1: 2, 0: 9_998})


def test_an_adaptive_batch_grows_from_a_single_row(bench):
    bench.fill(100)
    bench.control(bench.queue(batch_size=1), adaptive=True)
    with hand(bench) as worker:
        for _ in range(6):
            worker.execute()
    assert [size for (size,) in bench.rows(SIZES)] == [1, 2, 3, 4, 5, 6]


def test_no_plan_is_kept_for_batches_with_a_predicate(bench):
    bench.fill(100)
    with hand(bench) as worker:
        connection = worker.session.registry
        for predicate in ("", "hits < 5"):
            target = Target(("public", "counters"), "id", predicate)
            for _ in range(5):
                next_bounds(connection, target, start=1, limit=100, size=10)
        kept = [statement for (statement,) in connection.execute(KEPT) if "counters" in statement]
    assert len(kept) == 1
    assert "hits" not in kept[0]
