"""How a background migration stands, read in one statement while its row is locked: what runs, waits, is left."""

import datetime
from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from background_migrations.records import MigrationRecord, Rules
from background_migrations.work import WorkFunction

# The stable statement_timestamp() keeps the index on ended_at usable, which clock_timestamp() would not.
SITUATION = """
    WITH unfinished AS (
        SELECT p.*, p.claim IS NOT NULL AND p.seen_at > statement_timestamp() - %(grace)s AS live
        FROM registry_admin.background_migration_job_progress p
        JOIN public.batched_background_migration_jobs j ON j.id = p.job_id AND j.status <> 2
        WHERE p.background_migration_id = %(id)s AND p.finished_at IS NULL
    )
    SELECT
        (
            SELECT max_value FROM public.batched_background_migration_jobs
            WHERE batched_background_migration_id = %(id)s ORDER BY id DESC LIMIT 1
        ) AS last_value,
        (SELECT count(*) FROM unfinished WHERE live) AS live,
        (SELECT count(*) FROM unfinished WHERE NOT set_aside AND NOT live) AS waiting,
        (SELECT count(*) FROM unfinished WHERE set_aside) AS set_aside,
        (
            SELECT extract(epoch FROM min(CASE WHEN claim IS NULL THEN retry_at ELSE seen_at + %(grace)s END)
                - statement_timestamp())::float8
            FROM unfinished WHERE NOT set_aside AND NOT live
        ) AS due_in,
        (
            SELECT count(*) FROM registry_admin.background_migration_job_progress p
            JOIN public.batched_background_migrations o ON o.id = p.background_migration_id
            WHERE p.finished_at IS NULL AND p.claim IS NOT NULL AND p.seen_at <= statement_timestamp() - %(grace)s
              AND o.table_name = %(table)s
        ) AS silent_on_table,
        to_jsonb(c) AS controls,
        cooling.jobs AS cooling,
        cooling.free_in,
        (
            SELECT min(o.name) FROM registry_admin.background_migration_job_progress p
            JOIN public.batched_background_migrations o ON o.id = p.background_migration_id
            WHERE p.finished_at IS NULL AND p.claim IS NOT NULL AND p.seen_at > statement_timestamp() - %(grace)s
              AND o.id <> %(id)s AND o.table_name = %(table)s
        ) AS table_taken_by
    FROM (VALUES (%(id)s::bigint)) AS migration (id)
    LEFT JOIN registry_admin.background_migration_controls c ON c.background_migration_id = migration.id,
    LATERAL (
        SELECT CASE WHEN %(paced)s THEN coalesce(c.interval_seconds * interval '1 s', %(interval)s)
            ELSE interval '0' END AS pause
    ) AS paced,
    LATERAL (
        SELECT count(*) AS jobs, extract(epoch FROM min(ended_at) + pause - statement_timestamp())::float8 AS free_in
        FROM registry_admin.background_migration_job_progress
        WHERE background_migration_id = migration.id AND ended_at > statement_timestamp() - pause
    ) AS cooling
"""
HOLD = "SELECT extract(epoch FROM %s::timestamptz - statement_timestamp())::float8"


@dataclass(frozen=True)
class Situation:
    """Pieces of jobs that are being worked on, that wait, that had their last attempt; and who is in the way."""

    last_value: int | None  # where the newest job ends
    live: int  # claimed, with a recent sign of life
    waiting: int  # for their time, or abandoned
    set_aside: int
    due_in: float | None  # seconds until the first waiting one is due
    silent_on_table: int  # claims without a sign of life: abandoned, or in the middle of a statement
    controls: dict[str, Any] | None  # as JSON of their row; newer than what was read with the lock
    cooling: int  # ended less than an interval ago, each still holding its place
    free_in: float | None  # seconds until the first of these places is free
    table_taken_by: str | None  # another migration that works on the same table now


def read_situation(
    connection: Connection, migration: MigrationRecord, *, function: WorkFunction, rules: Rules
) -> Situation:
    """Return how this migration stands."""
    values = {
        "id": migration.id,
        "table": migration.table_name,
        "grace": datetime.timedelta(seconds=rules.grace),
        "interval": datetime.timedelta(seconds=rules.default_interval(function)),
        "paced": rules.paced,
    }
    with connection.cursor(row_factory=class_row(Situation)) as cursor:
        (found,) = cursor.execute(SITUATION, values)
    return found


def held_for(connection: Connection, migration: MigrationRecord) -> float:
    """Return the seconds until the end of the hold that an operator set; 0 or less when there is none."""
    if migration.controls.hold_until is None:
        return 0.0
    ((seconds,),) = connection.execute(HOLD, (migration.controls.hold_until,))
    return float(seconds)
