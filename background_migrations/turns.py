"""One look at one background migration under its row lock: what comes next, and claiming it. Executes nothing."""

import datetime
import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from psycopg import Connection

from background_migrations import catalog, outcomes, pieces, progress
from background_migrations.batching import Bounds, Target, any_null, next_bounds
from background_migrations.pacing import adapted_size
from background_migrations.pieces import Claim, Holder, Piece
from background_migrations.records import MigrationRecord, Rules, with_controls
from background_migrations.sessions import Session
from background_migrations.situation import Situation, held_for, read_situation
from background_migrations.status import FailureErrorCode, Status
from background_migrations.transitions import transition
from background_migrations.work import WorkFunction

THROTTLED_PAUSE_SECONDS = 5.0
OTHERS_PAUSE_SECONDS = 1.0  # while others work on it: they may end any moment
RECENT_JOBS = 20


@dataclass(frozen=True)
class Skip:
    """A migration has no job for us now; it may have one in so many seconds, or None: not by itself.

    `lasting`: so long that whoever only wants to get done does not wait for it.
    """

    reason: str
    wait_seconds: float | None = None
    lasting: bool = False
    failed: str = ""  # why the migration has failed in this turn


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Everything happens in the transaction that has locked the migration's row."""

    session: Session
    migration: MigrationRecord
    function: WorkFunction
    rules: Rules
    worker: str
    vain_cuts: int = 0  # looks for the end of the next batch that ran into the time-out: each halves it

    def take(self) -> Claim | Skip:
        """Claim the next job, or say why there is none; settle a migration that has none left."""
        if self.migration.status is Status.ACTIVE:
            self._check()
            if self.migration.failure_error_code is not None:
                # Somebody set a failed migration to active by hand: its jobs get new attempts, as by a restart.
                outcomes.reset_attempts(self._connection, self.migration.id, grace=self.rules.grace)
        while True:
            situation = read_situation(self._connection, self.migration, function=self.function, rules=self.rules)
            current = replace(self, migration=with_controls(self.migration, situation.controls))
            outcome = current.settle_or_claim(situation)
            if outcome is not None:
                return outcome

    @property
    def _connection(self) -> Connection:
        return self.session.registry

    @property
    def _target(self) -> Target:
        return self.migration.target(self.function)

    def _check(self) -> None:
        with self._reading() as connection:
            catalog.check_target(
                connection,
                self._target,
                columns=self.function.columns,
                null_strategy=self.migration.null_strategy,
            )

    def settle_or_claim(self, situation: Situation) -> Claim | Skip | None:
        """Return what to do, or None after something was settled and the situation is another one."""
        situation = self._with_locked(situation)
        held = held_for(self._connection, self.migration) if self.rules.paced else 0.0
        if held > 0:
            return Skip("it is on hold", held, lasting=True)
        if situation.table_taken_by and not self.migration.controls.shares_table:
            return Skip(f"{situation.table_taken_by} works on the same table", OTHERS_PAUSE_SECONDS)
        can_cut = self._can_cut(situation)
        if situation.waiting or can_cut:
            return self._next_job(situation, can_cut=can_cut)
        if situation.live:
            return Skip("its last jobs are being worked on", OTHERS_PAUSE_SECONDS)
        return self._settle(situation)

    def _with_locked(self, situation: Situation) -> Situation:
        """Count a worker as alive that has been in one statement for longer than its signs of life reach."""
        if not situation.silent_on_table:
            return situation
        locked = pieces.locked_though_silent(self._connection, self.migration.table_name, grace=self.rules.grace)
        ours = sum(migration_id == self.migration.id for migration_id, _ in locked)
        others = [name for migration_id, name in locked if migration_id != self.migration.id]
        return replace(
            situation,
            live=situation.live + ours,
            waiting=situation.waiting - ours,
            table_taken_by=situation.table_taken_by or min(others, default=None),
        )

    def _next_job(self, situation: Situation, *, can_cut: bool) -> Claim | Skip | None:
        room = (self.migration.controls.max_parallel_jobs or 1) - situation.live - situation.cooling
        if room <= 0:
            pause = OTHERS_PAUSE_SECONDS if situation.free_in is None else situation.free_in
            return Skip("as many jobs as may run at once are running or pausing", pause)
        if situation.waiting:
            piece = pieces.due_piece(self._connection, self.migration.id, grace=self.rules.grace)
            if piece is not None:
                return self._take_up(piece)
        if can_cut:
            return self._cut(situation)
        # Due in no time: somebody has it locked, or works on another piece of the same job.
        return Skip("its failed jobs wait for their next attempt", max(situation.due_in or 0.0, OTHERS_PAUSE_SECONDS))

    # --- A job that was begun -------------------------------------------------------------------------------------

    def _take_up(self, piece: Piece) -> Claim | Skip | None:
        if piece.abandoned and piece.attempts >= self.rules.max_attempts and not piece.has_moved:
            outcomes.give_up_abandoned(self._connection, self.migration, piece=piece, actor=self.rules.actor)
            return None
        if (throttled := self._throttled()) is not None:
            return throttled
        attempts = piece.attempts + (not piece.has_moved)
        holder = self._holder(attempts)
        self._begin()
        stamp = pieces.take_piece(self._connection, piece, attempts=attempts, holder=holder)
        if piece.abandoned:
            outcomes.tell_abandoned(self._connection, self.migration, piece=piece, actor=self.rules.actor)
        return self._claim(replace(piece, attempts=attempts), token=holder.token, stamp=stamp)

    # --- The next batch -------------------------------------------------------------------------------------------

    def _can_cut(self, situation: Situation) -> bool:
        if self.migration.null_strategy:
            # A failed job's rows would be the next batch: they have their own attempts.
            if situation.waiting or situation.set_aside:
                return False
            with self._reading() as connection:
                return any_null(connection, self._target)
        return self._start(situation) <= self.migration.max_value

    def _start(self, situation: Situation) -> int:
        return self.migration.min_value if situation.last_value is None else situation.last_value + 1

    def _cut(self, situation: Situation) -> Claim | Skip:
        if (throttled := self._throttled()) is not None:
            return throttled
        size = self._size()
        bounds = self._bounds(situation, size)
        holder = self._holder(attempts=1)
        self._begin()
        piece, stamp = pieces.cut_job(
            self._connection,
            self.migration.id,
            bounds=bounds,
            sizes=(size, self.migration.sub_batch_size_of(self.function, job_size=size)),
            holder=holder,
        )
        return self._claim(piece, token=holder.token, stamp=stamp)

    def _bounds(self, situation: Situation, size: int) -> Bounds:
        if self.migration.null_strategy:
            return Bounds(0, 0, last=False)
        start, limit = self._start(situation), self.migration.max_value
        with self._reading() as connection:
            return next_bounds(connection, self._target, start=start, limit=limit, size=size)

    def _size(self) -> int:
        size = self.migration.job_size
        adaptation = self.rules.adaptation_of(self.migration)
        if adaptation is None or self.vain_cuts:
            return max(size >> self.vain_cuts, 1)
        recent = pieces.recent_jobs(self._connection, self.migration.id, jobs=RECENT_JOBS)
        return adapted_size(recent[-1][0] if recent else size, recent=recent, adaptation=adaptation)

    # --- Nothing is left ------------------------------------------------------------------------------------------

    def _settle(self, situation: Situation) -> Skip | None:
        size = self.migration.job_size
        sub_batch_size = self.migration.sub_batch_size_of(self.function, job_size=size)
        if pieces.adopt_jobs(self._connection, self.migration.id, size=size, sub_batch_size=sub_batch_size):
            return None
        outcomes.note_throttled(self._connection, self.migration, None)
        if situation.set_aside:
            reason = f"{situation.set_aside} of its jobs had their last attempt and nothing else is left"
            self._move(Status.FAILED, reason=reason, code=FailureErrorCode.MAX_JOB_RETRY)
            return Skip("it failed", failed=reason)
        self._move(Status.FINISHED, reason="nothing is left to do")
        pieces.close_pieces(self._connection, self.migration.id)
        return Skip("it is finished")

    # --- Parts of all ---------------------------------------------------------------------------------------------

    def _holder(self, attempts: int) -> Holder:
        return Holder(uuid.uuid4(), self.worker, self.rules.unfinished, self.rules.job_attempts(attempts))

    def _reading(self) -> AbstractContextManager[Connection]:
        return self.session.reading(self.function.database, statement_timeout=self.rules.timeout_of(self.migration))

    def _claim(self, piece: Piece, *, token: uuid.UUID, stamp: datetime.datetime) -> Claim:
        return Claim(
            migration=self.migration,
            function=self.function,
            target=self._target,
            token=token,
            stamp=stamp,
            piece=piece,
        )

    def _throttled(self) -> Skip | None:
        with self._reading() as connection:
            throttled = self.rules.lookout.throttled(connection, self.migration.table)
        outcomes.note_throttled(self._connection, self.migration, throttled)
        if throttled is None:
            return None
        self.rules.meter.throttled(throttled.signal)
        return Skip(throttled.reason, THROTTLED_PAUSE_SECONDS)

    def _begin(self) -> None:
        """Make the migration running, with an estimate of its rows, when this is its first job since it was active."""
        if self.migration.status is not Status.ACTIVE:
            return
        if self.migration.total_tuple_count is None:
            with self._reading() as connection:
                total = progress.estimate_rows(connection, self._target, migration=self.migration)
            progress.store_total(self._connection, self.migration.id, total=total)
        self._move(Status.RUNNING, reason="a worker took it up")

    def _move(self, to: Status, *, reason: str, code: FailureErrorCode | None = None) -> None:
        transition(self._connection, [self.migration.id], to=to, actor=self.rules.actor, reason=reason, code=code)
