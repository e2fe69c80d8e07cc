"""Work on another database or by the network: it commits by itself, at least once."""

import psycopg
import pytest

from background_migrations.jobs import Outcome
from background_migrations.status import Status
from background_migrations.work import WorkFunction, WorkStoppedError
from tests.background_migrations.by_hand import fall_silent, hand
from tests.background_migrations.conftest import increment
from tests.background_migrations.scenes import FAULTS, JOBS, NOTE, PIECES, SLOW, uses


@pytest.fixture
def bench(quick_bench):
    return quick_bench


@pytest.fixture
def elsewhere(bench, scratch_database):
    """Another database, with a table of the same name, that the bench's function works on."""
    with scratch_database.connect() as connection:
        connection.execute("CREATE TABLE counters (id bigint PRIMARY KEY, hits integer NOT NULL DEFAULT 0)")
        connection.execute("INSERT INTO counters SELECT generate_series(1, 30)")
        connection.execute("ANALYZE counters")
        uses(bench, increment, database="rails")
        bench.fill(1_000)
        bench.queue(batch_size=10, max_value=30)
        connection.others = {"rails": scratch_database.connect}
        yield connection


def external_hits(connection):
    return dict(connection.execute("SELECT hits, count(*) FROM counters GROUP BY hits").fetchall())


def test_external_work_is_cut_estimated_and_done_in_its_own_database(bench, elsewhere):
    with hand(bench, others=elsewhere.others) as worker:
        assert worker.work_off() == [Outcome.FINISHED] * 3
    assert external_hits(elsewhere) == {1: 30}
    assert bench.hits() == {0: 1_000}
    query = "SELECT status, total_tuple_count FROM batched_background_migrations"
    assert bench.rows(query) == [(Status.FINISHED, 30)]
    assert [row[:2] for row in bench.rows(JOBS)] == [(1, 10), (11, 20), (21, 30)]


def test_no_transaction_of_the_registry_is_open_while_external_work_runs(bench, elsewhere):
    seen = []

    def look(cursor, batch, context):
        seen.append(worker.session.registry.info.transaction_status.name)
        return increment(cursor, batch, context)

    uses(bench, look, database="rails")
    with hand(bench, others=elsewhere.others) as worker:
        worker.work_off()
    assert seen == ["IDLE"] * 3


def test_external_work_commits_by_itself_and_is_repeated_after_a_failure(bench, elsewhere):
    broken = [True]

    def work(cursor, batch, context):
        rows = increment(cursor, batch, context)
        if broken:
            raise ValueError(f"{broken.pop()} enough")
        return rows

    uses(bench, work, database="rails")
    with hand(bench, others=elsewhere.others) as worker:
        assert worker.execute() is Outcome.FAILED
        assert external_hits(elsewhere) == {1: 10, 0: 20}
        worker.work_off()
    assert external_hits(elsewhere) == {2: 10, 1: 20}
    assert bench.status() == Status.FINISHED


def test_a_worker_that_loses_its_claim_during_external_work_records_nothing(bench, elsewhere):
    successor = []

    def work(cursor, batch, context):
        rows = increment(cursor, batch, context)
        if not successor:
            fall_silent(bench)
            successor.append(other.claim())
        return rows

    uses(bench, work, database="rails")
    with hand(bench, others=elsewhere.others) as worker, hand(bench, others=elsewhere.others) as other:
        assert worker.execute() is Outcome.LOST
        assert worker.advances == []
        assert other.execute(successor[0]) is Outcome.FINISHED
    assert external_hits(elsewhere) == {2: 10, 0: 20}


def test_external_work_that_is_told_to_stop_keeps_what_it_did_and_is_given_back(bench, elsewhere):
    def work(cursor, batch, context):
        cursor.execute("UPDATE counters SET hits = 1 WHERE id <= 4")
        raise WorkStoppedError

    uses(bench, work, database="rails")
    with hand(bench, others=elsewhere.others, max_attempts=1) as worker:
        assert worker.execute() is Outcome.RELEASED
    assert external_hits(elsewhere) == {1: 4, 0: 26}
    assert bench.rows(PIECES)[0][2:] == (1, 0, False, False, False)


def test_sub_batches_of_external_work_are_cut_in_its_own_database(bench, elsewhere):
    bench.control(bench.one("SELECT id FROM batched_background_migrations"), sub_batch_size=4)
    with hand(bench, others=elsewhere.others) as worker:
        worker.work_off()
    assert worker.advances == [4, 4, 2] * 3


def test_a_function_that_calls_the_network_works_on_the_registry_s_database_and_commits_by_itself(bench):
    bench.fill(10)
    bench.queue()

    def work(cursor, batch, context):
        increment(cursor, batch, context)
        assert bench.hits() == {1: 10}
        return 10

    uses(bench, work, calls_network=True)
    with hand(bench) as worker:
        assert worker.execute() is Outcome.FINISHED
    assert bench.hits() == {1: 10}


def test_external_work_has_the_time_limit_of_its_statements_too(bench, elsewhere):
    bench.control(bench.one("SELECT id FROM batched_background_migrations"), job_timeout_seconds=SLOW)
    uses(bench, lambda cursor, batch, context: cursor.execute("SELECT pg_sleep(2)").rowcount, database="rails")
    with hand(bench, others=elsewhere.others) as worker:
        assert worker.execute() is Outcome.FAILED
    assert bench.rows(FAULTS)[0][2] == "57014"


def test_a_database_that_is_away_is_told_and_stops_no_other_migration(bench, elsewhere):
    def refuse():
        raise psycopg.OperationalError("connection refused")

    bench.functions["local"] = WorkFunction(run=increment)
    bench.queue("other", function="local", batch_size=1_000)
    with hand(bench, others={"rails": refuse}) as worker:
        assert worker.work_off() == [Outcome.FINISHED]
        assert worker.idle().reasons == {"count": "connection refused"}
    assert bench.status("other") == Status.FINISHED
    assert bench.rows(NOTE) == [("database_error", "connection refused")]
