"""GitLab's own worker looks, or works, between any two commits of ours: nothing is skipped, no migration ends early."""

from dataclasses import replace

import pytest

from background_migrations.jobs import Outcome
from background_migrations.pieces import Claim
from background_migrations.status import Status
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import hand
from tests.background_migrations.conftest import increment
from tests.background_migrations.gitlab_worker import Decision, Kind, Work, decide, run_once
from tests.background_migrations.lanes import TIME_OUT
from tests.background_migrations.side_by_side import (
    FUNCTIONS,
    JOBS,
    LAST,
    NAME,
    NULLS,
    ROWS,
    Scene,
    fill,
    gitlab_work,
    play,
)


@pytest.fixture
def keyset(quick_bench) -> Scene:
    quick_bench.fill(ROWS)
    return Scene(quick_bench, quick_bench.queue(NAME, batch_size=7, max_value=LAST))


@pytest.fixture
def nulls(quick_bench) -> Scene:
    quick_bench.connection.execute(NULLS)
    quick_bench.connection.execute("INSERT INTO far.nulls SELECT generate_series(1, %s)", (ROWS,))
    quick_bench.functions["fill"] = WorkFunction(run=fill, known_to_gitlab=True)
    bounds = {"min_value": 0, "max_value": 0}
    names = {"table": "far.nulls", "column": "value", "function": "fill"}
    migration_id = quick_bench.queue(NAME, batch_size=7, strategy="NullKeySetBatchingStrategy", **names, **bounds)
    return Scene(quick_bench, migration_id, null_strategy=True)


OURS = {"pause": 0.02, "kill": 0.02, "give_back": 0.05, "sleep": 0.02, "control": 0.05}


@pytest.mark.parametrize("seed", range(12))
def test_gitlab_s_worker_may_look_after_each_commit_and_every_row_is_done_once(keyset, seed):
    hits = play(keyset, seed, faulty=0.3, **OURS)
    assert hits == dict.fromkeys(range(1, ROWS + 1), 1)


@pytest.mark.parametrize("seed", range(6))
def test_the_null_strategy_is_as_safe_to_be_looked_at(nulls, seed):
    hits = play(nulls, seed, faulty=0.3, **OURS)
    assert hits == dict.fromkeys(range(1, ROWS + 1), 1)


@pytest.mark.parametrize("seed", range(12))
def test_gitlab_s_worker_may_work_between_any_two_commits(keyset, seed):
    hits = play(keyset, seed, faulty=0.2, gitlab_works=0.1, gitlab_fails=0.05, gitlab_overtakes=0.3, **OURS)
    assert all(hits.values())
    assert keyset.look().kind is Kind.NOTHING


@pytest.mark.parametrize("seed", range(6))
def test_gitlab_s_worker_may_die_between_its_two_commits(keyset, seed):
    hits = play(keyset, seed, faulty=0.1, gitlab_works=0.05, gitlab_dies=0.1, **OURS)
    assert all(hits.values())


@pytest.mark.parametrize("seed", range(6))
def test_both_may_work_off_nulls(nulls, seed):
    hits = play(nulls, seed, faulty=0.2, gitlab_works=0.1, gitlab_fails=0.05, **OURS)
    assert hits == dict.fromkeys(range(1, ROWS + 1), 1)  # a row that is done is not NULL any more
    assert nulls.look().kind is Kind.NOTHING


# --- One thing at a time ------------------------------------------------------------------------------------------


@pytest.fixture
def ours(keyset):
    """A worker of ours that knows that GitLab's is there, in the test's hands."""
    with hand(keyset.bench, unfinished=Status.FAILED, grace=600.0) as ours:
        yield ours


def let_gitlab_run(bench, *, fails: bool = False) -> Decision:
    def work(connection, work: Work) -> None:
        gitlab_work(connection, work)
        if fails:
            raise RuntimeError("it was told to fail")

    return run_once(bench.database.connect, work, known=FUNCTIONS)


def test_while_we_work_gitlab_s_worker_waits_and_ours_do_not(keyset, ours):
    seen = []
    keyset.bench.control(keyset.migration_id, max_parallel_jobs=2)

    def work(cursor, batch, context) -> int:
        with hand(keyset.bench, unfinished=Status.FAILED) as other:
            seen.append((decide(keyset.bench.connection, known=FUNCTIONS).kind, type(other.look())))
        return increment(cursor, batch, context)

    keyset.bench.functions["increment"] = WorkFunction(run=work)
    assert ours.execute() is Outcome.FINISHED
    assert seen == [(Kind.BUSY, Claim)]
    assert keyset.look().kind is Kind.CUT


def test_while_gitlab_s_worker_works_we_claim_nothing(keyset, ours):
    with keyset.bench.connection.transaction():
        keyset.bench.connection.execute("SELECT pg_advisory_xact_lock(1)")
        idle = ours.idle()
    assert idle.reasons == {NAME: "GitLab's own worker is at work"}
    assert idle.wait_seconds is not None
    assert ours.work_off() == [Outcome.FINISHED] * 6


def test_a_job_of_ours_waits_until_gitlab_s_worker_has_ended(keyset, ours):
    claim = ours.claim()
    gitlab = keyset.bench.database.connect()
    gitlab.execute("SELECT pg_advisory_lock(1)")
    ours.wait = lambda seconds: gitlab.close()
    assert ours.execute(claim) is Outcome.FINISHED
    assert gitlab.closed
    assert keyset.hits == {row: row <= 7 for row in range(1, ROWS + 1)}


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_that_gitlab_s_worker_has_retried_is_not_touched_any_more(keyset, ours, fails):
    keyset.bench.control(keyset.migration_id, batch_size=100, sub_batch_size=10)
    claim = ours.claim()
    decisions = []
    ours.after_sub_batch = lambda: decisions.append(let_gitlab_run(keyset.bench, fails=fails))
    assert ours.execute(claim) is Outcome.LOST
    assert [(decision.kind, decision.job_id) for decision in decisions] == [(Kind.RETRY, claim.piece.job_id)]
    # The first ten were ours before, and became GitLab's once more: its worker runs whole jobs.
    assert keyset.hits == {row: 2 if row <= 10 else 1 for row in range(1, ROWS + 1)}
    assert keyset.bench.one("SELECT attempts FROM batched_background_migration_jobs") == 2


def test_what_gitlab_s_worker_has_retried_in_vain_is_ours_again_at_once(keyset, ours):
    keyset.bench.control(keyset.migration_id, batch_size=100)
    claim = ours.claim()
    run_once(keyset.bench.database.connect, lambda *_: 1 / 0, known=FUNCTIONS)
    assert ours.execute(claim) is Outcome.LOST
    assert ours.work_off() == [Outcome.FINISHED]
    assert keyset.hits == dict.fromkeys(range(1, ROWS + 1), 1)
    assert keyset.status == Status.FINISHED


def test_jobs_that_gitlab_s_worker_cut_and_left_failed_are_done_by_ours(keyset, ours):
    for _ in range(3):
        assert run_once(keyset.bench.database.connect, lambda *_: 1 / 0, known=FUNCTIONS).kind is Kind.CUT
    cut = keyset.bench.rows(JOBS, keyset.migration_id)
    assert [job[1:4] for job in cut] == [(1, 7, Status.FAILED), (8, 14, Status.FAILED), (15, 21, Status.FAILED)]
    assert ours.work_off() == [Outcome.FINISHED] * 6
    assert keyset.hits == dict.fromkeys(range(1, ROWS + 1), 1)
    done = keyset.bench.rows(JOBS, keyset.migration_id)
    assert [job[:3] for job in done[:3]] == [job[:3] for job in cut]
    assert {job[3] for job in done} == {Status.FINISHED}
    assert keyset.look().kind is Kind.NOTHING


def test_a_job_that_gitlab_s_command_has_finished_is_not_touched_any_more(keyset, ours):
    claim = ours.claim()
    keyset.bench.connection.execute("UPDATE batched_background_migration_jobs SET status = 2")  # it counts no attempt
    assert ours.execute(claim) is Outcome.LOST
    assert set(keyset.hits.values()) == {0}


def test_jobs_that_gitlab_s_worker_finished_are_left_alone(keyset, ours):
    let_gitlab_run(keyset.bench)
    let_gitlab_run(keyset.bench)
    assert ours.work_off() == [Outcome.FINISHED] * 4
    assert keyset.hits == dict.fromkeys(range(1, ROWS + 1), 1)


def test_gitlab_s_worker_finishes_what_ours_has_begun(keyset, ours):
    ours.execute(ours.claim())
    ours.claim()  # and never comes back
    kinds = [let_gitlab_run(keyset.bench).kind for _ in range(7)]
    assert kinds == [Kind.CUT] * 4 + [Kind.RETRY, Kind.FINISH, Kind.NOTHING]
    assert keyset.hits == dict.fromkeys(range(1, ROWS + 1), 1)


@pytest.mark.parametrize("attempts", [2, 5, 8])
def test_gitlab_s_worker_never_gives_up_a_job_that_has_attempts_of_ours_left(keyset, ours, attempts):
    keyset.bench.control(keyset.migration_id, batch_size=ROWS)
    keyset.bench.functions["increment"] = WorkFunction(run=lambda *_: 1 / 0)
    ours.rules = replace(ours.rules, max_attempts=attempts)
    for _ in range(attempts):
        assert keyset.look().kind in (Kind.CUT, Kind.RETRY)
        claim = ours.claim()
        assert keyset.look().kind is Kind.RETRY
        assert ours.execute(claim) is Outcome.FAILED
        keyset.bench.connection.execute("UPDATE registry_admin.background_migration_job_progress SET retry_at = NULL")
    ours.idle()
    assert keyset.status == Status.FAILED


def test_the_halves_of_a_job_are_one_job_to_gitlab_s_worker(keyset, ours):
    keyset.bench.control(keyset.migration_id, batch_size=ROWS)
    ours.rules = replace(ours.rules, max_attempts=1)

    def too_slow(cursor, batch, context) -> int:
        return cursor.execute(TIME_OUT).rowcount

    quick = keyset.bench.functions["increment"]
    keyset.bench.functions["increment"] = WorkFunction(run=too_slow)
    assert ours.execute() is Outcome.FAILED
    keyset.bench.functions["increment"] = quick
    assert keyset.bench.one("SELECT count(*) FROM registry_admin.background_migration_job_progress") == 2
    assert keyset.look().kind is Kind.RETRY
    assert ours.execute() is Outcome.FINISHED
    assert keyset.look().work.max_value == LAST
    assert sum(keyset.hits.values()) == ROWS / 2
    assert ours.work_off() == [Outcome.FINISHED]
    assert keyset.hits == dict.fromkeys(range(1, ROWS + 1), 1)
    assert len(keyset.bench.rows(JOBS, keyset.migration_id)) == 1
