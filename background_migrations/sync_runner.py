"""Runs background migrations now, to completion, without throttling: the loop behind `run` and installations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import Connection

from background_migrations import outcomes
from background_migrations.records import GRACE_SECONDS
from background_migrations.sessions import REGISTRY
from background_migrations.status import Status
from background_migrations.transitions import transition
from background_migrations.worker import Worker

STATUSES = """
    SELECT id, name, status FROM public.batched_background_migrations
    WHERE %(only)s::text[] IS NULL OR name = ANY(%(only)s::text[]) ORDER BY id
"""
TABLE_EXISTS = "SELECT to_regclass('public.batched_background_migrations') IS NOT NULL"


@dataclass(frozen=True)
class RunResult:
    """The names of migrations that were finished by this run, and why the others are not."""

    finished: tuple[str, ...]
    unfinished: Mapping[str, str]


def unfinished_names(connection: Connection, names: Sequence[str] | None) -> tuple[str, ...]:
    """Return which of these (None: of all) are not finished, those that do not exist too; asks GitLab's table alone."""
    ((exists,),) = connection.execute(TABLE_EXISTS)
    statuses = {name: status for _, name, status in _statuses(connection, names)} if exists else {}
    asked = statuses if names is None else names
    return tuple(name for name in asked if statuses.get(name) is not Status.FINISHED)


def prepare(connection: Connection, names: Sequence[str] | None, *, actor: str, grace: float = GRACE_SECONDS) -> None:
    """Make paused and failed migrations active, and give failed jobs new attempts; one transaction."""
    with connection.transaction():
        statuses = _statuses(connection, names, lock=True)
        for migration_id, _, status in statuses:
            if status is not Status.FINISHED:
                outcomes.reset_attempts(connection, migration_id, grace=grace)
        ids = [migration_id for migration_id, _, _ in statuses]
        transition(connection, ids, to=Status.ACTIVE, actor=actor, reason="to be run now")


def run_to_completion(worker: Worker, names: Sequence[str] | None) -> RunResult:
    """Run what is active or running among these migrations (None: all) until nothing more can be done.

    Looks on connections of its own, before and after: a run may outlive the one that it began with.
    """
    with worker.connect[REGISTRY]() as connection:
        before = _statuses(connection, names)
    pending = [name for _, name, status in before if status is not Status.FINISHED]
    worker.only = pending
    if pending:
        worker.run()
    with worker.connect[REGISTRY]() as connection:
        after = _statuses(connection, pending)
    finished = tuple(name for _, name, status in after if status is Status.FINISHED)
    unfinished = {
        name: worker.reasons.get(name, f"it is {status.label}")
        for _, name, status in after
        if status is not Status.FINISHED
    }
    return RunResult(finished, unfinished)


def _statuses(
    connection: Connection, names: Sequence[str] | None, *, lock: bool = False
) -> list[tuple[int, str, Status]]:
    only = list(names) if names is not None else None
    query = STATUSES + "FOR UPDATE" if lock else STATUSES
    rows = connection.execute(query, {"only": only}).fetchall()
    return [(migration_id, name, Status(status)) for migration_id, name, status in rows]
