"""The one writer of a background migration's status: only legal moves, each with its event, in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import Connection
from psycopg.rows import class_row

from background_migrations import correlation
from background_migrations.events import EventKind
from background_migrations.status import FailureErrorCode, Status, origins

# Whoever waits for work is told on this channel.
CHANNEL = "registry_background_migrations"

# The row is locked before its status is read: a pause that lands in between is never lost. A migration keeps the
# time of its first start; a move away from failed clears the reason. Numbers in queries are those of Status.
TRANSITION = """
    WITH before AS (
        SELECT id, name, status FROM public.batched_background_migrations
        WHERE status = ANY(%(origins)s) AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s))
        ORDER BY id FOR UPDATE
    ),
    moved AS (
        UPDATE public.batched_background_migrations m
        SET status = %(to)s,
            updated_at = clock_timestamp(),
            started_at = coalesce(started_at, CASE WHEN %(to)s = 4 THEN clock_timestamp() END),
            finished_at = CASE WHEN %(to)s = 2 THEN clock_timestamp() END,
            failure_error_code = CASE WHEN %(to)s = 0 THEN failure_error_code ELSE %(code)s END
        FROM before WHERE m.id = before.id
        RETURNING m.id, m.name, before.status AS before
    ),
    told AS (
        INSERT INTO registry_admin.background_migration_events
            (background_migration_id, name, kind, actor, old_status, new_status, reason, correlation_id)
        SELECT id, name, %(kind)s, %(actor)s, before, %(to)s, %(reason)s, %(correlation_id)s FROM moved ORDER BY id
    ),
    woken AS (
        SELECT count(pg_notify(%(channel)s, name)) FROM moved WHERE %(to)s = 1
    )
    SELECT moved.id, moved.name, moved.before FROM moved, woken ORDER BY moved.id
"""


@dataclass(frozen=True)
class Moved:
    """A migration that changed its status, and from which."""

    id: int
    name: str
    before: int


def transition(
    connection: Connection,
    ids: Sequence[int] | None,
    *,
    to: Status,
    actor: str,
    reason: str,
    code: FailureErrorCode | None = None,
    only_from: Sequence[Status] | None = None,
) -> list[Moved]:
    """Move these migrations (None: all) to a status, where they may, and return the ones that moved.

    Part of the open transaction, or one of its own. The others are left as they are: the caller says what that means.
    """
    allowed = [int(status) for status in origins(to) if only_from is None or status in only_from]
    values = {
        "ids": list(ids) if ids is not None else None,
        "origins": allowed,
        "to": int(to),
        "code": code,
        "kind": EventKind.STATUS,
        "actor": actor,
        "reason": reason,
        "channel": CHANNEL,
        "correlation_id": correlation.current(),
    }
    with connection.cursor(row_factory=class_row(Moved)) as cursor:
        return cursor.execute(TRANSITION, values).fetchall()


def ring(connection: Connection, name: str) -> None:
    """Wake whoever waits for work, once the open transaction commits."""
    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, name))
