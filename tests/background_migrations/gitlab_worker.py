"""GitLab's own asynchronous worker, modelled: which migration and job it takes, and what it then writes.

Of its checks of a migration it has those that leave the migration as it is; a missing table or column is not modelled.
"""

import enum
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass

from psycopg import Connection, sql
from psycopg.rows import namedtuple_row

MAX_ATTEMPTS = 5
NULL_STRATEGY = "NullKeySetBatchingStrategy"

NEXT_MIGRATION = """
    SELECT id, name, min_value, max_value, batch_size, job_signature_name, table_name, column_name, batching_strategy
    FROM batched_background_migrations WHERE status IN (1, 4) ORDER BY status DESC, id LIMIT 1
"""
JOB_AT_THE_END = """
    SELECT id FROM batched_background_migration_jobs
    WHERE batched_background_migration_id = %s AND max_value = %s LIMIT 1
"""
FIRST_FAILED_JOB = """
    SELECT id, min_value, max_value, attempts FROM batched_background_migration_jobs
    WHERE batched_background_migration_id = %s AND status = 3 ORDER BY id LIMIT 1
"""
LAST_JOB = """
    SELECT max_value FROM batched_background_migration_jobs
    WHERE batched_background_migration_id = %s ORDER BY id DESC LIMIT 1
"""
BATCH_END = sql.SQL("""
    SELECT {column} FROM {table} WHERE {column} BETWEEN %s AND %s ORDER BY {column} OFFSET %s LIMIT 1
""")
ANY_NULL = sql.SQL("SELECT EXISTS (SELECT FROM {table} WHERE {column} IS NULL)")
HAS_NULL_INDEX = """
    SELECT EXISTS (
        SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
        WHERE indrelid = %(table)s::regclass AND attname = %(column)s
          AND pg_get_expr(indpred, indrelid) = format('(%%I IS NULL)', %(column)s::text)
    )
"""

RUN_MIGRATION = """
    UPDATE batched_background_migrations SET status = 4, started_at = now(), updated_at = now() WHERE id = %s
"""
FINISH_MIGRATION = """
    UPDATE batched_background_migrations SET status = 2, finished_at = now(), updated_at = now() WHERE id = %s
"""
FAIL_MIGRATION = """
    UPDATE batched_background_migrations SET status = 3, failure_error_code = 4, updated_at = now() WHERE id = %s
"""
ADD_JOB = """
    INSERT INTO batched_background_migration_jobs (batched_background_migration_id, min_value, max_value, started_at)
    VALUES (%s, %s, %s, now()) RETURNING id
"""
COUNT_ATTEMPT = "UPDATE batched_background_migration_jobs SET attempts = attempts + 1 WHERE id = %s"
FINISH_JOB = """
    UPDATE batched_background_migration_jobs SET status = 2, finished_at = now(), updated_at = now() WHERE id = %s
"""
FAIL_JOB = """
    UPDATE batched_background_migration_jobs SET status = 3, failure_error_code = 0, updated_at = now() WHERE id = %s
"""


class Kind(enum.Enum):
    """What it does in one run."""

    BUSY = "somebody else has the lock"
    NOTHING = "there is no migration, or no batch left to cut and no end reached"
    STUCK = "it does not know the function or the strategy, or the index is missing: an error, nothing is stored"
    CUT = "run the next batch"
    RETRY = "run a failed job again"
    FINISH = "call the migration finished"
    FAIL = "call the migration failed, as a job had all its attempts"


@dataclass(frozen=True)
class Work:
    """What its work function is given."""

    table: tuple[str, str]
    column: str
    min_value: int
    max_value: int
    limit: int
    null_strategy: bool


@dataclass(frozen=True)
class Decision:
    """What it does, and with what."""

    kind: Kind
    migration_id: int | None = None
    work: Work | None = None
    job_id: int | None = None  # of a job that is there already


def decide(connection: Connection, *, known: Collection[str]) -> Decision:
    """Say what the worker would do now; change nothing."""
    with connection.transaction(force_rollback=True):
        return _decide(connection, known) if _lock(connection) else Decision(Kind.BUSY)


def run_once(
    connect: Callable[[], Connection], run: Callable[[Connection, Work], object], *, known: Collection[str]
) -> Decision:
    """Do it: the bookkeeping in one transaction, the work in another session, which commits before it.

    An Exception of the work fails the job. What is no Exception is the worker's death: its bookkeeping is lost.
    """
    with closing(connect()) as connection, connection.transaction():
        if not _lock(connection):
            return Decision(Kind.BUSY)
        decision = _decide(connection, known)
        if decision.kind is Kind.FINISH:
            connection.execute(FINISH_MIGRATION, (decision.migration_id,))
        elif decision.kind is Kind.FAIL:
            connection.execute(FAIL_MIGRATION, (decision.migration_id,))
        elif decision.work is not None:
            _execute(connection, decision, connect, run)
        return decision


def _lock(connection: Connection) -> bool:
    return bool(connection.execute("SELECT pg_try_advisory_xact_lock(1)").fetchone()[0])


def _decide(connection: Connection, known: Collection[str]) -> Decision:
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        migration = cursor.execute(NEXT_MIGRATION).fetchone()
        if migration is None:
            return Decision(Kind.NOTHING)
        if migration.job_signature_name not in known or migration.batching_strategy not in {None, NULL_STRATEGY}:
            return Decision(Kind.STUCK, migration.id)
        choose = _choose_nulls if migration.batching_strategy else _choose_keyset
        return choose(cursor, migration)


def _choose_keyset(cursor, migration) -> Decision:
    if cursor.execute(JOB_AT_THE_END, (migration.id, migration.max_value)).fetchone() is None:
        last = cursor.execute(LAST_JOB, (migration.id,)).fetchone()
        start = migration.min_value if last is None else last.max_value + 1
        if start > migration.max_value:
            return Decision(Kind.NOTHING, migration.id)
        return Decision(Kind.CUT, migration.id, _work(migration, start, _end(cursor, migration, start)))
    failed = cursor.execute(FIRST_FAILED_JOB, (migration.id,)).fetchone()
    if failed is None:
        return Decision(Kind.FINISH, migration.id)
    if failed.attempts >= MAX_ATTEMPTS:
        return Decision(Kind.FAIL, migration.id, job_id=failed.id)
    return Decision(Kind.RETRY, migration.id, _work(migration, failed.min_value, failed.max_value), failed.id)


def _end(cursor, migration, start: int) -> int:
    if start + migration.batch_size >= migration.max_value:
        return migration.max_value
    query = BATCH_END.format(**_names(migration))
    row = cursor.execute(query, (start, migration.max_value, migration.batch_size - 1)).fetchone()
    return migration.max_value if row is None else row[0]


def _choose_nulls(cursor, migration) -> Decision:
    names = {"table": migration.table_name, "column": migration.column_name}
    if not cursor.execute(HAS_NULL_INDEX, names).fetchone()[0]:
        return Decision(Kind.STUCK, migration.id)
    if cursor.execute(ANY_NULL.format(**_names(migration))).fetchone()[0]:
        return Decision(Kind.CUT, migration.id, _work(migration, 0, 0))
    return Decision(Kind.FINISH, migration.id)


def _names(migration) -> dict[str, sql.Identifier]:
    table = sql.Identifier(*migration.table_name.split("."))
    return {"table": table, "column": sql.Identifier(migration.column_name)}


def _work(migration, min_value: int, max_value: int) -> Work:
    table = tuple(migration.table_name.split("."))
    null_strategy = migration.batching_strategy is not None
    return Work(table, migration.column_name, min_value, max_value, migration.batch_size, null_strategy)


def _execute(connection, decision, connect, run) -> None:
    connection.execute(RUN_MIGRATION, (decision.migration_id,))
    job_id = decision.job_id
    if job_id is None:
        bounds = (decision.work.min_value, decision.work.max_value)
        ((job_id,),) = connection.execute(ADD_JOB, (decision.migration_id, *bounds))
    connection.execute(COUNT_ATTEMPT, (job_id,))
    try:
        with closing(connect()) as working:
            run(working, decision.work)
    except Exception:
        connection.execute(FAIL_JOB, (job_id,))
    else:
        connection.execute(FINISH_JOB, (job_id,))
