"""Kills workers while they add 1 to each row of a table, and counts the rows that were lost or done twice.

Every other time a process is killed; between, at random, one is frozen, a session is terminated, the migration is
paused and resumed, or the server crashes. Exits 1 unless every row was done exactly once.
"""

import argparse
import itertools
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields

import psycopg
from psycopg import Connection

from background_migrations import services
from background_migrations.batching import NULL_STRATEGY
from background_migrations.errors import NothingToRetryError
from background_migrations.status import Status
from bench.servers import crash, migrated_server, queue, url_of
from tests.background_migrations import worker_process
from tests.background_migrations.worker_process import Process

PROCESSES, THREADS = 4, 2
GRACE_SECONDS = 1.0
REST_SECONDS = 0.02  # between two transactions, so that a torment finds a worker there, too
FREEZE_SECONDS = 2.0  # longer than the grace: somebody else has the jobs of a frozen process when it goes on
BATCH_SIZE, SUB_BATCH_SIZE = 500, 50
ATTEMPTS = 1_000  # chance may hit one job again and again
PAUSES = (0.1, 0.6)  # seconds between two torments
CALM_SECONDS = 90.0  # without torments, for what is left
STOP_SECONDS = 20.0
ENDS = {0, -signal.SIGTERM}  # the latter where a process has just begun
LOOK_SECONDS = 0.1
ACTOR = "torment"

TABLE = """
    DROP TABLE IF EXISTS public.tormented;
    CREATE TABLE public.tormented (id bigint PRIMARY KEY, done bigint, hits integer NOT NULL DEFAULT 0);
    CREATE INDEX ON public.tormented (done) WHERE done IS NULL;
    INSERT INTO public.tormented (id) SELECT generate_series(1, {rows});
    ANALYZE public.tormented
"""
NULLS = {"column": "done", "strategy": NULL_STRATEGY, "min_value": 0, "max_value": 0}
STATUS = "SELECT status FROM public.batched_background_migrations WHERE name = %s"
TERMINATE = """
    SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'worker process %'
        ORDER BY random() LIMIT 1
    ) AS victim
"""
COUNT = """
    SELECT count(*) FILTER (WHERE hits = 0), coalesce(sum(hits - 1) FILTER (WHERE hits > 1), 0) FROM public.tormented
"""
TAKEN_OVER = """
    SELECT count(*) FROM registry_admin.background_migration_events WHERE name = %s AND kind = 'job_abandoned'
"""


@dataclass
class Tally:
    """What was done to the workers, and what became of the rows."""

    kills: int = 0
    freezes: int = 0
    terminations: int = 0
    pauses: int = 0
    crashes: int = 0
    taken_over: int = 0  # jobs, from workers that showed no sign of life
    rows: int = 0
    lost: int = 0
    doubled: int = 0
    unfinished: int = 0  # migrations
    seconds: float = 0.0

    def add(self, other: "Tally") -> None:
        """Count another one in."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def is_clean(self) -> bool:
        """Whether everything was done exactly once."""
        return not (self.lost or self.doubled or self.unfinished)


@dataclass
class Crowd:
    """Worker processes; each that is killed is replaced."""

    url: str
    _processes: list[Process] = field(default_factory=list)
    _frozen: dict[Process, float] = field(default_factory=dict)  # until when

    def start(self) -> None:
        """Start them."""
        for _ in range(PROCESSES):
            self._add()

    def kill(self) -> None:
        """Kill one, and start another in its place."""
        victim = random.choice(self._processes)
        self._processes.remove(victim)
        self._frozen.pop(victim, None)
        victim.kill()
        victim.wait()
        self._add()

    def freeze(self) -> bool:
        """Stop one for longer than its claims live, unless half of them are: somebody has to take over."""
        running = [process for process in self._processes if process not in self._frozen]
        if len(running) <= PROCESSES // 2:
            return False
        victim = random.choice(running)
        victim.send_signal(signal.SIGSTOP)
        self._frozen[victim] = time.monotonic() + FREEZE_SECONDS
        return True

    def thaw(self, *, all_of_them: bool = False) -> None:
        """Let those go on whose time has come."""
        for process, until in list(self._frozen.items()):
            if all_of_them or time.monotonic() >= until:
                process.send_signal(signal.SIGCONT)
                del self._frozen[process]

    def end(self) -> None:
        """Let all end in good order, which they must be able to, whatever happened before."""
        self.thaw(all_of_them=True)
        for process in self._processes:
            process.terminate()
        try:
            codes = [process.wait(timeout=STOP_SECONDS) for process in self._processes]
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
        if not set(codes) <= ENDS:
            raise RuntimeError(f"Workers that were asked to end did so with {codes}.")

    def _add(self) -> None:
        process = worker_process.start(
            self.url,
            threads=THREADS,
            grace=GRACE_SECONDS,
            stop_seconds=STOP_SECONDS / 2,
            max_attempts=ATTEMPTS,
            rest_seconds=REST_SECONDS,
        )
        self._processes.append(process)


@dataclass
class Torment:
    """One table under torment until it is done, or `until` is reached; then what is left is done in peace."""

    url: str
    rows: int
    name: str = "torment"
    null_strategy: bool = False
    crash: Callable[[], None] | None = None
    until: float = float("inf")
    tally: Tally = field(default_factory=Tally)

    def run(self) -> Tally:
        """Make the table, work it off, and count."""
        began = time.monotonic()
        self._queue()
        crowd = Crowd(self.url)
        try:
            crowd.start()
            self._torment(crowd)
            crowd.thaw(all_of_them=True)
            self._calm()
        finally:
            crowd.end()
        self._count()
        self.tally.seconds = time.monotonic() - began
        return self.tally

    def _connect(self) -> Connection:
        return psycopg.connect(self.url, autocommit=True)

    def _queue(self) -> None:
        with self._connect() as connection:
            connection.execute(TABLE.format(rows=int(self.rows)).encode())
            queue(
                connection,
                self.name,
                function="increment_slowly",
                table="public.tormented",
                batch_size=BATCH_SIZE,
                **(NULLS if self.null_strategy else {}),
            )
            controls = {"sub_batch_size": SUB_BATCH_SIZE, "max_parallel_jobs": PROCESSES * THREADS}
            services.set_controls(connection, self.name, controls, actor=ACTOR)

    def _torment(self, crowd: Crowd) -> None:
        others: Mapping[Callable[[Crowd], None], int] = {  # with how often each comes up
            self._freeze: 6,
            self._terminate: 4,
            self._pause: 2,
            **({self._crash: 1} if self.crash else {}),
        }
        for others_turn in itertools.cycle((False, True)):
            if time.monotonic() >= self.until or self._status() not in {Status.ACTIVE, Status.RUNNING}:
                return
            time.sleep(random.uniform(*PAUSES))
            crowd.thaw()
            (torment,) = random.choices(list(others), weights=list(others.values())) if others_turn else (self._kill,)
            torment(crowd)

    def _kill(self, crowd: Crowd) -> None:
        crowd.kill()
        self.tally.kills += 1

    def _freeze(self, crowd: Crowd) -> None:
        self.tally.freezes += crowd.freeze()

    def _terminate(self, _crowd: Crowd) -> None:
        with self._connect() as connection:
            ((terminated,),) = connection.execute(TERMINATE)
        self.tally.terminations += terminated

    def _pause(self, _crowd: Crowd) -> None:
        with self._connect() as connection:
            self.tally.pauses += len(services.pause(connection, None, actor=ACTOR))
            time.sleep(random.uniform(*PAUSES))
            services.resume(connection, None, actor=ACTOR)

    def _crash(self, _crowd: Crowd) -> None:
        if self.crash is not None:
            self.crash()
            self.tally.crashes += 1

    def _calm(self) -> None:
        """Let the workers do what is left; what failed needs not wait."""
        with self._connect() as connection, suppress(NothingToRetryError):
            services.retry(connection, self.name, actor=ACTOR)
        deadline = time.monotonic() + CALM_SECONDS
        while self._status() in {Status.ACTIVE, Status.RUNNING} and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def _status(self) -> Status:
        with self._connect() as connection:
            ((status,),) = connection.execute(STATUS, (self.name,))
        return Status(status)

    def _count(self) -> None:
        tally = self.tally
        tally.rows = self.rows
        tally.unfinished = int(self._status() is not Status.FINISHED)
        with self._connect() as connection:
            ((tally.lost, doubled),) = connection.execute(COUNT)
            ((tally.taken_over,),) = connection.execute(TAKEN_OVER, (self.name,))
        tally.doubled = int(doubled)


def main() -> int:
    """Torment table after table, with the one strategy and the other in turns, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on (60)")
    parser.add_argument("--rows", type=int, default=50_000, help="of each table (50000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    total = Tally()
    with migrated_server() as server:
        until, number = time.monotonic() + arguments.seconds, 0
        while time.monotonic() < until:
            number += 1
            total.add(
                Torment(
                    url_of(server),
                    rows=arguments.rows,
                    name=f"torment {number}",
                    null_strategy=number % 2 == 0,
                    crash=lambda: crash(server),
                    until=until,
                ).run()
            )
    _print(total, as_json=arguments.json)
    return int(not total.is_clean)


def _print(tally: Tally, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(tally)))
        return
    print(
        f"{tally.kills} kills of workers survived in {tally.seconds:.0f} s, beside {tally.freezes} frozen processes, "
        f"{tally.terminations} terminated sessions, {tally.pauses} pauses and {tally.crashes} crashes of the server."
    )
    print(f"Of {tally.rows} rows {tally.lost} were lost and {tally.doubled} done twice; ", end="")
    print(f"{tally.unfinished} migrations did not finish, {tally.taken_over} jobs were taken over from the dead.")


if __name__ == "__main__":
    sys.exit(main())
