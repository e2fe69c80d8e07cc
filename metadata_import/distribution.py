"""Hands the items of an import to a queue of tasks, which workers on any machines take, and watches the journal.

The journal alone says what is done. The queue only brings items to workers: what it loses is handed out again.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import structlog
from django.db.backends.base.base import BaseDatabaseWrapper

from metadata_import.errors import LeaseLostError, TaskFailedError
from metadata_import.journal import Journal
from metadata_import.retrying import retried
from metadata_import.statistics import ImportKind

LOOK_SECONDS = 0.1
# Between two looks, in times of what the last one took: a journal may hold a million items.
PAUSE = 20
CARE_SECONDS = 5.0  # how often to see whether the queue still has tasks
# Tasks that come back undone and without an error so often are not going to be done.
HAND_OUTS = 5

log = structlog.get_logger(__name__)


class TaskQueue(Protocol):
    """Brings items to workers, at least once, as long as nothing is lost."""

    def hand_out(self, kind: ImportKind, names: Sequence[str], *, run_id: int, token: uuid.UUID) -> None:
        """Enqueue tasks for all of these."""

    def has_tasks(self, *, token: uuid.UUID) -> bool:
        """Tell whether some of them wait or are worked on."""

    def has_workers(self) -> bool:
        """Tell whether somebody is there to take tasks."""


class Distribution:
    """Has one run's items imported by whoever takes tasks."""

    def __init__(
        self,
        queue: TaskQueue,
        journal: Journal,
        *,
        connection: BaseDatabaseWrapper,
        run_id: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._queue, self._journal, self._run_id, self._sleep = queue, journal, run_id, sleep
        self._connection = connection

    def work(self, kind: ImportKind, names: Sequence[str], *, on_look: Callable[[int, bool], None]) -> None:
        """Return when all these items are done; on_look gets how many of the kind are, and whether nobody takes tasks.

        Raises TaskFailedError for the first that cannot be done, and LeaseLostError when another import took over.
        """
        self._hand_out(kind, names)
        hand_outs, done_before, is_idle = 1, -1, False
        cared = time.monotonic()
        while True:
            began = time.monotonic()
            done, total = retried(self._connection, partial(self._journal.count_items, kind))
            on_look(done, is_idle)
            if done == total:
                return
            self._refuse_to_go_on(kind)
            if began - cared >= CARE_SECONDS:
                hand_outs = hand_outs if done == done_before else 0
                hand_outs += self._care(kind, hand_outs)
                done_before = done
                is_idle = self._tell_of_nobody(before=is_idle)
                cared = began
            self._sleep(max(LOOK_SECONDS, PAUSE * (time.monotonic() - began)))

    def _refuse_to_go_on(self, kind: ImportKind) -> None:
        if error := retried(self._connection, partial(self._journal.error, kind)):
            raise TaskFailedError(error)
        if not retried(self._connection, self._journal.holds_lease):
            raise LeaseLostError

    def _care(self, kind: ImportKind, hand_outs: int) -> bool:
        """Hand out again what is not done, if no task for it is left."""
        if self._queue.has_tasks(token=self._journal.token):
            return False
        if hand_outs >= HAND_OUTS:
            raise TaskFailedError("tasks end without having done anything; see the workers' logs.")
        log.warning("tasks are handed out again")
        self._hand_out(kind, retried(self._connection, partial(self._journal.pending, kind)))
        return True

    def _tell_of_nobody(self, *, before: bool) -> bool:
        """Say whether nobody is there to take tasks, in the log when it begins."""
        is_idle = not self._queue.has_workers()
        if is_idle and not before:
            log.warning("no worker takes tasks")
        return is_idle

    def _hand_out(self, kind: ImportKind, names: Sequence[str]) -> None:
        self._queue.hand_out(kind, names, run_id=self._run_id, token=self._journal.token)
