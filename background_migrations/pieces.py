"""Jobs and the pieces they are worked off in: all SQL that makes, claims and reads them. Decides nothing.

A job is a row of GitLab's table. Its pieces are ours: one, until a time-out splits it. One piece of a job is worked on
at a time: whoever claims it stamps the job's row, and that stamp is the fence against everybody else.
"""

import datetime
import uuid
from dataclasses import dataclass
from typing import Any, cast

from psycopg import Connection
from psycopg.rows import class_row

from background_migrations.batching import Bounds, Target
from background_migrations.meter import Job
from background_migrations.records import MigrationRecord
from background_migrations.status import Status
from background_migrations.work import WorkFunction

DUE = """
    SELECT p.id, p.job_id, p.next_value, p.max_value, p.size, p.sub_batch_size,
        p.attempts, p.claim IS NOT NULL AS abandoned, p.worker,
        p.claim IS NOT NULL AND (p.next_value > p.claimed_value OR p.rows > p.claimed_rows) AS has_moved
    FROM registry_admin.background_migration_job_progress p
    JOIN public.batched_background_migration_jobs j ON j.id = p.job_id
    WHERE p.background_migration_id = %(id)s AND p.finished_at IS NULL AND NOT p.set_aside AND j.status <> 2
      AND CASE
          WHEN p.claim IS NULL THEN coalesce(p.retry_at <= statement_timestamp(), true)
          ELSE p.seen_at <= statement_timestamp() - %(grace)s
      END
      AND NOT EXISTS (
          SELECT FROM registry_admin.background_migration_job_progress o
          WHERE o.job_id = p.job_id AND o.id <> p.id AND o.finished_at IS NULL AND o.claim IS NOT NULL
            AND o.seen_at > statement_timestamp() - %(grace)s
      )
    ORDER BY p.id LIMIT 1 FOR NO KEY UPDATE OF p, j SKIP LOCKED
"""
TAKE = """
    WITH job AS (
        UPDATE public.batched_background_migration_jobs
        SET status = %(unfinished)s, attempts = %(job_attempts)s, updated_at = clock_timestamp()
        WHERE id = %(job_id)s RETURNING updated_at
    )
    UPDATE registry_admin.background_migration_job_progress
    SET claim = %(claim)s, worker = %(worker)s, attempts = %(attempts)s, claimed_value = next_value,
        claimed_rows = rows, claimed_at = clock_timestamp(), seen_at = clock_timestamp(), ended_at = NULL,
        retry_at = NULL
    WHERE id = %(piece_id)s RETURNING (SELECT updated_at FROM job)
"""
CUT = """
    WITH job AS (
        INSERT INTO public.batched_background_migration_jobs
            (batched_background_migration_id, min_value, max_value, status, attempts, started_at, updated_at)
        VALUES (%(id)s, %(min)s, %(max)s, %(unfinished)s, %(job_attempts)s, clock_timestamp(), clock_timestamp())
        RETURNING id, updated_at
    )
    INSERT INTO registry_admin.background_migration_job_progress
        (job_id, background_migration_id, min_value, max_value, next_value, size, sub_batch_size, attempts, claim,
         worker, claimed_at, claimed_value, seen_at)
    SELECT id, %(id)s, %(min)s, %(max)s, %(min)s, %(size)s, %(sub_batch_size)s, 1, %(claim)s, %(worker)s,
        clock_timestamp(), %(min)s, clock_timestamp()
    FROM job RETURNING id, job_id, (SELECT updated_at FROM job)
"""
# No index serves this: it is asked once nothing else is left.
ADOPT = """
    INSERT INTO registry_admin.background_migration_job_progress
        (job_id, background_migration_id, min_value, max_value, next_value, size, sub_batch_size, attempts)
    SELECT id, batched_background_migration_id, min_value, max_value, min_value, %(size)s, %(sub_batch_size)s, attempts
    FROM public.batched_background_migration_jobs j
    WHERE batched_background_migration_id = %(id)s AND status <> 2
      AND NOT EXISTS (SELECT FROM registry_admin.background_migration_job_progress WHERE job_id = j.id)
"""
RECENT = """
    SELECT size, seconds FROM registry_admin.background_migration_job_progress
    WHERE background_migration_id = %(id)s AND ended_at IS NOT NULL AND finished_at IS NOT NULL
    ORDER BY ended_at DESC LIMIT %(jobs)s
"""
# A worker that has shown no sign of life for long may be in the middle of a statement: then its job is locked.
SILENT = """
    SELECT p.background_migration_id, m.name, p.id FROM registry_admin.background_migration_job_progress p
    JOIN public.batched_background_migrations m ON m.id = p.background_migration_id
    JOIN public.batched_background_migration_jobs j ON j.id = p.job_id AND j.status <> 2
    WHERE p.finished_at IS NULL AND p.claim IS NOT NULL AND p.seen_at <= statement_timestamp() - %(grace)s
      AND m.table_name = %(table)s
"""
SILENT_AND_FREE = SILENT + " FOR NO KEY UPDATE OF j SKIP LOCKED"
# Whoever finished these jobs, nobody needs to look at them again.
CLOSE = """
    UPDATE registry_admin.background_migration_job_progress SET claim = NULL, finished_at = clock_timestamp()
    WHERE background_migration_id = %(id)s AND finished_at IS NULL
"""


@dataclass(frozen=True)
class Piece:
    """What is left of a part of a job: the rows from `next_value` to `max_value`, both inclusive."""

    id: int
    job_id: int
    next_value: int
    max_value: int
    size: int  # rows
    sub_batch_size: int  # rows in one transaction; 0: all of them
    attempts: int  # starts that count
    abandoned: bool = False  # its last worker showed no sign of life any more
    worker: str = ""
    has_moved: bool = False  # the attempt that was abandoned had committed something


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A piece that is ours to work on, as long as the token stands beside it."""

    migration: MigrationRecord
    function: WorkFunction
    target: Target
    token: uuid.UUID
    stamp: datetime.datetime  # when the job's row was written at the claim: whoever writes it later has the job
    piece: Piece

    @property
    def job(self) -> Job:
        """What it is called by a meter."""
        return self.migration.job_signature_name, str(self.migration.id)

    @property
    def reference(self) -> tuple[int, str]:
        """The id and name of its migration."""
        return self.migration.id, self.migration.name


@dataclass(frozen=True)
class Holder:
    """Who claims, and how GitLab's table shows the job meanwhile."""

    token: uuid.UUID
    worker: str
    unfinished: Status
    job_attempts: int


def due_piece(connection: Connection, migration_id: int, *, grace: float) -> Piece | None:
    """Return a piece whose time has come or that was abandoned, and lock it and its job."""
    values = {"id": migration_id, "grace": datetime.timedelta(seconds=grace)}
    with connection.cursor(row_factory=class_row(Piece)) as cursor:
        return cursor.execute(DUE, values).fetchone()


def take_piece(connection: Connection, piece: Piece, *, attempts: int, holder: Holder) -> datetime.datetime:
    """Put our token on a piece and return the stamp of its job."""
    values = {
        "piece_id": piece.id,
        "job_id": piece.job_id,
        "attempts": attempts,
        **_holder(holder),
    }
    ((stamp,),) = connection.execute(TAKE, values)
    return cast("datetime.datetime", stamp)


def cut_job(
    connection: Connection, migration_id: int, *, bounds: Bounds, sizes: tuple[int, int], holder: Holder
) -> tuple[Piece, datetime.datetime]:
    """Make the next job, of one piece with our token on it; `sizes` are rows in all and in one transaction."""
    size, sub_batch_size = sizes
    values = {
        "id": migration_id,
        "min": bounds.min_value,
        "max": bounds.max_value,
        "size": size,
        "sub_batch_size": sub_batch_size,
        **_holder(holder),
    }
    ((piece_id, job_id, stamp),) = connection.execute(CUT, values)
    return Piece(piece_id, job_id, bounds.min_value, bounds.max_value, size, sub_batch_size, attempts=1), stamp


def adopt_jobs(connection: Connection, migration_id: int, *, size: int, sub_batch_size: int) -> int:
    """Make pieces of unfinished jobs that have none, which GitLab's worker cut; return how many."""
    values = {"id": migration_id, "size": size, "sub_batch_size": sub_batch_size}
    return connection.execute(ADOPT, values).rowcount


def recent_jobs(connection: Connection, migration_id: int, *, jobs: int) -> list[tuple[int, float]]:
    """Return rows and seconds of the last finished pieces, oldest first."""
    found = connection.execute(RECENT, {"id": migration_id, "jobs": jobs}).fetchall()
    return [(size, seconds) for size, seconds in reversed(found)]


def close_pieces(connection: Connection, migration_id: int) -> None:
    """Let go of what is left of a migration that is finished."""
    connection.execute(CLOSE, {"id": migration_id})


def locked_though_silent(connection: Connection, table: str, *, grace: float) -> list[tuple[int, str]]:
    """Return the migration (id and name) of each claim on this table that is being worked on without a sign of life."""
    values = {"table": table, "grace": datetime.timedelta(seconds=grace)}
    free = {piece_id for _, _, piece_id in connection.execute(SILENT_AND_FREE, values)}
    silent = connection.execute(SILENT, values).fetchall()
    return [(migration_id, name) for migration_id, name, piece_id in silent if piece_id not in free]


def _holder(holder: Holder) -> dict[str, Any]:
    return {
        "claim": holder.token,
        "worker": holder.worker,
        "unfinished": int(holder.unfinished),
        "job_attempts": holder.job_attempts,
    }
