"""The connections of one worker thread, opened when first needed and again after they were lost."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import structlog
from psycopg import Connection

from background_migrations import locks

Connect = Callable[[], Connection]
log = structlog.get_logger(__name__)

CANCEL_SECONDS = 5.0
REGISTRY = "registry"
PURPOSE = "background_migrate"  # what the server shows beside sessions of workers
# Uses of a statement before the server keeps its plan, where the next one finds the same session.
PREPARE_THRESHOLD = 2


def is_direct(connection: Connection) -> bool:
    """Whether no pooler stands between: one answers the log-in with a process id of its own making."""
    return connection.execute("SELECT pg_backend_pid()").fetchone() == (connection.info.backend_pid,)


@dataclass
class Session:
    """Connections in autocommit mode, by alias. Belongs to one thread."""

    connect: Mapping[str, Connect]
    _open: dict[str, Connection] = field(default_factory=dict)

    @property
    def registry(self) -> Connection:
        """The connection to the registry's database."""
        return self.connection(REGISTRY)

    @property
    def registry_is_lost(self) -> bool:
        """Whether the registry's connection was open and is not any more."""
        connection = self._open.get(REGISTRY)
        return connection is not None and connection.closed

    def connection(self, alias: str) -> Connection:
        """Return the connection of an alias. Raises OperationalError when its server does not answer."""
        connection = self._open.get(alias)
        if connection is None or connection.closed:
            connection = self._open[alias] = self.connect[alias]()
            if is_direct(connection):
                connection.prepare_threshold = PREPARE_THRESHOLD
        return connection

    @contextmanager
    def reading(self, alias: str, *, statement_timeout: float) -> Iterator[Connection]:
        """Give a connection for reading a migration's table; the registry's is in the claim's transaction already."""
        connection = self.connection(alias)
        if alias == REGISTRY:
            yield connection
            return
        with connection.transaction():
            locks.limit_statements(connection, seconds=statement_timeout)
            yield connection

    def limited(self, alias: str, *, statement_timeout: float) -> Connection:
        """Return a connection whose statements, each a transaction, end in time; not where a pooler stands between."""
        connection = self.connection(alias)
        if connection.prepare_threshold is not None:
            locks.limit_statements(connection, seconds=statement_timeout, session=True)
        return connection

    def cancel(self) -> None:
        """End the statements that run now; may be called from another thread."""
        for connection in list(self._open.values()):
            try:
                connection.cancel_safe(timeout=CANCEL_SECONDS)
            except psycopg.Error as error:
                log.warning("statement cannot be cancelled", error=str(error))

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        while self._open:
            self._open.popitem()[1].close()
