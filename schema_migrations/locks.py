"""One migrator at a time: a lock of the session, awaited for a bounded time, with the name of its holder."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg import Connection

from schema_migrations.errors import MigratorBusyError

# Two-part keys are apart from GitLab's own lock, the one-part key 1. The first part spells "REGI".
LOCK_KEY = (0x52454749, 1)
POLL_SECONDS = 0.5

TRY_LOCK = "SELECT pg_try_advisory_lock(%s, %s)"
UNLOCK = "SELECT pg_advisory_unlock(%s, %s)"
# What an ordinary role may not see of others is NULL.
HOLDER = """
    SELECT format('%%s (process %%s, role %%s%%s%%s)',
                  coalesce(nullif(application_name, ''), 'a session'), pid, usename,
                  ', from ' || host(client_addr),
                  ', connected since ' || to_char(backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'))
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid::bigint = %s AND objid::bigint = %s
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@contextmanager
def migrator_lock(
    connection: Connection,
    *,
    wait_seconds: float,
    on_wait: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Hold the migrators' lock; tell `on_wait` who holds it, once for each holder.

    Raises MigratorBusyError after `wait_seconds`. The lock ends with the session at the latest.
    """
    deadline = clock() + wait_seconds
    named = ""
    while not _scalar(connection, TRY_LOCK):
        holder = str(_scalar(connection, HOLDER) or "a session that just ended")
        if clock() >= deadline:
            raise MigratorBusyError(holder, waited_seconds=wait_seconds)
        if holder != named:
            on_wait(holder)
            named = holder
        sleep(min(POLL_SECONDS, max(deadline - clock(), 0)))
    try:
        yield
    finally:
        if not connection.closed:
            _scalar(connection, UNLOCK)


def _scalar(connection: Connection, query: str) -> object:
    row = connection.execute(query, LOCK_KEY).fetchone()
    return row[0] if row else None
