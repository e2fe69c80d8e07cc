"""Worker processes, killed, stopped, paused and in each other's way: nothing is lost and nothing done twice.

Each test waits for events, not for time to pass; the deadline is there for a test that fails.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from background_migrations import services
from background_migrations.transitions import CHANNEL
from bench.servers import crash, migrated_server, queue, url_of
from bench.torment import Torment
from tests.background_migrations import worker_process
from tests.background_migrations.conftest import TABLE, Bench
from tests.background_migrations.worker_process import GATE, NOTES, POISON, Process
from tests.conftest import Database
from tests.waiting import until

DEADLINE_SECONDS = 60.0
FOR_EVER_SECONDS = 3_600.0
PAUSED, ACTIVE, FINISHED, FAILED, RUNNING = range(5)
SHIPPED = "copyManifestMediaTypeIDToNewBigIntColumn"

AT_THE_GATE = f"""
    SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database AND datname = current_database()
    WHERE locktype = 'advisory' AND (classid, objid, objsubid) = (0, {GATE}, 1) AND NOT granted
"""
CLAIMED = "SELECT count(*) FROM registry_admin.background_migration_job_progress WHERE claim IS NOT NULL"
ATTEMPTS = "SELECT attempts FROM batched_background_migration_jobs"
SESSIONS = """
    SELECT state_change, query FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle'
      AND (application_name LIKE 'worker process %%' OR application_name LIKE 'background_migrate %%:%%')
"""
LISTEN = f"LISTEN {CHANNEL}"
HANG_UP = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query = '{LISTEN}'"
SET_STATUS = "UPDATE batched_background_migrations SET status = %s WHERE name = %s"
# At each begin of a sub-batch: how many were at work, and on how many migrations.
AT_ONCE = """
    SELECT max(sub_batches), max(migrations) FROM (
        SELECT count(*) AS sub_batches, count(DISTINCT b.migration) AS migrations
        FROM far.notes a JOIN far.notes b ON b.began <= a.began AND a.began < b.ended GROUP BY a.ctid
    ) AS moments
"""
# The shipped function finds its columns here, and the gate.
SHIPPED_TABLE = f"""
    ALTER TABLE counters ADD media_type_id smallint NOT NULL DEFAULT 7,
        ADD media_type_id_convert_to_bigint bigint NOT NULL DEFAULT 0;
    CREATE FUNCTION far.gate() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $$;
    CREATE TRIGGER gate AFTER UPDATE ON counters EXECUTE FUNCTION far.gate()
"""
COPIED = "SELECT count(*) FROM counters WHERE media_type_id_convert_to_bigint = 7"

Start = Callable[..., Process]


@pytest.fixture
def bench(quick_bench: Bench) -> Bench:
    """A table of 1000 rows, and one for the notes of work functions."""
    quick_bench.connection.execute(NOTES)
    quick_bench.fill(1_000)
    return quick_bench


@pytest.fixture
def start(bench: Bench) -> Iterator[Start]:
    """Start worker processes on the bench's database; what is left of them is killed."""
    with killed_at_the_end() as processes:
        yield lambda **values: processes(worker_process.start(bench.database.url, **values))


@pytest.fixture
def manage(bench: Bench) -> Iterator[Start]:
    """Start `manage.py background_migrate` on the bench's database; what is left of it is killed."""
    environment = {**os.environ, "DATABASE_URL": bench.database.url, "REGISTRY_BBM_JOB_INTERVAL": "0"}
    with killed_at_the_end() as processes:
        command = [sys.executable, "manage.py", "background_migrate"]
        yield lambda *arguments: processes(
            subprocess.Popen([*command, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )


@contextmanager
def killed_at_the_end() -> Iterator[Callable[..., Process]]:
    """Collect processes."""
    processes: list[Process] = []

    def add(process: Process) -> Process:
        processes.append(process)
        return process

    try:
        yield add
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def eventually(look: Callable[[], Any]) -> Any:
    """Look until it is true; processes have to start, and a server has to recover."""
    return until(look, seconds=DEADLINE_SECONDS)


@contextmanager
def held(bench: Bench, key: int) -> Iterator[None]:
    """Hold an advisory lock, as soon as those who share it let go."""
    with closing(bench.database.connect()) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (key,))
        yield


def wait_for_status(bench: Bench, status: int, *names: str) -> None:
    eventually(lambda: all(bench.status(name) == status for name in names or ("count",)))


def wait_at_the_gate(bench: Bench, count: int = 1) -> None:
    eventually(lambda: bench.one(AT_THE_GATE) == count)


def wait_for_looks(bench: Bench, count: int) -> None:
    """Wait until workers have ended so many transactions more."""
    ends: set[Any] = set()

    def look() -> bool:
        ends.update(changed for changed, query in bench.rows(SESSIONS) if query == "COMMIT")
        return len(ends) > count

    eventually(look)


def wait_until_it_listens(bench: Bench) -> None:
    """Wait until a worker listens, and its thread has looked."""
    eventually(lambda: {LISTEN} < {query for _, query in bench.rows(SESSIONS)})


def sub_batches(bench: Bench) -> list[int]:
    """Where the sub-batches begin that committed, in their order."""
    return [first for (first,) in bench.rows("SELECT first FROM far.notes ORDER BY began")]


def queue_with_sub_batches(bench: Bench, function: str = "increment_at_the_gate", **values: Any) -> int:
    """Queue a migration of one job with 100 sub-batches."""
    migration_id = bench.queue(**{"function": function, "batch_size": 1_000, **values})
    bench.control(migration_id, sub_batch_size=10)
    return migration_id


@contextmanager
def held_in_a_job(bench: Bench) -> Iterator[int]:
    """Let a worker do some sub-batches, and hold it at the end of another; give how many it has done."""
    eventually(lambda: len(sub_batches(bench)) > 1)
    with held(bench, GATE):
        wait_at_the_gate(bench)
        yield len(sub_batches(bench))


# --- Killed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("null_strategy", "rows"), [(False, 50_000), (True, 10_000)])
def test_killing_workers_again_and_again_loses_nothing_and_doubles_nothing(bench, null_strategy, rows):
    tally = Torment(bench.database.url, rows, null_strategy=null_strategy).run()
    bench.connection.execute("DROP TABLE tormented")
    assert (tally.lost, tally.doubled, tally.unfinished) == (0, 0, 0)
    assert tally.kills > 0


@pytest.fixture(scope="module")
def own_server():
    with migrated_server() as server:
        yield server


def test_workers_come_back_by_themselves_when_the_server_crashed(own_server):
    database = Database(url_of(own_server))
    with database.connect() as connection, killed_at_the_end() as processes:
        before = Bench(database, connection)
        connection.execute(TABLE)
        before.fill(10_000)
        migration_id = queue(connection, "count", table="public.counters", function="increment_slowly", batch_size=500)
        before.control(migration_id, sub_batch_size=50, max_parallel_jobs=4)
        workers = [processes(worker_process.start(database.url, threads=2, grace=2.0)) for _ in range(2)]
        eventually(lambda: before.hits().get(1, 0) > 1_000)
        assert before.status() == RUNNING
        crash(own_server)
        with database.connect() as anew:
            after = Bench(database, anew)
            wait_for_status(after, FINISHED)
            assert after.hits() == {1: 10_000}
        assert [worker.poll() for worker in workers] == [None, None]


def test_a_batch_that_kills_its_worker_every_time_is_set_aside(bench, start):
    bench.queue(function="increment_or_die", batch_size=100)
    codes = []
    while not codes or codes[-1] == -signal.SIGKILL:
        codes.append(start(once=True, grace=1.0, max_attempts=2).wait(DEADLINE_SECONDS))
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert bench.rows("SELECT min(id), max(id) FROM counters WHERE hits = 0") == [(POISON - 49, POISON + 50)]
    assert bench.hits() == {0: 100, 1: 900}
    assert bench.rows("SELECT status, failure_error_code FROM batched_background_migrations") == [(FAILED, 4)]


# --- Paused -------------------------------------------------------------------------------------------------------


def by_service(bench: Bench, status: int) -> None:
    verb = services.pause if status == PAUSED else services.resume
    assert verb(bench.connection, ["count"], actor="tests") == ["count"]


def by_plain_sql(bench: Bench, status: int) -> None:
    bench.connection.execute(SET_STATUS, (status, "count"))


@pytest.mark.parametrize("set_status", [by_service, by_plain_sql])
def test_pause_takes_effect_within_one_sub_batch_and_resume_goes_on_from_there(bench, start, set_status):
    queue_with_sub_batches(bench)
    start()
    with held_in_a_job(bench) as done:
        set_status(bench, PAUSED)
    eventually(lambda: bench.one(CLAIMED) == 0)
    assert bench.hits() == {0: 1_000 - 10 * (done + 1), 1: 10 * (done + 1)}
    assert bench.status() == PAUSED
    set_status(bench, ACTIVE)
    wait_for_status(bench, FINISHED)
    assert bench.hits() == {1: 1_000}
    assert sub_batches(bench) == list(range(1, 1_000, 10))


def test_an_idle_worker_takes_up_a_resumed_migration_at_once(bench, start):
    bench.queue(status=PAUSED)
    start(idle_seconds=FOR_EVER_SECONDS)
    wait_until_it_listens(bench)
    by_service(bench, ACTIVE)
    wait_for_status(bench, FINISHED)


def test_an_idle_worker_takes_up_what_was_resumed_while_it_could_not_listen(bench, start):
    bench.queue(status=PAUSED)
    start(idle_seconds=FOR_EVER_SECONDS)
    wait_until_it_listens(bench)
    bench.rows(HANG_UP)
    by_service(bench, ACTIVE)
    wait_for_status(bench, FINISHED)


# --- Stopped ------------------------------------------------------------------------------------------------------


def test_sigterm_ends_a_worker_within_one_sub_batch(bench, start):
    queue_with_sub_batches(bench)
    process = start(stdout=subprocess.PIPE)
    with held_in_a_job(bench) as done:
        process.terminate()
        os.set_blocking(process.stdout.fileno(), False)
        eventually(process.stdout.readline)
    assert process.wait(DEADLINE_SECONDS) == 0
    assert bench.hits() == {0: 1_000 - 10 * (done + 1), 1: 10 * (done + 1)}
    assert (bench.one(CLAIMED), bench.one(ATTEMPTS)) == (0, 0)


def test_a_sub_batch_that_hangs_is_cancelled_and_given_back(bench, start):
    queue_with_sub_batches(bench)
    process = start(stop_seconds=0.5)
    with held_in_a_job(bench) as done:
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
        assert len(sub_batches(bench)) == done
    assert bench.hits() == {0: 1_000 - 10 * done, 1: 10 * done}
    assert (bench.one(CLAIMED), bench.one(ATTEMPTS)) == (0, 0)


def test_sigterm_ends_a_worker_that_sleeps(bench, start):
    process = start(idle_seconds=FOR_EVER_SECONDS)
    eventually(lambda: any("batched_background_migrations" in query for _, query in bench.rows(SESSIONS)))
    process.terminate()
    assert process.wait(DEADLINE_SECONDS) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_command_gives_its_job_back_and_says_by_its_exit_code_how_it_was_ended(bench, manage, number, code):
    bench.connection.execute(SHIPPED_TABLE)
    queue_with_sub_batches(bench, function=SHIPPED)
    process = manage("worker")
    eventually(lambda: bench.one(COPIED) > 0)
    with held(bench, GATE):
        wait_at_the_gate(bench)
        process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, out) == (code, b"0 jobs finished, 0 attempts failed.\n")
    assert err == b"Working in 1 thread; Ctrl-C or SIGTERM ends it.\n"
    assert bench.status() == RUNNING
    assert (bench.one(CLAIMED), bench.one(ATTEMPTS)) == (0, 0)


# --- Beside others ------------------------------------------------------------------------------------------------

GITLAB_KEY = 1


def test_nothing_begins_while_gitlab_s_own_worker_is_at_work(bench, manage):
    bench.connection.execute(SHIPPED_TABLE)
    bench.queue(function=SHIPPED)
    with held(bench, GITLAB_KEY):
        process = manage("worker")
        wait_for_looks(bench, 2)
        assert bench.one(COPIED) == 0
        assert bench.one("SELECT count(*) FROM batched_background_migration_jobs") == 0
        assert process.poll() is None
    wait_for_status(bench, FINISHED)
    assert bench.one(COPIED) == 1_000


def test_a_job_rests_while_gitlab_s_own_worker_is_at_work(bench, start):
    queue_with_sub_batches(bench)
    start()
    eventually(lambda: len(sub_batches(bench)) > 1)
    with held(bench, GITLAB_KEY):
        done = len(sub_batches(bench))
        wait_for_looks(bench, 2)
        assert len(sub_batches(bench)) == done
    wait_for_status(bench, FINISHED)
    assert bench.hits() == {1: 1_000}
    assert len(sub_batches(bench)) == 100


def test_gitlab_s_own_worker_gets_no_lock_while_ours_is_at_work(bench, start):
    queue_with_sub_batches(bench)
    start()
    with held_in_a_job(bench):
        assert bench.one("SELECT pg_try_advisory_xact_lock(%s)", GITLAB_KEY) is False
    wait_for_status(bench, FINISHED)
    assert bench.one("SELECT pg_try_advisory_xact_lock(%s)", GITLAB_KEY) is True


def test_processes_together_run_no_more_jobs_at_once_than_one_migration_allows(bench, start):
    bench.control(bench.queue(function="increment_at_the_gate", batch_size=20), max_parallel_jobs=3)
    with held(bench, GATE):
        for _ in range(2):
            start(threads=2)
        wait_at_the_gate(bench, 3)
        wait_for_looks(bench, 2)  # of the fourth
        assert bench.one(AT_THE_GATE) == 3
    wait_for_status(bench, FINISHED)
    assert bench.rows(AT_ONCE) == [(3, 1)]
    assert bench.hits() == {1: 1_000}


def queue_two(bench: Bench, **controls: Any) -> None:
    """Queue two migrations on one table, over different rows."""
    for name, bounds in (("one", (1, 500)), ("other", (501, 1_000))):
        values = {"function": "increment_at_the_gate", "batch_size": 20, "min_value": bounds[0], "max_value": bounds[1]}
        bench.control(bench.queue(name, **values), max_parallel_jobs=2, **controls)


def test_two_migrations_on_one_table_are_never_at_work_at_once(bench, start):
    queue_two(bench)
    for _ in range(2):
        start(threads=2)
    wait_for_status(bench, FINISHED, "one", "other")
    assert bench.rows(AT_ONCE) == [(2, 1)]
    assert bench.hits() == {1: 1_000}


def test_two_migrations_that_may_share_their_table_are_at_work_at_once(bench, start):
    queue_two(bench, shares_table=True)
    with held(bench, GATE):
        for _ in range(2):
            start(threads=2)
        wait_at_the_gate(bench, 4)
    wait_for_status(bench, FINISHED, "one", "other")
    assert bench.rows(AT_ONCE) == [(4, 2)]
    assert bench.hits() == {1: 1_000}
