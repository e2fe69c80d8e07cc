"""Looks over the shoulder of a long statement: who blocks it, and how far an index build has come."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg
import structlog
from django.db import Error as DatabaseError
from psycopg import Connection

log = structlog.get_logger(__name__)

JOIN_SECONDS = 5.0

BLOCKERS = """
    SELECT string_agg(format('process %%s (%%s%%s, %%s: %%s)', pid, usename,
                             coalesce(', ' || nullif(application_name, ''), ''), state,
                             left(regexp_replace(query, '\\s+', ' ', 'g'), 80)), '; ' ORDER BY pid)
    FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(%s))
"""
INDEX_BUILD = """
    SELECT index_relid::regclass::text, phase,
           coalesce(blocks_done::float8 / nullif(blocks_total, 0), tuples_done::float8 / nullif(tuples_total, 0))
    FROM pg_stat_progress_create_index WHERE pid = %s
"""


@dataclass(frozen=True)
class IndexBuild:
    """How far the index build of the running statement is; `share` is between 0 and 1, of its present phase."""

    index: str
    phase: str
    share: float


class Watcher:
    """Polls one backend from a second connection, opened only when something takes longer than one poll."""

    def __init__(
        self,
        backend_pid: int,
        *,
        connect: Callable[[], Connection],
        poll_seconds: float,
        on_blocked: Callable[[str], None],
        on_index_build: Callable[[IndexBuild], None],
    ) -> None:
        self._backend_pid, self._connect, self._poll_seconds = backend_pid, connect, poll_seconds
        self._on_blocked, self._on_index_build = on_blocked, on_index_build
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schema-migration-watcher", daemon=True)
        self._seen: tuple[float, str] = (0.0, "")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # It may hang on a network that went away; what it still waits for is no reason to wait with it.
        self._thread.join(timeout=JOIN_SECONDS)

    def blockers_since(self, moment: float) -> str:
        """Return who was seen blocking after this moment of the monotonic clock; empty when nobody was."""
        seen_at, blockers = self._seen
        return blockers if seen_at >= moment else ""

    def _run(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                with self._connect() as connection:
                    self._poll(connection)
                    while not self._stop.wait(self._poll_seconds):
                        self._poll(connection)
            except (psycopg.Error, DatabaseError):
                # What it tells is a courtesy; the run itself meets the same trouble and reports it.
                log.info("cannot watch the running statement", exc_info=True)

    def _poll(self, connection: Connection) -> None:
        blocked = connection.execute(BLOCKERS, [self._backend_pid]).fetchone()
        if blocked and blocked[0]:
            if blocked[0] != self._seen[1]:
                self._on_blocked(blocked[0])
            self._seen = (time.monotonic(), blocked[0])
        build = connection.execute(INDEX_BUILD, [self._backend_pid]).fetchone()
        if build and build[2] is not None:
            self._on_index_build(IndexBuild(*build))
