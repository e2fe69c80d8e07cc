"""The advisory locks, all of them of one transaction: a pooler may give the next one another session."""

from psycopg import Connection

# GitLab's worker holds this key exclusively while it cuts or works; sharing it keeps theirs and ours apart.
GITLAB_KEY = 1
# Two-part keys are apart from that one. The first part spells "REGT", the second is made of a table's name: one
# transaction at a time decides who works on a table.
TABLE_CLASS = 0x52454754

LIMITS = """
    SELECT pg_try_advisory_xact_lock_shared(%(key)s),
        set_config('lock_timeout', %(lock_timeout)s, true),
        set_config('statement_timeout', %(statement_timeout)s, true),
        set_config('idle_in_transaction_session_timeout', %(idle_timeout)s, true),
        set_config('synchronous_commit', coalesce(%(durability)s, current_setting('synchronous_commit')), true)
"""


def begin_work(
    connection: Connection,
    *,
    lock_timeout: float,
    statement_timeout: float,
    idle_timeout: float | None = None,
    durable: bool = True,
) -> bool:
    """Set the time-outs (seconds, 0: none) of the open transaction and share GitLab's key; False: GitLab has it.

    A process that freezes between two statements loses its session, and so its locks, after `idle_timeout`, by
    default as long as a statement may take. What is not `durable` may be lost when the server crashes, if nothing
    durable commits after it.
    """
    row = connection.execute(
        LIMITS,
        {
            "key": GITLAB_KEY,
            "lock_timeout": _milliseconds(lock_timeout),
            "statement_timeout": _milliseconds(statement_timeout),
            "idle_timeout": _milliseconds(statement_timeout if idle_timeout is None else idle_timeout),
            "durability": None if durable else "off",
        },
    ).fetchone()
    return bool(row and row[0])


def limit_statements(connection: Connection, *, seconds: float, session: bool = False) -> None:
    """Let no statement of the open transaction, or of the session from now on, take longer; 0 is no end."""
    connection.execute("SELECT set_config('statement_timeout', %s, %s)", (_milliseconds(seconds), not session))


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1_000))
