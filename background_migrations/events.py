"""What happened, when, and by whose hand: one row in our own table for each thing worth telling an operator."""

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
    kind: str,
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
