"""A whole import: may it begin, does it go on with an earlier one, its passes in order, and how it ends.

A full run reads each repository once and writes its manifests and its tags together, then adds the other blobs of
common storage. What is done is known from the journal alone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog
from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from structlog.contextvars import get_contextvars

from metadata_import import discovery, lockfiles, runs
from metadata_import.discovery import Discovery
from metadata_import.distribution import Distribution, TaskQueue
from metadata_import.errors import LeaseLostError, MetadataImportError, StorageError, StrictImportError
from metadata_import.journal import Journal
from metadata_import.lease import Lease
from metadata_import.models import ImportRun, ImportStatus
from metadata_import.options import ImportOptions
from metadata_import.processes import Pool, Share
from metadata_import.reader import Reader
from metadata_import.records import TOLERATED, Skip
from metadata_import.refusals import PendingMigrationsError
from metadata_import.retrying import attempts, retried
from metadata_import.runs import Opened
from metadata_import.statistics import (
    Counts,
    ImportKind,
    ImportReport,
    Mode,
    Step,
    StepTimes,
    count_skips,
    statistics_row,
)
from metadata_import.storage.base import StorageDriver
from metadata_import.store import Store
from metadata_import.worker import Increment, Worker

T = TypeVar("T")

# A process of its own takes a second to start: less than so many items are not worth it, and no blobs are whose
# repositories, which take longer, were done by one process in so short a time.
ITEMS_PER_PROCESS = 25
SHORT = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: items of the present kind, and what this attempt has visited."""

    kind: ImportKind
    done: int
    total: int
    counts: Counts = field(default_factory=Counts)
    kinds: tuple[ImportKind, ...] = tuple(ImportKind)  # that the run goes through, in order
    is_idle: bool = False  # it is shared out, and nobody is there to take a share


def ignore_progress(_progress: Progress) -> None:
    """Take progress from an import that nobody watches."""


def import_registry(
    driver: StorageDriver,
    *,
    connection: BaseDatabaseWrapper,
    pending_migrations: Callable[[], int],
    options: ImportOptions,
    on_progress: Callable[[Progress], None] = ignore_progress,
    clock: Callable[[], datetime] = timezone.now,
    queue: TaskQueue | None = None,
) -> ImportReport:
    """Import a storage tree into the metadata database; where tags were imported, mark the storage as managed by it.

    Goes on with an unfinished import of the same tree and steps. The mark is left out when something may be sound and
    is missing nevertheless (`report.faults`), or when there is a warning.
    With a queue, whoever takes its tasks imports the items; here the run is planned, watched and ended.
    Raises RefusedError before anything is written or touched. After any later error the same call goes on where this
    one ended; a dry run leaves nothing in any case.
    """
    if count := pending_migrations():
        raise PendingMigrationsError(count)
    warnings = discovery.check_root(driver)
    undone = _rolled_back(connection) if options.dry_run else nullcontext()
    with Lease(connection, holder=options.holder, grace=options.grace_seconds) as lease, undone:
        opened = runs.open_run(driver, connection=connection, options=options, now=clock())
        journal = Journal(connection, run_id=opened.run.pk, token=lease.token)
        return _Run(driver, connection, options, on_progress, clock, opened, journal, warnings, queue).execute()


def check_import(
    driver: StorageDriver,
    *,
    connection: BaseDatabaseWrapper,
    pending_migrations: Callable[[], int],
    options: ImportOptions,
) -> None:
    """Raise RefusedError where an import would, and leave everything as it is."""
    if count := pending_migrations():
        raise PendingMigrationsError(count)
    discovery.check_root(driver)
    with Lease(connection, holder=options.holder, grace=options.grace_seconds), _rolled_back(connection):
        runs.open_run(driver, connection=connection, options=options, now=timezone.now())


@contextmanager
def _rolled_back(connection: BaseDatabaseWrapper) -> Iterator[None]:
    with transaction.atomic(using=connection.alias):
        yield
        transaction.set_rollback(True, using=connection.alias)


@dataclass(slots=True)
class _Run:
    """One attempt at an import."""

    driver: StorageDriver
    connection: BaseDatabaseWrapper
    options: ImportOptions
    on_progress: Callable[[Progress], None]
    clock: Callable[[], datetime]
    opened: Opened
    journal: Journal
    warnings: tuple[str, ...]
    queue: TaskQueue | None
    recent: int = 0
    counted_before: Counts = field(init=False)
    began: float = field(default_factory=time.monotonic)
    seconds: dict[ImportKind, float] = field(default_factory=dict)
    ending: ExitStack = field(default_factory=ExitStack)
    pool: Pool | None = None
    log: structlog.stdlib.BoundLogger = field(init=False)

    def __post_init__(self) -> None:
        steps = self.options.mode.steps
        self.log = structlog.get_logger(__name__).bind(
            pre_import=Step.PRE_IMPORT in steps,
            repository_import=Step.TAG_IMPORT in steps,
            common_blobs=Step.BLOB_IMPORT in steps,
            dry_run=self.options.dry_run,
        )

    @property
    def record(self) -> ImportRun:
        """The run's row."""
        return self.opened.run

    def execute(self) -> ImportReport:
        """Do what is left to do; whatever happens, record how it ended."""
        self.log.info(
            "import started", root=self.driver.root, mode=str(self.options.mode), attempt=self.record.attempts
        )
        try:
            self._retried(lambda: self.journal.reopen(self.opened.retried))
            self.counted_before = self._retried(self.journal.count)
            with self.ending:
                for kind in self.options.mode.kinds:
                    self._pass(kind)
            report = self._retried(self._report)
            if not (self.options.dry_run or report.faults or self.warnings):
                self._mark()
        except BaseException as error:
            self._fail(error)
            raise
        return self._finish()

    def _pass(self, kind: ImportKind) -> None:
        """Find the items of one kind and import those that are not done."""
        began = time.monotonic()
        self._retried(lambda: runs.start_pass(self.record, kind, now=self.clock()))
        self._plan(kind)
        pending = self._retried(lambda: self.journal.pending(kind))
        _, total = self._retried(lambda: self.journal.count_items(kind))
        progress = Progress(kind, total - len(pending), total, kinds=self.options.mode.kinds)
        self.on_progress(progress)
        try:
            self._work(kind, pending, progress)
        finally:
            self.seconds[kind] = time.monotonic() - began
        self._retried(lambda: runs.finish_pass(self.record, kind, now=self.clock()))

    def _plan(self, kind: ImportKind) -> None:
        with Reader(self.driver, concurrency=self.options.reads_in_flight) as reader:
            found = _discover(reader, kind)
        if self.options.strict:
            _refuse_any(found.skips)
        names = set(found.found)
        if self.options.mode is Mode.PRE_IMPORT and self.options.skip_recent:
            since = self.clock() - self.options.skip_recent
            recent = self._retried(lambda: self.journal.recent(since)) & names
            names, self.recent = names - recent, len(recent)
            self.log.info("repositories skipped as recent", count=self.recent, skip_cutoff_date=since.isoformat())
        for attempt in attempts(self.connection):
            with attempt, transaction.atomic(using=self.connection.alias):
                self.journal.plan(kind, names)
                self.journal.record_skips(kind, [("", skip) for skip in found.skips])

    def _work(self, kind: ImportKind, names: Sequence[str], progress: Progress) -> None:
        if self.queue is not None:
            self._distribute(self.queue, kind, names, progress)
            return
        counts, done = Counts(), progress.done

        def tell(increment: Increment) -> None:
            nonlocal counts, done
            counts, done = counts + increment.counts, done + increment.items
            self._log_batch(increment)
            self.on_progress(Progress(kind, done, progress.total, counts, progress.kinds))

        self._hands(len(names), tell)(kind, names)

    def _distribute(self, queue: TaskQueue, kind: ImportKind, names: Sequence[str], progress: Progress) -> None:
        """Let tasks do the work, and tell of it as the journal does."""
        before = self._retried(self.journal.count)

        def look(done: int, is_idle: bool) -> None:
            counts = self._retried(self.journal.count) - before
            self.on_progress(replace(progress, done=done, counts=counts, is_idle=is_idle))

        distribution = Distribution(queue, self.journal, connection=self.connection, run_id=self.record.pk)
        distribution.work(kind, names, on_look=look)

    def _log_batch(self, increment: Increment) -> None:
        """Tell of what is done, in this process alone, so that a log has one writer."""
        for skip in increment.skips:
            self.log.warning("left out", reason=str(skip.reason), path=skip.path, detail=skip.detail)
        for each in increment.done:
            if not each.is_finished:
                continue
            if increment.kind is ImportKind.REPOSITORY:
                self.log.info("repository finished", repository=each.name, count=each.tags, manifests=each.manifests)
            else:
                self.log.info("blob prefix finished", prefix=each.name, blobs=each.blobs, size=each.blobs_size_bytes)

    def _hands(self, items: int, tell: Callable[[Increment], None]) -> Callable[[ImportKind, Sequence[str]], None]:
        """Return what does the work: processes that live until the end of the run, or this one."""
        began, ended = runs.times_of(self.record, Step.TAG_IMPORT)  # no end while they are at work
        alone = self.options.dry_run or (began and ended and ended - began < SHORT)
        count = 1 if alone else min(self.options.concurrency, items // ITEMS_PER_PROCESS)
        if count > 1 and self.pool is None:
            parameters = dict(self.connection.settings_dict)
            alias, token = self.connection.alias, self.journal.token
            share = Share(self.driver, self.options, self.record.pk, token, alias, parameters, get_contextvars())
            self.pool = self.ending.enter_context(Pool(share, count=count))
        if self.pool is not None:
            return partial(self.pool.work, on_written=tell)
        return Worker(
            self.driver,
            connection=self.connection,
            journal=self.journal,
            options=self.options,
            on_written=tell,
            clock=self.clock,
        ).work

    def _mark(self) -> None:
        if self.options.mode.writes_tags:
            lockfiles.switch_to_database(self.driver)
            self.record.is_marked = True

    def _finish(self) -> ImportReport:
        """Record the end of a run that came to it, with nothing asynchronous before it."""
        report = self._retried(lambda: self._report(with_rows=True))
        complete = not report.faults
        if not complete:
            self._unmark()
        status = ImportStatus.FINISHED if complete else ImportStatus.FAILED
        error = "" if complete else f"{report.faults} items left out, which may be sound"
        self._retried(lambda: runs.keep_report(self.record, report))
        self._retried(lambda: runs.end(self.record, status, now=self.clock(), error=error))
        self._write_statistics(report)
        counts = report.counts
        self.log.info(
            "import finished",
            duration_s=round(report.seconds, 3),
            repositories=counts.repositories,
            manifests=counts.manifests,
            tags=counts.tags,
            blobs=counts.blobs,
            skips=len(report.skips),
            faults=report.faults,
        )
        return report

    def _fail(self, error: BaseException) -> None:
        """Record an end before its time. That must not hide the error, whatever becomes of it."""
        text = str(error) or type(error).__name__
        if isinstance(error, Exception):
            foreseen = isinstance(error, MetadataImportError)
            self.log.error("import failed", error=text, exc_info=None if foreseen else error)
        else:
            self.log.warning("import interrupted", error=text)
        if self.options.dry_run or isinstance(error, LeaseLostError):
            return  # nothing is left of the one, and the other's run is somebody else's now
        self._unmark()
        status = ImportStatus.FAILED if isinstance(error, Exception) else ImportStatus.INTERRUPTED
        try:
            self.connection.close_if_unusable_or_obsolete()
            runs.end(self.record, status, now=self.clock(), error=text)
            report = self._report(error=text)
            runs.keep_report(self.record, report)
            self._write_statistics(report)
        except Error as failure:
            self.log.warning("end of import not recorded", error=str(failure))

    def _retried(self, work: Callable[[], T]) -> T:
        return retried(self.connection, work)

    def _unmark(self) -> None:
        if self.options.mode.writes_tags and not self.options.dry_run:
            with suppress(StorageError):
                lockfiles.switch_to_filesystem(self.driver)

    def _report(self, *, error: str | None = None, with_rows: bool = False) -> ImportReport:
        counts, skips = self.journal.count(), self.journal.skips()
        return ImportReport(
            storage_driver=self.driver.name,
            root=self.driver.root,
            mode=self.options.mode,
            dry_run=self.options.dry_run,
            attempts=self.record.attempts,
            started_at=self.record.started_at,
            finished_at=self.clock(),
            seconds=time.monotonic() - self.began,
            steps=tuple(self._step_times(error)),
            counts=counts,
            newly_counted=counts - self.counted_before,
            inserted_rows=self.journal.inserted_rows(),
            skip_counts=count_skips(skips),
            skips=skips,
            recent_repositories=self.recent,
            table_rows=Store(self.connection).count_rows() if with_rows and self.options.count_rows else None,
            warnings=self.warnings,
            is_marked=self.record.is_marked,
        )

    def _step_times(self, error: str | None) -> Iterator[StepTimes]:
        """Yield the times of each step that began; an error is that of the last."""
        begun = [step for step in self.options.mode.steps if runs.times_of(self.record, step)[0]]
        for step in begun:
            started, finished = runs.times_of(self.record, step)
            failed = error if error is not None and (finished is None or step is begun[-1]) else None
            if started:
                kind = ImportKind.BLOB_PREFIX if step is Step.BLOB_IMPORT else ImportKind.REPOSITORY
                end = self.clock() if failed else finished
                yield StepTimes(step, started, end, failed, self.seconds.get(kind, 0.0))

    def _write_statistics(self, report: ImportReport) -> None:
        """Write the row of the run, unless it was a dry one. The run has ended; a failure must not hide how."""
        if self.options.dry_run or not self.options.keeps_statistics:
            return
        try:
            Store(self.connection).write_statistics(statistics_row(report))
        except Error as error:
            self.log.warning("import statistics not written", error=str(error))


def _discover(reader: Reader, kind: ImportKind) -> Discovery:
    return reader.discover_repositories() if kind is ImportKind.REPOSITORY else reader.discover_blob_prefixes()


def _refuse_any(skips: Sequence[Skip]) -> None:
    for skip in skips:
        if skip.reason not in TOLERATED:
            raise StrictImportError(skip.reason, path=skip.path, detail=skip.detail)
