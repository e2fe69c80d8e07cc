"""What became of a claimed piece, written down: progress, end, release, failure. Each needs the claim still to hold.

All of it is part of the open transaction of whoever calls.
"""

import datetime
from dataclasses import dataclass

from psycopg import Connection

from background_migrations import events
from background_migrations.errors import ClaimLostError, InvalidColumnError, InvalidTableError
from background_migrations.events import EventKind, Fault
from background_migrations.pacing import retry_pause
from background_migrations.pieces import Claim, Piece
from background_migrations.records import MigrationRecord, Rules
from background_migrations.status import FailureErrorCode, Status
from background_migrations.throttling import Throttled
from background_migrations.transitions import transition

EARLY_FAILURE_JOBS = 50  # with fewer, chance decides

# The lock on the job keeps everybody else from claiming it, and after a wait for it the server looks at the newest
# version of the job's row: its stamp decides. The piece's row stays free for heartbeats.
FENCE = """
    SELECT m.status FROM public.batched_background_migration_jobs j
    JOIN registry_admin.background_migration_job_progress p ON p.job_id = j.id
    JOIN public.batched_background_migrations m ON m.id = j.batched_background_migration_id
    WHERE j.id = %(job_id)s AND j.updated_at = %(stamp)s AND j.attempts = %(job_attempts)s AND j.status <> 2
      AND p.id = %(piece_id)s AND p.claim = %(token)s
    FOR NO KEY UPDATE OF j
"""
ADVANCE = """
    UPDATE registry_admin.background_migration_job_progress
    SET next_value = %(next_value)s, rows = rows + %(rows)s, seconds = seconds + %(seconds)s,
        seen_at = clock_timestamp()
    WHERE id = %(piece_id)s AND claim = %(token)s
"""
FINISH = """
    WITH piece AS (
        UPDATE registry_admin.background_migration_job_progress
        SET rows = rows + %(rows)s, seconds = seconds + %(seconds)s, claim = NULL, seen_at = clock_timestamp(),
            ended_at = clock_timestamp(), finished_at = clock_timestamp()
        WHERE id = %(piece_id)s AND claim = %(token)s RETURNING id
    ),
    job AS (
        UPDATE public.batched_background_migration_jobs
        SET status = 2, finished_at = clock_timestamp(), updated_at = clock_timestamp(), failure_error_code = NULL
        WHERE id = %(job_id)s AND NOT EXISTS (
            SELECT FROM registry_admin.background_migration_job_progress o
            WHERE o.job_id = %(job_id)s AND o.id <> %(piece_id)s AND o.finished_at IS NULL
        )
    )
    SELECT FROM piece
"""
RELEASE = """
    WITH piece AS (
        UPDATE registry_admin.background_migration_job_progress
        SET claim = NULL, attempts = %(attempts)s, seen_at = clock_timestamp(),
            retry_at = clock_timestamp() + %(pause)s
        WHERE id = %(piece_id)s
    )
    UPDATE public.batched_background_migration_jobs SET attempts = %(job_attempts)s, updated_at = clock_timestamp()
    WHERE id = %(job_id)s
"""
LET_GO = """
    UPDATE registry_admin.background_migration_job_progress SET claim = NULL
    WHERE id = %(piece_id)s AND claim = %(token)s
"""
FAIL = """
    WITH piece AS (
        UPDATE registry_admin.background_migration_job_progress
        SET claim = NULL, ended_at = clock_timestamp(), retry_at = clock_timestamp() + %(pause)s,
            set_aside = %(set_aside)s, attempts = %(attempts)s, max_value = %(max_value)s, size = %(size)s,
            sub_batch_size = %(sub_batch_size)s
        WHERE id = %(piece_id)s
    )
    UPDATE public.batched_background_migration_jobs
    SET status = 3, failure_error_code = %(code)s, attempts = %(job_attempts)s, updated_at = clock_timestamp()
    WHERE id = %(job_id)s
"""
SPLIT_OFF = """
    INSERT INTO registry_admin.background_migration_job_progress
        (job_id, background_migration_id, min_value, max_value, next_value, size, sub_batch_size, attempts)
    SELECT job_id, background_migration_id, %(start)s, max_value, %(start)s, %(size)s, %(sub_batch_size)s, 0
    FROM registry_admin.background_migration_job_progress WHERE id = %(piece_id)s
"""
FAILED_JOBS = """
    SELECT count(DISTINCT p.job_id) FROM registry_admin.background_migration_job_progress p
    JOIN public.batched_background_migration_jobs j ON j.id = p.job_id AND j.failure_error_code IS NOT NULL
    WHERE p.background_migration_id = %(id)s AND p.finished_at IS NULL
"""
ALL_JOBS = (
    "SELECT count(*) FROM public.batched_background_migration_jobs WHERE batched_background_migration_id = %(id)s"
)
RESET = """
    WITH pieces AS (
        UPDATE registry_admin.background_migration_job_progress
        SET attempts = 0, set_aside = false, retry_at = NULL
        WHERE background_migration_id = %(id)s AND finished_at IS NULL
          AND (claim IS NULL OR seen_at <= statement_timestamp() - %(grace)s)
    )
    UPDATE public.batched_background_migration_jobs j
    SET attempts = 0, failure_error_code = NULL, updated_at = clock_timestamp()
    WHERE batched_background_migration_id = %(id)s AND status <> 2 AND (failure_error_code IS NOT NULL OR attempts > 0)
      AND NOT EXISTS (
          SELECT FROM registry_admin.background_migration_job_progress p
          WHERE p.job_id = j.id AND p.finished_at IS NULL AND p.claim IS NOT NULL
            AND p.seen_at > statement_timestamp() - %(grace)s
      )
    RETURNING id
"""
NOTE_THROTTLED = """
    INSERT INTO registry_admin.background_migration_controls
        (background_migration_id, throttled_by, throttled_reason, throttled_at)
    VALUES (%(id)s, %(signal)s, %(reason)s, clock_timestamp())
    ON CONFLICT (background_migration_id) DO UPDATE SET throttled_by = excluded.throttled_by,
        throttled_reason = excluded.throttled_reason, throttled_at = excluded.throttled_at
"""


@dataclass(frozen=True)
class Half:
    """Where a piece is cut in two: the first ends at `end`, the second starts behind it; `size` rows each, at most."""

    end: int
    size: int
    sub_batch_size: int


def holds(connection: Connection, claim: Claim, *, rules: Rules) -> Status | None:
    """Lock the claimed job and return its migration's status; None when the claim is not ours any more."""
    values = {
        "token": claim.token,
        "stamp": claim.stamp,
        "job_attempts": rules.job_attempts(claim.piece.attempts),
        **_ids(claim.piece),
    }
    row = connection.execute(FENCE, values).fetchone()
    return Status(row[0]) if row else None


def advance(connection: Connection, claim: Claim, *, next_value: int, rows: int, seconds: float) -> None:
    """Record a sub-batch. Raises ClaimLostError, which takes the sub-batch back."""
    values = {"next_value": next_value, "rows": rows, "seconds": seconds, "token": claim.token, **_ids(claim.piece)}
    if connection.execute(ADVANCE, values).rowcount != 1:
        raise ClaimLostError(claim.piece.job_id)


def finish(connection: Connection, claim: Claim, *, rows: int, seconds: float) -> None:
    """Record the last sub-batch of a piece; with the last piece its job is finished and has no failure any more.

    Raises ClaimLostError, which takes the sub-batch back.
    """
    values = {"rows": rows, "seconds": seconds, "token": claim.token, **_ids(claim.piece)}
    if connection.execute(FINISH, values).rowcount != 1:
        raise ClaimLostError(claim.piece.job_id)


def release(connection: Connection, claim: Claim, *, rules: Rules, pause: float = 0.0) -> None:
    """Give a piece back without counting the attempt: somebody may go on with it after the pause, in seconds."""
    counted = not claim.piece.has_moved  # see Turn: a piece that had moved was taken without counting
    attempts = claim.piece.attempts - counted
    values = {
        "attempts": attempts,
        "job_attempts": rules.job_attempts(attempts),
        "pause": datetime.timedelta(seconds=pause),
        **_ids(claim.piece),
    }
    connection.execute(RELEASE, values)


def let_go(connection: Connection, claim: Claim) -> None:
    """Take our token off a piece whose job somebody else has written: nobody needs to wait for us."""
    connection.execute(LET_GO, {"token": claim.token, **_ids(claim.piece)})


def fail(
    connection: Connection, claim: Claim, *, fault: Fault, exhausted: bool, half: Half | None, rules: Rules
) -> str:
    """Record a failed attempt: the piece waits for the next one, is cut in two, or is set aside; return which."""
    piece = claim.piece
    kind = EventKind.JOB_SPLIT if half else EventKind.JOB_SET_ASIDE if exhausted else EventKind.JOB_FAILED
    attempts = 0 if half else piece.attempts
    values = {
        "pause": datetime.timedelta(seconds=retry_pause(piece.attempts)),
        "set_aside": exhausted and half is None,
        "attempts": attempts,
        "job_attempts": attempts if exhausted else rules.job_attempts(attempts),
        "max_value": half.end if half else piece.max_value,
        "size": half.size if half else piece.size,
        "sub_batch_size": half.sub_batch_size if half else piece.sub_batch_size,
        "code": int(FailureErrorCode.UNKNOWN),
        **_ids(piece),
    }
    if half is not None and half.end < piece.max_value:
        second = {"start": half.end + 1, "size": half.size, "sub_batch_size": half.sub_batch_size, **_ids(piece)}
        connection.execute(SPLIT_OFF, second)
    connection.execute(FAIL, values)
    events.add(connection, kind, migration=claim.reference, actor=rules.actor, job_id=piece.job_id, fault=fault)
    return kind


def fail_early(connection: Connection, migration: MigrationRecord, *, actor: str) -> str:
    """Fail a migration of which more than half of its jobs, at least 50, have failed and not succeeded since.

    Return why, if it failed now.
    """
    values = {"id": migration.id}
    ((failed,),) = connection.execute(FAILED_JOBS, values)
    if failed * 2 <= EARLY_FAILURE_JOBS:
        return ""
    ((jobs,),) = connection.execute(ALL_JOBS, values)
    if jobs < EARLY_FAILURE_JOBS or failed * 2 <= jobs:
        return ""
    reason = f"{failed} of its first {jobs} jobs failed"
    code = FailureErrorCode.UNKNOWN
    moved = transition(connection, [migration.id], to=Status.FAILED, actor=actor, reason=reason, code=code)
    return reason if moved else ""


def fail_for_target(
    connection: Connection,
    migration: MigrationRecord,
    error: InvalidTableError | InvalidColumnError,
    *,
    actor: str,
) -> str:
    """Fail a migration whose table or one of its columns is not there; return why, if it failed now."""
    is_table = isinstance(error, InvalidTableError)
    code = FailureErrorCode.INVALID_BBM_TABLE if is_table else FailureErrorCode.INVALID_BBM_COLUMN
    moved = transition(connection, [migration.id], to=Status.FAILED, actor=actor, reason=str(error), code=code)
    return str(error) if moved else ""


def give_up_abandoned(connection: Connection, migration: MigrationRecord, *, piece: Piece, actor: str) -> None:
    """Set a piece aside whose every worker vanished."""
    values = {
        "pause": datetime.timedelta(),
        "set_aside": True,
        "attempts": piece.attempts,
        "job_attempts": piece.attempts,
        "max_value": piece.max_value,
        "size": piece.size,
        "sub_batch_size": piece.sub_batch_size,
        "code": int(FailureErrorCode.UNKNOWN),
        **_ids(piece),
    }
    connection.execute(FAIL, values)
    reason = f"{_vanished(piece)} in attempt {piece.attempts}, the last one"
    reference = (migration.id, migration.name)
    kind = EventKind.JOB_SET_ASIDE
    events.add(connection, kind, migration=reference, actor=actor, job_id=piece.job_id, reason=reason)


def tell_abandoned(connection: Connection, migration: MigrationRecord, *, piece: Piece, actor: str) -> None:
    """Write down that a piece was taken from a worker that vanished."""
    reference, kind = (migration.id, migration.name), EventKind.JOB_ABANDONED
    events.add(connection, kind, migration=reference, actor=actor, job_id=piece.job_id, reason=_vanished(piece))


def reset_attempts(connection: Connection, migration_id: int, *, grace: float) -> int:
    """Give the jobs of a migration that failed or were abandoned new attempts, at once; return how many jobs.

    The caller holds the migration's row lock: nothing is claimed meanwhile.
    """
    return connection.execute(RESET, {"id": migration_id, "grace": datetime.timedelta(seconds=grace)}).rowcount


def note_throttled(connection: Connection, migration: MigrationRecord, throttled: Throttled | None) -> None:
    """Write down what keeps a migration from running now, or that nothing does; silent when nothing changed."""
    signal, reason = (throttled.signal, throttled.reason) if throttled else ("", "")
    if (signal, reason) != (migration.controls.throttled_by, migration.controls.throttled_reason):
        connection.execute(NOTE_THROTTLED, {"id": migration.id, "signal": signal, "reason": reason})


def _ids(piece: Piece) -> dict[str, int]:
    return {"piece_id": piece.id, "job_id": piece.job_id}


def _vanished(piece: Piece) -> str:
    return f"worker {piece.worker} showed no sign of life any more"
