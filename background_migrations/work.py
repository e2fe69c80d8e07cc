"""What a work function declares and what it is given. No engine, no models, no settings."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg import Cursor

from background_migrations.batching import Batch


@dataclass(frozen=True)
class WorkContext:
    """What a work function may need; it fetches nothing itself."""

    migration_name: str
    job_id: int
    options: Mapping[str, Any] = field(default_factory=dict)  # values and clients handed in by whoever runs it
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("migrations"))
    should_stop: Callable[[], bool] = lambda: False  # for functions that wait for others: end early, losing nothing


Work = Callable[[Cursor, Batch, WorkContext], int]


class WorkStoppedError(Exception):
    """A work function was told to stop and has left rows of its batch undone: the batch has to be done again."""


@dataclass(frozen=True, kw_only=True)
class WorkFunction:
    """The code behind a job signature name, and how it wants to be run.

    A local function works on the registry's database alone. It is called inside the transaction that also records
    its progress, never commits, and so happens exactly once. An external one works on another database or calls the
    network: its cursor commits each statement by itself, and it may be called again for rows that it has handled.
    """

    run: Work
    database: str = "registry"  # alias
    calls_network: bool = False
    known_to_gitlab: bool = False  # GitLab's own worker has a function of this name
    predicate: str = ""  # constant SQL: batches and progress count only rows that match
    columns: tuple[str, ...] = ()  # what the table must have, apart from the batching column
    batch_size: int = 1_000  # rows
    sub_batch_size: int = 0  # rows in one transaction; 0: the whole batch
    interval_seconds: float | None = None  # between jobs of one migration; None: as configured
    queued_on: tuple[str, str] | None = None  # table and column for `background_migrate queue`

    @property
    def is_external(self) -> bool:
        """Whether its work commits apart from its record."""
        return self.calls_network or self.database != "registry"
