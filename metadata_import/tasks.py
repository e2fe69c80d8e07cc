"""The tasks of a distributed import, which `manage.py procrastinate worker` takes, and the queue that brings them.

A task names items of a run; how to import comes with them, and where to read with the worker's own configuration:
no secret travels through the queue.
"""

import getpass
import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import islice
from typing import Any

import structlog
from django.conf import settings
from django.db import connections
from django.utils import timezone
from procrastinate import JobContext, RetryStrategy
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from procrastinate.exceptions import AlreadyEnqueued
from structlog.contextvars import bound_contextvars, get_contextvars

from metadata_import.errors import LeaseLostError, MetadataImportError, OtherStorageError
from metadata_import.importer import import_registry
from metadata_import.journal import Journal, read_spelled, spell
from metadata_import.models import ImportRun
from metadata_import.options import ImportOptions, Resume, reads_in_flight
from metadata_import.presence import BlobPresence
from metadata_import.refusals import ImportQueuedError
from metadata_import.statistics import ImportKind, Mode
from metadata_import.storage import open_driver
from metadata_import.storage.base import StorageDriver
from metadata_import.storage.parameters import open_storage
from metadata_import.worker import Increment, Worker

QUEUE = "import"
# Most prefixes are listed by few requests, one after the other: a task lists some at once.
ITEMS_PER_TASK = {ImportKind.REPOSITORY: 1, ImportKind.BLOB_PREFIX: 8}
TASKS_PER_STATEMENT = 1_000
UNFINISHED = ("todo", "doing")
# Of a task that fails for no reason of its own, as when the database is away; the pauses grow: 2, 4, 8, 16 seconds.
RETRIES = RetryStrategy(max_attempts=4, exponential_wait=2)
EVERY_FEW_SECONDS = "* * * * * */5"

log = structlog.get_logger(__name__)


def holder() -> str:
    """Return who runs this, for whoever wants to import too; in a container the account may have no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}, process {os.getpid()}"


@dataclass(frozen=True, slots=True)
class ImportTasks:
    """The queue of one import: procrastinate, whose tables are in the database `default`."""

    options: ImportOptions

    def hand_out(self, kind: ImportKind, names: Sequence[str], *, run_id: int, token: uuid.UUID) -> None:
        """Enqueue tasks for all of these: one for each repository, or for a few prefixes of blobs."""
        common: dict[str, Any] = {"run_id": run_id, "token": str(token), "kind": str(kind), "how": _how(self.options)}
        common["log"] = get_contextvars()
        spelled, size = [spell(name) for name in names], ITEMS_PER_TASK[kind]
        tasks = ({**common, "names": spelled[start : start + size]} for start in range(0, len(spelled), size))
        while some := list(islice(tasks, TASKS_PER_STATEMENT)):
            import_items.batch_defer(*some)

    def has_tasks(self, *, token: uuid.UUID) -> bool:
        """Tell whether some of them wait or are worked on."""
        unfinished = ProcrastinateJob.objects.filter(queue_name=QUEUE, status__in=UNFINISHED)
        return bool(unfinished.filter(args__token=str(token)).exists())

    def has_workers(self) -> bool:
        """Tell whether a worker has given a sign of life of late."""
        since = timezone.now() - timedelta(seconds=self.options.grace_seconds)
        return bool(ProcrastinateWorker.objects.filter(last_heartbeat__gt=since).exists())


def hand_over(options: ImportOptions, *, path: str) -> int:
    """Enqueue a whole import, which the workers then begin, share out and end; return the job's number.

    Raises ImportQueuedError when one waits already.
    """
    try:
        return coordinate.defer(path=path, how=_how(options))
    except AlreadyEnqueued:
        raise ImportQueuedError from None


@app.task(queue=QUEUE, retry=RETRIES, pass_context=True)
def import_items(
    context: JobContext,
    *,
    run_id: int,
    token: str,
    kind: str,
    names: Sequence[str],
    how: dict[str, Any],
    log: dict[str, Any] | None = None,
) -> None:
    """Import these items of a run, unless they are done or the run goes on without this task."""
    connection = connections["registry"]
    journal = Journal(connection, run_id=run_id, token=uuid.UUID(token), claim=uuid.uuid4())
    with bound_contextvars(**(log or {})):
        if claimed := journal.claim(ImportKind(kind), [read_spelled(name) for name in names]):
            _import_claimed(claimed, ImportKind(kind), journal, run_id, how, attempts=context.job.attempts)


def _import_claimed(
    names: Sequence[str], kind: ImportKind, journal: Journal, run_id: int, how: dict[str, Any], *, attempts: int
) -> None:
    connection = connections["registry"]
    try:
        run = ImportRun.objects.using(connection.alias).get(pk=run_id)
        driver = _driver_of(run.storage_driver, run.root)
        Worker(
            driver,
            connection=connection,
            journal=journal,
            options=_options(how, is_remote=driver.is_remote),
            on_written=_log_skips,
            clock=timezone.now,
            presence=_presence(run_id, driver.name, driver.root),
        ).work(kind, names)
    except LeaseLostError:
        log.info("left to others", items=names)
    except MetadataImportError as error:
        journal.record_error(kind, str(error))
    except Exception as error:
        if attempts >= (RETRIES.max_attempts or 0):
            connection.close_if_unusable_or_obsolete()
            journal.record_error(kind, f"{type(error).__name__}: {' '.join(str(error).split())}.")
        raise


@app.task(queue=QUEUE, lock=QUEUE, queueing_lock=QUEUE, pass_context=True)
def coordinate(context: JobContext, *, path: str, how: dict[str, Any]) -> None:
    """Begin, share out and end a whole import. After this worker's death another one goes on with it."""
    driver = open_driver("filesystem", root=path) if path else open_storage(settings.REGISTRY_CONFIG.storage)
    options = _options(how, is_remote=driver.is_remote, again=bool(context.job.attempts))
    try:
        report = import_registry(
            driver,
            connection=connections["registry"],
            pending_migrations=_none_pending,
            options=options,
            queue=ImportTasks(options),
        )
    except MetadataImportError as error:
        log.warning("import not finished", error=str(error))
    else:
        log.warning("import ended", skips=len(report.skips), faults=report.faults, is_marked=report.is_marked)


@app.periodic(cron=EVERY_FEW_SECONDS)
@app.task(queue=QUEUE, queueing_lock="revive", pass_context=True)
async def revive(context: JobContext, timestamp: int) -> None:
    """Let others take the tasks of workers that have died."""
    log.debug("looking for tasks of dead workers", at=timestamp)
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=settings.IMPORT_GRACE_SECONDS):
        log.warning("task of a dead worker is taken up again", job=job.id)
        await manager.retry_job(job)


@lru_cache(maxsize=4)
def _driver_of(name: str, root: str) -> StorageDriver:
    """Return the storage that a run reads, as this worker is configured for it."""
    if name == "filesystem":
        return open_driver(name, root=root)
    driver = open_storage(settings.REGISTRY_CONFIG.storage)
    if (driver.name, driver.root) != (name, root):
        raise OtherStorageError(root, found=driver.root)
    return driver


@lru_cache(maxsize=1)
def _presence(_run_id: int, name: str, root: str) -> BlobPresence:
    """Return what this worker's tasks of one run know together."""
    return BlobPresence(_driver_of(name, root))


def _how(options: ImportOptions) -> dict[str, Any]:
    return {
        "mode": str(options.mode),
        "count_rows": options.count_rows,
        "strict": options.strict,
        "dynamic_media_types": options.dynamic_media_types,
        "keeps_statistics": options.keeps_statistics,
        "resume": options.resume.value,
        "skip_recent": options.skip_recent.total_seconds(),
    }


def _options(how: dict[str, Any], *, is_remote: bool, again: bool = False) -> ImportOptions:
    return ImportOptions(
        mode=Mode(how["mode"]),
        count_rows=how["count_rows"],
        strict=how["strict"],
        dynamic_media_types=how["dynamic_media_types"],
        keeps_statistics=how["keeps_statistics"],
        resume=Resume.IF_OPEN if again else Resume(how["resume"]),
        skip_recent=timedelta(seconds=how["skip_recent"]),
        reads_in_flight=reads_in_flight(is_remote=is_remote, asked=settings.IMPORT_READS_IN_FLIGHT),
        holder=holder(),
        grace_seconds=settings.IMPORT_GRACE_SECONDS,
    )


def _log_skips(increment: Increment) -> None:
    for skip in increment.skips:
        log.warning("left out", reason=str(skip.reason), path=skip.path, detail=skip.detail)


def _none_pending() -> int:
    """Tell that the schema is up to date: whoever handed the import over has looked."""
    return 0
