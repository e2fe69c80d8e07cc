"""What happened, when, and by whose hand: one row in our own table for each thing worth telling an operator."""

import enum
from dataclasses import dataclass

from psycopg import Connection

from background_migrations import correlation

LONGEST_REASON = 2_000  # characters; a statement in an error text may be of any length

ADD = """
    INSERT INTO registry_admin.background_migration_events
        (background_migration_id, name, job_id, kind, actor, reason, error_class, sqlstate, correlation_id)
    VALUES (%(migration_id)s, %(name)s, %(job_id)s, %(kind)s, %(actor)s, %(reason)s, %(error_class)s, %(sqlstate)s,
        %(correlation_id)s)
"""


class EventKind(enum.StrEnum):
    """What an event tells of."""

    QUEUED = "queued"  # an operator queued the migration
    STATUS = "status"  # the migration moved to another status; old and new one are in the row
    CONTROLS = "controls"  # somebody changed controls; the reason says from what to what
    RETRY = "retry"  # somebody gave its failed jobs new attempts
    JOB_FAILED = "job_failed"  # an attempt failed; the job is tried again
    JOB_SPLIT = "job_split"  # a job timed out in its last attempt and was cut in two, each half with new attempts
    JOB_SET_ASIDE = "job_set_aside"  # a job failed in its last attempt, or took its worker along each time
    JOB_ABANDONED = "job_abandoned"  # a job was taken from a worker that showed no sign of life any more


@dataclass(frozen=True)
class Fault:
    """An error as it is kept: its class, its text, and its SQLSTATE when it came from the server."""

    error_class: str
    text: str
    sqlstate: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Fault":
        """Describe an exception."""
        text = " ".join(str(error).split())[:LONGEST_REASON]
        return cls(type(error).__name__, text, getattr(error, "sqlstate", None) or "")


def add(
    connection: Connection,
    kind: EventKind,
    *,
    migration: tuple[int, str],
    actor: str,
    job_id: int | None = None,
    reason: str = "",
    fault: Fault | None = None,
) -> None:
    """Write down one event of a migration (its id and name); part of the open transaction."""
    values = {
        "migration_id": migration[0],
        "name": migration[1],
        "job_id": job_id,
        "kind": kind,
        "actor": actor,
        "reason": reason or (fault.text if fault else ""),
        "error_class": fault.error_class if fault else "",
        "sqlstate": fault.sqlstate if fault else "",
        "correlation_id": correlation.current(),
    }
    connection.execute(ADD, values)
