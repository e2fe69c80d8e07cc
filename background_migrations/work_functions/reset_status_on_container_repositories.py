"""Takes repositories of images out of GitLab's queue of deletions when the registry says that they still hold tags."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from typing import Any, NamedTuple, Protocol

from psycopg import Cursor, sql

from background_migrations.batching import Batch
from background_migrations.work import WorkContext, WorkFunction, WorkStoppedError

NAME = "ResetStatusOnContainerRepositories"
CONCURRENCY = 10  # requests in flight
STOP_CHECK_SECONDS = 0.2


class Registry(Protocol):
    """Knows which repositories hold tags; asked by many threads at once."""

    def has_tags(self, repository: str, *, sleep: Callable[[float], Any]) -> bool:
        """Say whether a repository holds a tag, or may hold one; `sleep` is for the pause before another attempt."""
        ...


class Repository(NamedTuple):
    """A repository that is to be deleted; without a path when its project is gone."""

    id: int
    path: str | None


SCHEDULED = sql.SQL("""
    SELECT repositories.id, routes.path, repositories.name
    FROM {table} AS repositories
    LEFT JOIN {routes} AS routes ON routes.source_type = 'Project' AND routes.source_id = repositories.project_id
    WHERE repositories.{column} BETWEEN %(min_value)s AND %(max_value)s AND repositories.status = 0
    ORDER BY repositories.{column}
""")
# A deletion that has begun meanwhile has another status, and goes on.
RESET = sql.SQL("UPDATE {table} SET status = NULL WHERE id = ANY(%(ids)s) AND status = 0")


def reset_status_on_container_repositories(cursor: Cursor, batch: Batch, context: WorkContext) -> int:
    """Set the status of those repositories of the batch that hold tags to NULL; return how many.

    Raises WorkStoppedError when told to stop before all were asked; the answers until then are written.
    """
    found = _scheduled(cursor, batch)
    tagged, answered = [], 0
    for repository, has_tags in _answers(found, context):
        _report(context.log, repository, has_tags=has_tags)
        answered += 1
        if has_tags:
            tagged.append(repository.id)
    changed = _reset(cursor, batch, ids=tagged)
    if answered < len(found):
        raise WorkStoppedError(f"{len(found) - answered} of {len(found)} repositories were not asked for")
    return changed


def _scheduled(cursor: Cursor, batch: Batch) -> list[Repository]:
    query = SCHEDULED.format(
        table=sql.Identifier(*batch.table),
        routes=sql.Identifier(batch.table[0], "routes"),
        column=sql.Identifier(batch.column),
    )
    cursor.execute(query, {"min_value": batch.min_value, "max_value": batch.max_value})
    return [Repository(id_, _path(project, name)) for id_, project, name in cursor.fetchall()]


def _path(project: str | None, name: str) -> str | None:
    """Return the path that a registry knows; the project's own repository has no name."""
    return f"{project}/{name}".rstrip("/").lower() if project else None


def _reset(cursor: Cursor, batch: Batch, *, ids: list[int]) -> int:
    if not ids:
        return 0
    cursor.execute(RESET.format(table=sql.Identifier(*batch.table)), {"ids": ids})
    return cursor.rowcount


def _answers(repositories: Sequence[Repository], context: WorkContext) -> Iterator[tuple[Repository, bool | None]]:
    """Give each repository with whether it has tags, as it becomes known; None when that cannot be asked.

    Ends early when told to stop. Without a registry nothing is asked, and all are taken to have tags.
    """
    registry: Registry | None = context.options.get("registry")
    yield from ((repository, None) for repository in repositories if repository.path is None)
    with_path = [(repository, repository.path) for repository in repositories if repository.path is not None]
    if registry is None:
        yield from ((repository, True) for repository, _path in with_path)
        return
    stopping = threading.Event()
    with ThreadPoolExecutor(context.options.get("registry_concurrency", CONCURRENCY)) as pool:
        try:
            asked = {
                pool.submit(copy_context().run, partial(_ask, registry, path, stopping=stopping)): each
                for each, path in with_path
            }
            yield from _as_completed(asked, context, stopping=stopping)
        finally:
            stopping.set()


def _as_completed(
    asked: dict[Future[bool], Repository], context: WorkContext, *, stopping: threading.Event
) -> Iterator[tuple[Repository, bool]]:
    """Give the answers. Told to stop, those that are under way are waited for and all others left out."""
    waiting = set(asked)
    while waiting:
        done, waiting = wait(waiting, timeout=STOP_CHECK_SECONDS, return_when=FIRST_COMPLETED)
        if context.should_stop():
            stopping.set()
        for future in done:
            if not isinstance(future.exception(), WorkStoppedError):
                yield asked[future], future.result()


def _ask(registry: Registry, path: str, *, stopping: threading.Event) -> bool:
    def sleep(seconds: float) -> None:
        if stopping.wait(seconds):
            raise WorkStoppedError

    if stopping.is_set():
        raise WorkStoppedError
    return registry.has_tags(path, sleep=sleep)


def _report(log: logging.Logger, repository: Repository, *, has_tags: bool | None) -> None:
    """Write the line; a repository whose project is gone deserves a look."""
    facts = {
        "migrator": NAME,
        "has_tags": has_tags,
        "container_repository_id": repository.id,
        "container_repository_path": repository.path,
    }
    log.log(logging.WARNING if has_tags is None else logging.INFO, "", extra=facts)


RESET_STATUS_ON_CONTAINER_REPOSITORIES = WorkFunction(
    run=reset_status_on_container_repositories,
    database="rails",
    calls_network=True,
    predicate="status = 0",
    columns=("project_id", "name", "status"),
    batch_size=50,
    interval_seconds=120,
    queued_on=("public.container_repositories", "id"),
)
