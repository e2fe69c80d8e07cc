"""A background migration that GitLab's worker and ours are both at, played out at random, commit by commit."""

import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from psycopg import sql

from background_migrations import services
from background_migrations.status import Status
from tests.background_migrations.conftest import Bench
from tests.background_migrations.gitlab_worker import Decision, Kind, Work, decide, run_once
from tests.background_migrations.lanes import LONGEST, Crew, Fault, Lane, crew

ROWS = 40
LAST = 60  # the migration's end, behind the last row
NULLS = """
    CREATE SCHEMA far;
    CREATE TABLE far.nulls (id bigint PRIMARY KEY, value bigint, hits integer NOT NULL DEFAULT 0);
    CREATE INDEX ON far.nulls (value) WHERE value IS NULL;
"""
FILL_NULLS = """
    UPDATE far.nulls SET value = id, hits = hits + 1
    WHERE id IN (SELECT id FROM far.nulls WHERE value IS NULL LIMIT %s FOR UPDATE SKIP LOCKED)
"""
INCREMENT = sql.SQL("UPDATE {table} SET hits = hits + 1 WHERE {column} BETWEEN %s AND %s")
JOBS = """
    SELECT id, min_value, max_value, status, attempts FROM batched_background_migration_jobs
    WHERE batched_background_migration_id = %s ORDER BY id
"""
CLAIMS = """
    SELECT claim FROM registry_admin.background_migration_job_progress WHERE job_id = %s AND claim IS NOT NULL
"""
EVENTFUL = 500  # commits; after them all goes well
SET_ASIDE = "SELECT bool_or(set_aside) FROM registry_admin.background_migration_job_progress WHERE job_id = %s"
NAME = "count"
FUNCTIONS = {"increment", "fill"}


def fill(cursor, batch, context) -> int:
    return cursor.execute(FILL_NULLS, (batch.size,)).rowcount


def gitlab_work(connection, work: Work) -> None:
    """What GitLab's functions of the same names do."""
    if work.null_strategy:
        connection.execute(FILL_NULLS, (work.limit,))
        return
    query = INCREMENT.format(table=sql.Identifier(*work.table), column=sql.Identifier(work.column))
    connection.execute(query, (work.min_value, work.max_value))


class WorkerDiedError(BaseException):
    """GitLab's worker was killed after its work had committed and before its record had."""


@dataclass
class Scene:
    """A migration that both workers are at, and what must hold whenever nothing of ours is uncommitted."""

    bench: Bench
    migration_id: int
    null_strategy: bool = False
    only_ours: bool = True  # GitLab's worker has only looked so far
    finished_by_gitlab: dict[int, int] = field(default_factory=dict)  # job: what its rows had been hit in all
    fenced: set[uuid.UUID] = field(default_factory=set)  # claims on jobs that GitLab's worker has retried since
    trespasses: list[str] = field(default_factory=list)

    @property
    def hits(self) -> dict[int, int]:
        """How often each row was done."""
        table = "far.nulls" if self.null_strategy else "counters"
        return dict(self.bench.rows(f"SELECT id, hits FROM {table} ORDER BY id"))

    @property
    def status(self) -> int:
        return self.bench.status(NAME)

    def look(self) -> Decision:
        """Ask what GitLab's worker would do now, and check that it may."""
        assert self.trespasses == []
        decision = decide(self.bench.connection, known=FUNCTIONS)
        assert decision.kind not in (Kind.BUSY, Kind.STUCK)
        jobs = self.bench.rows(JOBS, self.migration_id)
        assert all(status in (Status.FINISHED, Status.FAILED) for *_, status, _ in jobs)
        hits = self.hits
        if decision.kind is Kind.FINISH or self.status == Status.FINISHED:
            assert all(hits.values())
        if decision.kind is Kind.FAIL and self.only_ours:
            assert self.bench.one(SET_ASIDE, decision.job_id)
        if not self.null_strategy:
            self._check_bounds(decision, jobs, hits)
        return decision

    def _check_bounds(self, decision: Decision, jobs, hits) -> None:
        ends = [0, *(job[2] for job in jobs)]
        assert [job[1] for job in jobs] == [end + 1 for end in ends[:-1]]  # no gap, no overlap
        for job_id, first, last, status, _ in jobs:
            counts = [count for row, count in hits.items() if first <= row <= last]
            assert all(counts) or status == Status.FAILED
            if self.only_ours:
                assert set(counts) <= {0, 1}
            assert self.finished_by_gitlab.get(job_id, sum(counts)) == sum(counts)
        if self.only_ours:
            assert not any(count for row, count in hits.items() if row > ends[-1])
        if decision.kind is Kind.CUT:
            assert decision.work.min_value == ends[-1] + 1

    def let_gitlab_work(self, *, fails: bool = False, dies: bool = False) -> None:
        """Let GitLab's worker run once, and remember which claims of ours it has overtaken."""
        self.only_ours = False

        def work(connection, work: Work) -> None:
            if fails:
                raise RuntimeError("it was told to fail")
            gitlab_work(connection, work)
            if dies:
                raise WorkerDiedError

        with suppress(WorkerDiedError):
            decision = run_once(self.bench.database.connect, work, known=FUNCTIONS)
            if decision.kind is Kind.RETRY:
                self.fenced |= {claim for (claim,) in self.bench.rows(CLAIMS, decision.job_id)}
                if not fails:
                    rows = range(decision.work.min_value, decision.work.max_value + 1)
                    self.finished_by_gitlab[decision.job_id] = sum(self.hits[row] for row in rows if row in self.hits)

    def notice(self, lane: Lane) -> None:
        """A lane is about to work: may it?"""
        if lane.claim.token in self.fenced:
            self.trespasses.append(f"{lane.name} worked on a job that GitLab's worker had retried meanwhile")

    def pause(self) -> None:
        services.pause(self.bench.connection, None, actor="tests")


class Story:
    """A scene that is played out at random, by a seed, until the migration is finished and nobody works any more."""

    def __init__(self, scene: Scene, played_by: Crew, chance: random.Random) -> None:
        self.scene, self.crew, self.chance = scene, played_by, chance
        played_by.before_work = scene.notice

    def play(self, events: dict[Callable[[], None], float]) -> None:
        """Let lanes go on, one commit at a time, with these events in between, each by its probability."""
        for step in range(LONGEST):
            if self.scene.status == Status.FINISHED and not any(lane.claim for lane in self.crew.lanes):
                return
            if step < EVENTFUL:
                for event, probability in events.items():
                    if self.chance.random() < probability:
                        event()
                        self.scene.look()
            self._advance()
            self.scene.look()
        pytest.fail("It has not come to an end.")

    def _advance(self) -> None:
        self.chance.choice(self.crew.lanes).advance()
        self.crew.help(NAME)

    # --- Events ---------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        self.scene.pause()

    def kill(self) -> None:
        self.crew.replace(self.chance.randrange(9))

    def give_back(self) -> None:
        self.crew.give_back(self.chance.randrange(9))

    def sleep(self) -> None:
        self.crew.sleep()

    def control(self) -> None:
        changes = {"batch_size": self.chance.randint(1, 12), "sub_batch_size": self.chance.randint(0, 5)}
        services.set_controls(self.scene.bench.connection, NAME, changes, actor="tests")

    def gitlab_works(self) -> None:
        self.scene.let_gitlab_work()

    def gitlab_fails(self) -> None:
        self.scene.let_gitlab_work(fails=True)

    def gitlab_overtakes(self) -> None:
        """Let GitLab's worker retry a job that one of ours is at."""
        retried = decide(self.scene.bench.connection, known=FUNCTIONS).job_id
        if retried and self.scene.bench.rows(CLAIMS, retried):
            self.scene.let_gitlab_work(fails=self.chance.random() < 0.5)

    def gitlab_dies(self) -> None:
        self.scene.let_gitlab_work(dies=True)


def gitlab_rules(bench: Bench, **values):
    return bench.rules(**{"unfinished": Status.FAILED, "grace": 600.0, **values})


def random_controls(scene: Scene, chance: random.Random) -> None:
    """Parallel jobs, sub-batches and sizes that grow by steps."""
    scene.bench.control(
        scene.migration_id,
        max_parallel_jobs=chance.randint(1, 3),
        sub_batch_size=chance.choice([0, 1, 3]),
        adaptive=chance.random() < 0.3,
        target_seconds=1_000.0,
        max_batch_size=20,
    )


def random_faults(chance: random.Random, *, share: float) -> list[Fault]:
    faulty = [Fault.ERROR, Fault.TIMEOUT]
    return [chance.choice(faulty) if chance.random() < share else Fault.NONE for _ in range(60)]


def play(scene: Scene, seed: int, *, faulty: float, **events: float) -> dict[int, int]:
    """Play one story and return how often each row was done."""
    chance = random.Random(seed)
    random_controls(scene, chance)
    rules = gitlab_rules(scene.bench, max_attempts=chance.randint(1, 5))
    faults = random_faults(chance, share=faulty)
    with crew(scene.bench, lanes=chance.randint(1, 3), rules=rules, faults=faults) as played_by:
        story = Story(scene, played_by, chance)
        story.play({getattr(story, name): probability for name, probability in events.items()})
        scene.look()
    return scene.hits
