"""Signals that the database is under strain: may we work now, and why not. One small class each; none ever sleeps."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from psycopg import Connection, sql


@dataclass(frozen=True)
class Throttled:
    """The signal that says no, and its reason in words for people."""

    signal: str
    reason: str


class Signal(Protocol):
    """Looks at one thing on the server; `table` is the schema and name of the table to be worked on."""

    @property
    def name(self) -> str: ...

    def reason(self, connection: Connection, table: tuple[str, str]) -> str | None:
        """Return why not to work now, or None."""


@dataclass
class Lookout:
    """Asks the signals in their order. May be shared by threads.

    That nothing is in the way holds for `fresh_seconds`: looking costs about as much as the bookkeeping of a job, and
    jobs without a pause between them may be as short.
    """

    signals: Sequence[Signal] = ()
    fresh_seconds: float = 1.0
    clock: Callable[[], float] = time.monotonic
    _clear_until: dict[tuple[str, str], float] = field(default_factory=dict)

    def throttled(self, connection: Connection, table: tuple[str, str]) -> Throttled | None:
        """Return the first signal that says no."""
        if self.clock() < self._clear_until.get(table, 0.0):
            return None
        for signal in self.signals:
            if (reason := signal.reason(connection, table)) is not None:
                return Throttled(signal.name, reason)
        self._clear_until[table] = self.clock() + self.fresh_seconds
        return None


# --- The write-ahead log ------------------------------------------------------------------------------------------

# A failure counts only while nothing was archived after it: the server remembers it for ever.
ARCHIVER = """
    SELECT pg_size_bytes(current_setting('wal_segment_size')),
           (pg_current_wal_insert_lsn() - '0/0')::bigint,
           last_archived_wal,
           CASE WHEN last_archived_time IS NULL OR last_failed_time > last_archived_time THEN last_failed_wal END
    FROM pg_stat_archiver
    WHERE current_setting('archive_mode') <> 'off' AND NOT pg_is_in_recovery()
"""
SEGMENT_NAME = re.compile(r"[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})")  # the first eight digits are the timeline
BYTES_PER_LOG = 2**32  # what the first of the two numbers counts, whatever the size of a segment


@dataclass(frozen=True)
class WalArchive:
    """The archive of the write-ahead log does not keep up. Silent without an archive and on a standby."""

    max_pending_segments: int = 42  # as GitLab's own worker has it

    name = "wal_archive"

    def reason(self, connection: Connection, _table: tuple[str, str]) -> str | None:
        """Compare the segment that is being written with the last one archived."""
        if (row := connection.execute(ARCHIVER).fetchone()) is None:
            return None
        segment_bytes, position, archived, failing = row
        last = _last_archived(archived, failing, segment_bytes=segment_bytes)
        if last is None:
            return f"Archiving of {failing} fails; how far the archive is behind is not known." if failing else None
        pending = position // segment_bytes - last
        if pending <= self.max_pending_segments:
            return None
        return f"The archive is {pending} WAL segments behind the server; the limit is {self.max_pending_segments}."


def _last_archived(archived: str | None, failing: str | None, *, segment_bytes: int) -> int | None:
    """Return the number of the last archived segment, or else of the one before the first that fails."""
    last = _segment_number(archived, segment_bytes=segment_bytes)
    if last is None and (first_failing := _segment_number(failing, segment_bytes=segment_bytes)) is not None:
        return first_failing - 1
    return last


def _segment_number(file_name: str | None, *, segment_bytes: int) -> int | None:
    """Return the number of a segment; None for the archive's other files, which say nothing of how far it is.

    The label of a backup bears the name of the segment in which the backup began, maybe long ago.
    """
    if (match := SEGMENT_NAME.fullmatch(file_name or "")) is None:
        return None
    log, segment = (int(digits, 16) for digits in match.groups())
    return log * (BYTES_PER_LOG // segment_bytes) + segment


# --- Replicas -----------------------------------------------------------------------------------------------------

# Whoever receives the log only to store it replays nothing: its lag is that of a replica that hangs, and grows.
WORST_REPLICA = """
    SELECT concat(application_name, ' at ' || host(client_addr)), replay_lag FROM pg_stat_replication
    WHERE replay_lag > make_interval(secs => %s) AND replay_lsn IS NOT NULL
    ORDER BY replay_lag DESC LIMIT 1
"""


@dataclass(frozen=True)
class ReplicaLag:
    """A replica is late. Only a member of pg_monitor sees by how much: for other roles this is silent."""

    max_seconds: float = 10

    name = "replica_lag"

    def reason(self, connection: Connection, _table: tuple[str, str]) -> str | None:
        """Name the replica that is furthest behind; one that has caught up has no lag at all."""
        row = connection.execute(WORST_REPLICA, [self.max_seconds]).fetchone()
        if row is None:
            return None
        replica, lag = row
        return f"Replica {replica} is {lag.total_seconds():.1f} s behind; the limit is {self.max_seconds:g} s."


# --- The table itself ---------------------------------------------------------------------------------------------

# The table and its partitions in whatever schema. pg_partition_tree would lock them, and wait where somebody
# locked one exclusively. The numbers of relations are those of one database; pg_locks shows the locks of all.
RELATIONS = sql.SQL("""
    WITH RECURSIVE relations (database, relation) AS (
        SELECT pg_database.oid, pg_class.oid
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace, pg_database
        WHERE nspname = %(schema)s AND relname = %(table)s AND datname = current_database()
        UNION
        SELECT database, inhrelid FROM pg_inherits JOIN relations ON inhparent = relation
    )
""")
# An ordinary role may see who vacuums but not what, and who locks what. The lock alone would not do: ANALYZE and
# concurrent builds of indexes take it too.
VACUUMED = RELATIONS + sql.SQL("""
    SELECT concat(nspname, '.', relname), pid
    FROM pg_locks JOIN relations USING (database, relation)
    JOIN pg_class ON pg_class.oid = relation JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE mode = 'ShareUpdateExclusiveLock' AND granted AND pid IN (SELECT pid FROM pg_stat_progress_vacuum)
    ORDER BY 1 LIMIT 1
""")
# Who waits for a row waits for the transaction that changed it, and meanwhile holds the row's tuple lock or, not
# being the first, waits for that. Who skips locked rows holds tuple locks for moments too, but does not wait.
WAITERS = RELATIONS + sql.SQL("""
    SELECT count(*) FROM (
        SELECT pid FROM pg_locks LEFT JOIN relations USING (database, relation)
        GROUP BY pid
        HAVING bool_or(NOT granted) AND bool_or(
            relations.relation IS NOT NULL AND (locktype = 'tuple' OR locktype = 'relation' AND NOT granted)
        )
    ) AS waiting
""")


@dataclass(frozen=True)
class Vacuum:
    """A vacuum, the server's own or somebody's, is at work on the table or on one of its partitions."""

    name = "autovacuum"

    def reason(self, connection: Connection, table: tuple[str, str]) -> str | None:
        """Name what is vacuumed and the process that does it."""
        row = connection.execute(VACUUMED, _named(table)).fetchone()
        return f"A vacuum of {row[0]} is at work (process {row[1]})." if row else None


@dataclass(frozen=True)
class LockWaiters:
    """Sessions wait for a lock on the table, on one of its partitions or on a row in them."""

    max_waiters: int = 0

    name = "lock_waiters"

    def reason(self, connection: Connection, table: tuple[str, str]) -> str | None:
        """Count them."""
        (count,) = connection.execute(WAITERS, _named(table)).fetchone() or (0,)
        if count <= self.max_waiters:
            return None
        return (
            f"The number of sessions that wait for a lock on {'.'.join(table)} or its partitions is {count}; "
            f"the limit is {self.max_waiters}."
        )


def _named(table: tuple[str, str]) -> dict[str, str]:
    return {"schema": table[0], "table": table[1]}


# --- Whatever else ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hook:
    """Asks a function of the operator's, with schema.table; a text is its reason, and so is its failure."""

    ask: Callable[[str], str | None]

    name = "hook"

    def reason(self, _connection: Connection, table: tuple[str, str]) -> str | None:
        """Return its answer; where it raises, nobody knows that the work would do no harm."""
        try:
            return self.ask(".".join(table)) or None
        except Exception as error:
            return f"The throttling hook failed: {error!r}."
