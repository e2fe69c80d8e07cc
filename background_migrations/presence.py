"""One connection of a worker process for what its threads share: signs of life for their claims, and being woken."""

import selectors
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import structlog
from psycopg import Connection

from background_migrations.facts import WORKER
from background_migrations.sessions import Connect, is_direct
from background_migrations.transitions import CHANNEL

log = structlog.get_logger(__name__)

END_SECONDS = 5.0
RECONNECT_SECONDS = 2.0
BEATS_IN_GRACE = 4  # so that a lost one or two matter nothing

BEAT = """
    UPDATE registry_admin.background_migration_job_progress SET seen_at = clock_timestamp()
    WHERE id IN (
        SELECT id FROM registry_admin.background_migration_job_progress
        WHERE claim = ANY(%s) AND finished_at IS NULL FOR NO KEY UPDATE SKIP LOCKED
    )
"""


class Bell:
    """Lets threads wait for each other: until it rings, until the end, or for so long."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rung = 0
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether all is to end."""
        return self._stopped

    @property
    def rung(self) -> int:
        """How often it rang, for `wait`."""
        return self._rung

    def ring(self) -> None:
        """Wake all who wait."""
        with self._condition:
            self._rung += 1
            self._condition.notify_all()

    def stop(self) -> None:
        """Wake all, and let nobody wait any more. Safe to be called by a signal handler in the main thread."""
        self._stopped = True
        self.ring()  # the condition's lock is reentrant

    def wait(self, seconds: float, *, since: int | None = None) -> None:
        """Wait for so long, or until it rings; not at all when it rang after `since` or all is to end."""
        with self._condition:
            before = self._rung if since is None else since
            self._condition.wait_for(lambda: self._stopped or self._rung != before, timeout=seconds)


class Presence(threading.Thread):
    """Tells the others that the claims of this process are alive, and rings the bell when there may be work.

    Behind a pooler nobody can be woken: then waiting workers look by themselves.
    """

    def __init__(
        self, connect: Connect, *, grace: float, bell: Bell, on_beat: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(name="presence", daemon=True)
        self._connect, self._bell, self._on_beat = connect, bell, on_beat
        self._pause = grace / BEATS_IN_GRACE
        self._claims: set[uuid.UUID] = set()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._end_seen, self._end_said = socket.socketpair()

    @contextmanager
    def holding(self, token: uuid.UUID) -> Iterator[None]:
        """Keep a claim alive while the block runs."""
        with self._lock:
            self._claims.add(token)
        try:
            yield
        finally:
            with self._lock:
                self._claims.discard(token)

    def run(self) -> None:
        """Beat and listen until the end; a lost connection is opened again."""
        with self._end_seen:
            while not self._ended.is_set():
                self._on_beat()  # without a database, too
                try:
                    with self._connect() as connection:
                        self._attend(connection)
                except psycopg.Error as error:
                    log.warning("presence lost its connection", component=WORKER, error=str(error))
                    self._ended.wait(RECONNECT_SECONDS)

    def end(self) -> None:
        """Stop, and return when it has."""
        self._ended.set()
        self._end_said.close()
        if self.is_alive():
            self.join(timeout=END_SECONDS)

    def _attend(self, connection: Connection) -> None:
        listens = is_direct(connection)
        if listens:
            connection.execute(f"LISTEN {CHANNEL}")
            self._bell.ring()  # what was said before that was not heard
        while not self._ended.is_set():
            self._on_beat()
            with self._lock:
                claims = list(self._claims)
            if claims:
                connection.execute(BEAT, (claims,))
            self._look(connection if listens else None, until=time.monotonic() + self._pause)

    def _look(self, connection: Connection | None, *, until: float) -> None:
        """Ring the bell for each notification, until it is time for the next beat or for the end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._end_seen, selectors.EVENT_READ)
            if connection is not None:
                selector.register(connection.fileno(), selectors.EVENT_READ)
            while not self._ended.is_set() and (left := until - time.monotonic()) > 0:
                if selector.select(left) and connection is not None and not self._ended.is_set():
                    for _ in connection.notifies(timeout=0):
                        self._bell.ring()
