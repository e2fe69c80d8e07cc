"""The stored states of background migrations and of their jobs, and why something failed. Numbers are GitLab's."""

import enum


class Status(enum.IntEnum):
    """The state of a background migration, or of one of its jobs; both tables share the numbers."""

    PAUSED = 0  # a migration that an operator stopped; jobs never have it
    ACTIVE = 1  # a migration that waits for a worker; a job that is being worked on
    FINISHED = 2  # everything is done
    FAILED = 3  # a migration that needs an operator; a job that waits for its next attempt, or has had its last
    RUNNING = 4  # a migration of which jobs were handed out; jobs never have it

    @property
    def label(self) -> str:
        """The name people read and type."""
        return self.name.lower()


class FailureErrorCode(enum.IntEnum):
    """Why a migration or a job failed, as stored in `failure_error_code`."""

    UNKNOWN = 0  # a job's work function raised; or too large a part of a migration's jobs failed
    INVALID_BBM_TABLE = 1  # the migration's table is missing or not written as schema.table
    INVALID_BBM_COLUMN = 2  # a column that the migration needs is missing or cannot be batched by
    INVALID_JOB_SIGNATURE = 3  # no such work function; never stored: the next release may know it
    MAX_JOB_RETRY = 4  # only jobs that had their last attempt are left
    INVALID_BATCHING_STRATEGY = 5  # no such strategy, or its index is missing; never stored either


# Each legal move of a migration, and who makes it when. Whatever is not here is refused.
MOVES: dict[tuple[Status, Status], str] = {
    (Status.ACTIVE, Status.RUNNING): "a worker took it up",
    (Status.RUNNING, Status.FINISHED): "its last job is done",
    (Status.ACTIVE, Status.FINISHED): "a worker took it up and nothing was left to do",
    (Status.RUNNING, Status.FAILED): "only jobs that had their last attempt are left, or most of its jobs failed",
    (Status.ACTIVE, Status.FAILED): "its table or a column is not there",
    (Status.ACTIVE, Status.PAUSED): "an operator paused it before a worker took it up",
    (Status.RUNNING, Status.PAUSED): "an operator paused it; its workers stop within one sub-batch",
    (Status.PAUSED, Status.ACTIVE): "an operator resumed it",
    (Status.FAILED, Status.ACTIVE): "an operator restarted it; its failed jobs get new attempts",
}


def origins(to: Status) -> tuple[Status, ...]:
    """Return the states from which a migration may move to this one."""
    return tuple(before for before, after in MOVES if after is to)
