"""Queuing the background migration that a work function brings along."""

import pytest

from background_migrations import services
from background_migrations.errors import (
    AlreadyQueuedError,
    GitLabWorkerError,
    InvalidColumnError,
    InvalidTableError,
    NothingToQueueError,
    NotQueueableError,
    UnknownWorkFunctionError,
)
from background_migrations.services import Shipped
from background_migrations.status import Status
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import broken, hand

ACTOR = "an operator"
EVENTS = """
    SELECT name, kind, actor, old_status, new_status, reason FROM registry_admin.background_migration_events ORDER BY id
"""


@pytest.fixture
def bench(quick_bench):
    quick_bench.functions["broken"] = WorkFunction(run=broken)
    return quick_bench


def statuses(bench) -> dict[str, str]:
    found = bench.rows("SELECT name, status FROM batched_background_migrations ORDER BY id")
    return {name: Status(status).label for name, status in found}


def queueable(**values) -> WorkFunction:
    return WorkFunction(
        **{"run": broken, "queued_on": ("public.counters", "id"), "columns": ("hits",), "batch_size": 50, **values}
    )


def queue(bench, name="new", *, gitlab_may_work=False, functions=None):
    shipped = Shipped(functions or {"new": queueable()}, gitlab_may_work=gitlab_may_work)
    return services.queue(bench.connection, name, target=bench.connection, actor=ACTOR, shipped=shipped)


def test_queue_inserts_an_active_migration_up_to_the_largest_value(bench):
    bench.fill(1_234)
    migration_id = queue(bench)
    query = """
        SELECT id, name, status, min_value, max_value, batch_size, job_signature_name, table_name, column_name,
            batching_strategy, started_at IS NULL
        FROM batched_background_migrations
    """
    assert bench.rows(query) == [
        (migration_id, "new", Status.ACTIVE, 1, 1_234, 50, "new", "public.counters", "id", None, True)
    ]
    assert bench.rows(EVENTS) == [("new", "queued", ACTOR, None, None, "up to 1234")]


def test_queue_twice_is_refused_with_the_status_of_the_first(bench):
    bench.fill(1)
    queue(bench)
    services.pause(bench.connection, ["new"], actor=ACTOR)
    with pytest.raises(AlreadyQueuedError, match="it is paused"):
        queue(bench)
    assert bench.one("SELECT count(*) FROM batched_background_migrations") == 1


def test_an_empty_table_is_not_queued(bench):
    with pytest.raises(NothingToQueueError, match=r"public\.counters holds no row"):
        queue(bench)
    assert statuses(bench) == {}


def test_queue_reaches_to_the_largest_value_whatever_the_predicate_and_only_matching_rows_are_done(bench):
    bench.fill(100)
    bench.connection.execute("UPDATE counters SET hits = 5 WHERE id IN (3, 40, 41, 77)")
    function = queueable(run=bench.functions["increment"].run, predicate="hits = 5", batch_size=2)
    bench.functions["new"] = function
    queue(bench, functions={"new": function})
    assert bench.one("SELECT max_value FROM batched_background_migrations") == 100
    with hand(bench) as worker:
        worker.work_off()
    assert statuses(bench) == {"new": "finished"}
    bounds = "SELECT min_value, max_value FROM batched_background_migration_jobs ORDER BY id"
    assert bench.rows(bounds) == [(1, 40), (41, 100)]


@pytest.mark.parametrize(
    ("name", "functions", "error", "text"),
    [
        ("missing", None, UnknownWorkFunctionError, "it has new"),
        ("new", {"new": queueable(queued_on=None)}, NotQueueableError, "database migrate up"),
        ("new", {"new": queueable(columns=("colour",))}, InvalidColumnError, "'colour'"),
        ("new", {"new": queueable(queued_on=("public.counters", "size"))}, InvalidColumnError, "'size'"),
        ("new", {"new": queueable(queued_on=("public.missing", "id"))}, InvalidTableError, "public.missing"),
    ],
)
def test_what_cannot_be_queued_is_refused_with_the_reason(bench, name, functions, error, text):
    bench.fill(1)
    with pytest.raises(error, match=text):
        queue(bench, name, functions=functions)
    assert statuses(bench) == {}


def test_where_gitlab_s_worker_may_run_only_functions_that_it_knows_are_queued(bench):
    bench.fill(1)
    with pytest.raises(GitLabWorkerError, match="--gitlab-worker-stopped"):
        queue(bench, gitlab_may_work=True)
    assert statuses(bench) == {}
    queue(bench, gitlab_may_work=True, functions={"new": queueable(known_to_gitlab=True)})
    assert statuses(bench) == {"new": "active"}
