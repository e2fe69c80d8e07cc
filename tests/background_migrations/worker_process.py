"""A worker in a process of its own, with the tests' work functions: it works on DATABASE_URL until SIGTERM.

`manage.py` cannot run these, as its work functions are a fixed list.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import LiteralString

import psycopg
import structlog
from psycopg import Connection, Cursor, sql

from background_migrations import pacing
from background_migrations.batching import Batch
from background_migrations.pieces import Claim
from background_migrations.records import Rules
from background_migrations.work import WorkContext, WorkFunction
from background_migrations.worker import Worker

Process = subprocess.Popen[bytes]
CHECKOUT = Path(__file__).parents[2]
GATE = 4711  # an advisory lock: while a test holds it, sub-batches stay where they are
POISON = 550  # the row whose batch kills its worker

INCREMENT: LiteralString = "UPDATE {table} SET hits = hits + 1 WHERE {column} BETWEEN %(first)s AND %(last)s"
INCREMENT_NULLS: LiteralString = """
    WITH picked AS MATERIALIZED (
        SELECT id FROM {table} WHERE {column} IS NULL LIMIT %(size)s FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE {table} AS t SET hits = hits + 1, {column} = t.id FROM picked WHERE t.id = picked.id
"""
# What the functions that note write down. A sub-batch that rolls back leaves no trace.
NOTES = """
    CREATE SCHEMA far;
    CREATE TABLE far.notes (migration text, first bigint, began timestamptz, ended timestamptz, process integer)
"""
NOTE = """
    INSERT INTO far.notes
    VALUES (%s, %s, statement_timestamp(), statement_timestamp() + make_interval(secs => %s), %s)
"""
NOTED_SECONDS = 0.02
SLOW_SECONDS = 0.01


def increment(cursor: Cursor, batch: Batch, _context: WorkContext) -> int:
    """Add 1 in every row of the batch: doing it twice shows."""
    statement = INCREMENT_NULLS if batch.null_strategy else INCREMENT
    query = sql.SQL(statement).format(table=sql.Identifier(*batch.table), column=sql.Identifier(batch.column))
    return cursor.execute(query, {"first": batch.min_value, "last": batch.max_value, "size": batch.size}).rowcount


def increment_slowly(cursor: Cursor, batch: Batch, context: WorkContext) -> int:
    """Take so long that a kill finds it in the middle of a transaction."""
    rows = increment(cursor, batch, context)
    cursor.execute("SELECT pg_sleep(%s)", (SLOW_SECONDS,))
    return rows


def increment_and_note(cursor: Cursor, batch: Batch, context: WorkContext) -> int:
    """Write down where the batch begins, and a span of time in which it certainly is at work."""
    rows = increment(cursor, batch, context)
    cursor.execute(NOTE, (context.migration_name, batch.min_value, NOTED_SECONDS, os.getpid()))
    cursor.execute("SELECT pg_sleep(%s)", (NOTED_SECONDS,))
    return rows


def increment_at_the_gate(cursor: Cursor, batch: Batch, context: WorkContext) -> int:
    """Stay before the end of the sub-batch while a test holds the gate."""
    rows = increment_and_note(cursor, batch, context)
    cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", (GATE,))
    return rows


def increment_or_die(cursor: Cursor, batch: Batch, context: WorkContext) -> int:
    """Kill this process in the middle of one certain batch."""
    rows = increment(cursor, batch, context)
    if batch.min_value <= POISON <= batch.max_value:
        os.kill(os.getpid(), signal.SIGKILL)
    return rows


FUNCTIONS: Mapping[str, WorkFunction] = {
    function.__name__: WorkFunction(run=function)
    for function in (increment, increment_slowly, increment_and_note, increment_at_the_gate, increment_or_die)
}


def start(
    url: str,
    *,
    threads: int = 1,
    grace: float = 5.0,
    stop_seconds: float = 10.0,
    idle_seconds: float | None = None,
    once: bool = False,
    max_attempts: int = 5,
    rest_seconds: float = 0.0,
    stdout: int = subprocess.DEVNULL,
) -> Process:
    """Start this program on a database.

    `idle_seconds` is about how long it waits when it finds nothing to do, `rest_seconds` how long after a sub-batch.
    """
    arguments = {
        "--threads": threads,
        "--grace": grace,
        "--stop-seconds": stop_seconds,
        "--idle-seconds": idle_seconds,
        "--max-attempts": max_attempts,
        "--rest-seconds": rest_seconds,
    }
    given = [f"{name}={value}" for name, value in arguments.items() if value is not None]
    return subprocess.Popen(
        [sys.executable, "-m", __name__, *given, *(["--once"] if once else [])],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": url},
        stdout=stdout,
    )


def main() -> int:
    """Work until told to stop; 0 when every thread came to its end."""
    arguments = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if arguments.idle_seconds is not None:
        pacing.IDLE_FIRST_SECONDS = pacing.IDLE_LONGEST_SECONDS = arguments.idle_seconds
    name = f"worker process {os.getpid()}"

    def connect() -> Connection:
        return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, application_name=name)

    def rest(_claim: Claim, *, rows: int) -> None:
        if rows:
            time.sleep(arguments.rest_seconds)

    worker = Worker(
        connect={"registry": connect},
        functions=FUNCTIONS,
        rules=Rules(actor=name, interval=0.0, grace=arguments.grace, max_attempts=arguments.max_attempts),
        name=name,
        concurrency=arguments.threads,
        once=arguments.once,
        stop_seconds=arguments.stop_seconds,
        on_advance=rest,
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        worker.stop()
        print("stopping", flush=True)  # for a test that waits until the signal is heard

    signal.signal(signal.SIGTERM, stop)
    return 0 if worker.run() else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--stop-seconds", type=float, required=True)
    parser.add_argument("--max-attempts", type=int, required=True)
    parser.add_argument("--rest-seconds", type=float, required=True)
    parser.add_argument("--idle-seconds", type=float)
    parser.add_argument("--once", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
