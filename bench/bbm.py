"""Measures what background migrations cost beside the work itself, on a throw-away server with its durability on.

Autovacuum is off for the tables worked on: the worker gives way to one, and the loop it is compared with does not.
"""

import itertools
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from psycopg import Connection, Cursor

from background_migrations import services
from background_migrations.batching import Batch
from background_migrations.pieces import Claim
from background_migrations.records import Rules
from background_migrations.reports import Defaults, migration_reports
from background_migrations.throttling import LockWaiters, Lookout, ReplicaLag, Vacuum, WalArchive
from background_migrations.work import WorkContext, WorkFunction
from background_migrations.work_functions import WORK_FUNCTIONS
from background_migrations.work_functions.columns import copy_column
from background_migrations.worker import Worker
from bench.measures import Measure, arguments, report
from bench.servers import migrated_server, queue, url_of

BATCH_SIZE = 10_000
SMALL_BATCH = 100  # of jobs and sub-batches without work
LEAST_SHARE = 0.90  # of the rows per second of a loop that only updates
JOB_MILLISECONDS = 3.0
MOST_GROWTH = 1.5  # of a job's cost, when many have been done
LEAST_SPEED_UP = 3.5  # of four threads
STATUS_MILLISECONDS = 100.0
NAME = "measured"
MANIFESTS_FUNCTION = "copyManifestMediaTypeIDToNewBigIntColumn"

PLAIN_TABLE = """
    CREATE TABLE public.plain (
        id bigint PRIMARY KEY, source integer NOT NULL, digest bytea NOT NULL, target bigint
    ) WITH (autovacuum_enabled = off);
    INSERT INTO public.plain (id, source, digest)
    SELECT n, n % 100, sha256(n::text::bytea) FROM generate_series(1, {rows}) AS n
"""
# Rows that are older than the trigger that fills the wider twin of their media type.
MANIFESTS = """
    DO $$ DECLARE partition regclass; BEGIN
        FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'public.manifests'::regclass LOOP
            EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', partition);
        END LOOP;
    END $$;
    SET session_replication_role = replica;
    INSERT INTO public.manifests (id, top_level_namespace_id, repository_id, schema_version, media_type_id, digest,
        payload, total_size)
    SELECT n, 1 + n % 500, 1 + n % 500, 2, 1 + n % 7, sha256(n::text::bytea), '{{}}', n
    FROM generate_series(1, {rows}) AS n;
    RESET session_replication_role
"""
SMALL_TABLE = """
    CREATE TABLE public.small (id bigint PRIMARY KEY);
    INSERT INTO public.small SELECT generate_series({first}, {last})
"""
# As the engine leaves them.
FINISHED_JOBS = """
    WITH jobs AS (
        INSERT INTO public.batched_background_migration_jobs (batched_background_migration_id, min_value, max_value,
            status, attempts, started_at, finished_at, updated_at)
        SELECT {id}, 1 + n * {size}, (n + 1) * {size}, 2, 1, moment, moment, moment
        FROM generate_series(0, {jobs} - 1) AS n, (SELECT now() - interval '1 hour') AS earlier (moment)
        RETURNING id, min_value, max_value, started_at AS moment
    )
    INSERT INTO registry_admin.background_migration_job_progress (job_id, background_migration_id, min_value,
        max_value, next_value, size, sub_batch_size, attempts, worker, claimed_at, claimed_value, seen_at, ended_at,
        finished_at, rows, seconds)
    SELECT id, {id}, min_value, max_value, min_value, {size}, 0, 1, 'bench', moment, min_value, moment, moment, moment,
        {size}, 0.1
    FROM jobs ORDER BY id
"""
FORGET = """
    DELETE FROM public.batched_background_migrations;
    DELETE FROM registry_admin.background_migration_job_progress;
    DELETE FROM registry_admin.background_migration_controls
"""
FINISHED_AT = "SELECT extract(epoch FROM finished_at)::float8 FROM public.batched_background_migrations"


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int = 5
    plain_rows: int = 1_000_000
    manifests: int = 310_000
    jobs: int = 500
    finished_jobs: int = 100_000
    sub_batches: int = 800


QUICK = Scale(rounds=3, plain_rows=100_000, manifests=60_000, jobs=200, finished_jobs=10_000, sub_batches=200)


@dataclass(frozen=True)
class Site:
    """A server whose first database holds the schema, to be copied and never connected to."""

    url: str
    scale: Scale

    @contextmanager
    def database(self, name: str, *, template: str = "registry") -> Iterator[str]:
        """Copy a database, files and all; give the copy's URL, and drop it in the end."""
        server = self.url.rpartition("/")[0]
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
            connection.execute("CHECKPOINT")
            try:
                yield f"{server}/{name}"
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    @contextmanager
    def filled(self, name: str, fill: str, **values: int) -> Iterator[str]:
        """Give a copy that holds what these statements bring, in good order."""
        with self.database(name) as url:
            with connector(url)() as connection:
                connection.execute(fill.format(**values).encode())
                connection.execute("VACUUM ANALYZE")
                connection.execute("CHECKPOINT")
            yield url


def connector(url: str) -> Callable[[], Connection]:
    """Return what opens connections as the commands do."""
    return lambda: psycopg.connect(url, autocommit=True)


def worker(url: str, function: WorkFunction, **values: Any) -> Worker:
    """A worker that ends when nothing is left, with the signals that ship."""
    lookout = Lookout((WalArchive(), ReplicaLag(), LockWaiters(), Vacuum()))
    return Worker(
        connect={"registry": connector(url)},
        functions={NAME: function},
        rules=Rules(actor="bench", interval=0.0, lookout=lookout),
        name="bench",
        once=True,
        **values,
    )


# --- Updates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Copying:
    """A work function over a table whose rows have the ids 1..n."""

    function: WorkFunction
    table: tuple[str, str]
    rows: int

    def time_worker(self, url: str) -> float:
        """Return the seconds from a worker's start until the migration is stored as finished."""
        with connector(url)() as connection:
            table = ".".join(self.table)
            queue(connection, NAME, function=NAME, table=table, batch_size=BATCH_SIZE, max_value=self.rows)
            began = time.time()
            worker(url, self.function).run()
            ((finished,),) = connection.execute(FINISHED_AT)
        return float(finished) - began

    def time_loop(self, url: str) -> float:
        """Return the seconds of a loop over the same statements, each with its commit."""
        began = time.time()
        with connector(url)() as connection:
            statement = self._statement(connection)
            for first in range(1, self.rows + 1, BATCH_SIZE):
                last = min(first + BATCH_SIZE - 1, self.rows)
                with connection.transaction():
                    connection.execute(statement, {"min_value": first, "max_value": last})
        return time.time() - began

    def _statement(self, connection: Connection) -> bytes:
        """Overhear what the function says."""
        cursor = _Overhearing(connection)
        self.function.run(cursor, Batch(self.table, "id", 1, 1, 1), WorkContext(NAME, job_id=0))
        return cursor.heard


class _Overhearing(Cursor[Any]):
    """Remembers a query and executes nothing."""

    heard: bytes = b""

    def execute(self, query: Any, *_arguments: Any, **_options: Any) -> "_Overhearing":
        self.heard = query.as_bytes(self)
        return self


def measure_plain(site: Site) -> list[Measure]:
    """Compare rows per second in a plain table."""
    rows = site.scale.plain_rows
    copying = Copying(copy_column("source", target="target", batch_size=BATCH_SIZE), ("public", "plain"), rows)
    return _compare(site, "copy_column", copying, fill=PLAIN_TABLE)


def measure_manifests(site: Site) -> list[Measure]:
    """Compare rows per second in 64 partitions."""
    copying = Copying(WORK_FUNCTIONS[MANIFESTS_FUNCTION], ("public", "manifests"), site.scale.manifests)
    return _compare(site, "manifests", copying, fill=MANIFESTS)


def _compare(site: Site, name: str, copying: Copying, *, fill: str) -> list[Measure]:
    times: list[tuple[float, float]] = []
    with site.filled("filled", fill, rows=copying.rows):
        for _ in range(site.scale.rounds):
            with site.database("measured", template="filled") as url:
                loop = copying.time_loop(url)
            with site.database("measured", template="filled") as url:
                times.append((copying.time_worker(url), loop))
    speed = statistics.median(copying.rows / own for own, _ in times)
    loop_speed = statistics.median(copying.rows / loop for _, loop in times)
    ratio = statistics.median(loop / own for own, loop in times)
    return [
        Measure(f"{name}, a loop of the same updates", loop_speed, "rows/s"),
        Measure(name, speed, "rows/s", limit=LEAST_SHARE, ratio=ratio, at_least=True),
    ]


# --- Bookkeeping --------------------------------------------------------------------------------------------------


def measure_job_cost(site: Site) -> list[Measure]:
    """Time jobs without work: after 10 and after many."""
    jobs = site.scale.finished_jobs
    few, many = _job_cost(site, 10), _job_cost(site, jobs)
    return [
        Measure("job_cost, a commit of one row", _commit_cost(site), "ms"),
        Measure("job_cost, 10 finished before", few, "ms", limit=1.0, ratio=few / JOB_MILLISECONDS),
        Measure(f"job_cost, {jobs} finished before", many, "ms", limit=1.0, ratio=many / JOB_MILLISECONDS),
        Measure("job_cost, growth", many - few, "ms", limit=MOST_GROWTH, ratio=many / few),
    ]


def _job_cost(site: Site, finished: int) -> float:
    first, last = 1 + finished * SMALL_BATCH, (finished + site.scale.jobs) * SMALL_BATCH
    ends: list[float] = []

    def note(_claim: Claim, *, rows: int) -> None:
        if rows:
            ends.append(time.monotonic())

    with site.filled("measured", SMALL_TABLE, first=first, last=last) as url:
        with connector(url)() as connection:
            migration_id = queue(
                connection, NAME, function=NAME, table="public.small", batch_size=SMALL_BATCH, max_value=last
            )
            connection.execute(FINISHED_JOBS.format(id=migration_id, size=SMALL_BATCH, jobs=finished).encode())
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        worker(url, WorkFunction(run=_do_nothing), on_advance=note).run()
    return _median_milliseconds(ends)


def _commit_cost(site: Site) -> float:
    ends: list[float] = []
    with site.filled("measured", SMALL_TABLE, first=1, last=1) as url, connector(url)() as connection:
        for _ in range(site.scale.jobs):
            connection.execute("UPDATE public.small SET id = id + 1")
            ends.append(time.monotonic())
    return _median_milliseconds(ends)


def _median_milliseconds(ends: Sequence[float]) -> float:
    return statistics.median(after - before for before, after in itertools.pairwise(ends)) * 1_000


def _do_nothing(_cursor: Cursor, batch: Batch, _context: WorkContext) -> int:
    return batch.size


def _wait(cursor: Cursor, batch: Batch, _context: WorkContext) -> int:
    cursor.execute("SELECT pg_sleep(0.005)")
    return batch.size


def measure_parallel(site: Site) -> list[Measure]:
    """Compare four threads with one, on work that waits."""
    sub_batches = site.scale.sub_batches
    with site.filled("measured", SMALL_TABLE, first=1, last=sub_batches * SMALL_BATCH) as url:
        times = [(_time_waiting(url, 1), _time_waiting(url, 4)) for _ in range(site.scale.rounds)]
    one, four = (sub_batches / statistics.median(each) for each in zip(*times, strict=True))
    ratio = statistics.median(alone / together for alone, together in times)
    return [
        Measure("parallel, one thread", one, "sub-batches/s"),
        Measure("parallel, four threads", four, "sub-batches/s", limit=LEAST_SPEED_UP, ratio=ratio, at_least=True),
    ]


def _time_waiting(url: str, threads: int) -> float:
    with connector(url)() as connection:
        connection.execute(FORGET)
        queue(connection, NAME, function=NAME, table="public.small", batch_size=20 * SMALL_BATCH)
        services.set_controls(connection, NAME, {"sub_batch_size": SMALL_BATCH, "max_parallel_jobs": 4}, actor="bench")
        began = time.time()
        worker(url, WorkFunction(run=_wait), concurrency=threads).run()
        ((finished,),) = connection.execute(FINISHED_AT)
    return float(finished) - began


# --- Looking ------------------------------------------------------------------------------------------------------


class _Counting(Cursor[Any]):
    """Counts queries."""

    queries = 0

    def execute(self, *arguments: Any, **options: Any) -> "_Counting":
        type(self).queries += 1
        return super().execute(*arguments, **options)


def measure_status(site: Site) -> list[Measure]:
    """Time a report on 200 migrations and their jobs, and count its queries."""
    migrations, repetitions = 200, 20
    with site.database("measured") as url, connector(url)() as connection:
        jobs = site.scale.finished_jobs // migrations
        for number in range(migrations):
            migration_id = queue(connection, f"{NAME} {number}", function=NAME, table="public.small", batch_size=100)
            connection.execute(FINISHED_JOBS.format(id=migration_id, size=SMALL_BATCH, jobs=jobs).encode())
        connection.execute("VACUUM ANALYZE")
        connection.cursor_factory = _Counting
        defaults = Defaults(functions={}, interval=2.0, grace=30.0)
        times: list[float] = []
        for _ in range(repetitions):
            began = time.monotonic()
            migration_reports(connection, defaults=defaults)
            times.append(time.monotonic() - began)
    milliseconds, queries = statistics.median(times) * 1_000, _Counting.queries / repetitions
    return [
        Measure("status, queries", queries, "", limit=1.0, ratio=queries),
        Measure(
            f"status, {migrations} migrations of {jobs} jobs",
            milliseconds,
            "ms",
            limit=1.0,
            ratio=milliseconds / STATUS_MILLISECONDS,
        ),
    ]


MEASURES: Mapping[str, Callable[[Site], list[Measure]]] = {
    "copy_column": measure_plain,
    "manifests": measure_manifests,
    "job_cost": measure_job_cost,
    "parallel": measure_parallel,
    "status": measure_status,
}


def main() -> int:
    """Measure, print, and fail when a limit is broken."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", action="append", choices=MEASURES, help="this measure alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer rows, to try it out: the numbers mean little")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    measures: list[Measure] = []
    with migrated_server() as server:
        site = Site(url_of(server), QUICK if given.quick else Scale())
        for name in given.only or MEASURES:
            measures += MEASURES[name](site)
    return report(measures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
