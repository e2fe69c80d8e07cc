"""One import at a time: a row that says who imports, kept fresh by a thread.

It needs no session of the server to last, so it works behind a pooler; where there is none, a holder that died is
known at once by its session, which died with it.
"""

import threading
import uuid
from types import TracebackType
from typing import Self

import structlog
from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from metadata_import.refusals import ImportRunningError

log = structlog.get_logger(__name__)

BEATS_IN_GRACE = 4  # so that a lost one or two matter nothing

# A new token is a new key of the row, so taking the lease away waits for the batch that has locked it.
TAKE = """
    INSERT INTO registry_admin.import_leases AS l (name, token, holder, backend_pid, taken_at, seen_at)
    VALUES ('import', %(token)s, %(holder)s, %(backend_pid)s, clock_timestamp(), clock_timestamp())
    ON CONFLICT (name) DO UPDATE
        SET token = EXCLUDED.token, holder = EXCLUDED.holder, backend_pid = EXCLUDED.backend_pid,
            taken_at = EXCLUDED.taken_at, seen_at = EXCLUDED.seen_at
        WHERE l.seen_at < clock_timestamp() - make_interval(secs => %(grace)s)
            OR (
                l.backend_pid IS NOT NULL
                AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.backend_pid)
            )
"""
HOLDER = "SELECT holder, taken_at FROM registry_admin.import_leases"
BEAT = """
    UPDATE registry_admin.import_leases SET seen_at = clock_timestamp(), backend_pid = %(backend_pid)s
    WHERE token = %(token)s
"""
RELEASE = "DELETE FROM registry_admin.import_leases WHERE token = %(token)s"
BACKEND = "SELECT pg_backend_pid()"


class Lease:
    """The right to import into one database; a context manager on a connection of its own.

    Entering raises ImportRunningError, which names the holder. A lease that was lost is noticed by the next batch.
    """

    def __init__(self, connection: BaseDatabaseWrapper, *, holder: str, grace: float) -> None:
        self.token = uuid.uuid4()
        self._connection = connection.copy()
        self._connection.inc_thread_sharing()
        self._holder, self._grace = holder, grace
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="import-lease", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._take()
        except BaseException:
            self._connection.close()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._connection.connection is not None and not self._connection.is_usable():
            self._connection.close()
        try:
            self._execute(RELEASE)
        except Error as failure:  # after the grace time anybody may have it
            log.warning("import lease not released", error=str(failure))
        self._connection.close()

    def _take(self) -> None:
        with self._connection.cursor() as cursor:
            while True:
                cursor.execute(
                    TAKE,
                    {
                        "token": self.token,
                        "holder": self._holder,
                        "backend_pid": self._backend_pid(),
                        "grace": self._grace,
                    },
                )
                if cursor.rowcount:
                    return
                cursor.execute(HOLDER)
                if held := cursor.fetchone():
                    raise ImportRunningError(held[0], since=held[1])

    def _beat(self) -> None:
        while not self._ended.wait(self._grace / BEATS_IN_GRACE):
            try:
                if not self._execute(BEAT):
                    log.error("import lease lost")
                    return
            except Error as error:
                log.warning("import lease not renewed", error=str(error))
                self._connection.close()

    def _execute(self, statement: str) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, {"token": self.token, "backend_pid": self._backend_pid()})
            return int(cursor.rowcount)

    def _backend_pid(self) -> int | None:
        """Return the process id of the server's session; None behind a pooler, which makes up one of its own."""
        with self._connection.cursor() as cursor:
            cursor.execute(BACKEND)
            (found,) = cursor.fetchone()
        claimed = self._connection.connection.info.backend_pid
        return int(found) if found == claimed else None
