"""The steps of an import, their order and their transactions.

A full run reads each repository once and writes its manifests and its tags together, then adds the other blobs of
common storage. Reading runs ahead in threads; writing happens in the caller's thread, on the caller's connection.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import structlog
from django.db import DataError, Error, IntegrityError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from metadata_import import discovery, layout, lockfiles
from metadata_import.errors import AlreadyImportedError, PendingMigrationsError
from metadata_import.prefetch import Prefetcher
from metadata_import.reader import Reader
from metadata_import.records import BlobPart, RepositoryPart, Skip, SkipReason
from metadata_import.statistics import ImportReport, Statistics, Step, statistics_row
from metadata_import.storage.base import StorageDriver
from metadata_import.store import Store

# A transaction's worth of records. Two batches wait and one is being written, so this times three is held.
BATCH_WEIGHT_BYTES = 16 * 1024 * 1024
BATCHES_AHEAD = 2
# What takes longer to read is written at once: it shows as progress, and a crash cannot take it away.
BATCH_SECONDS = 1.0

_Part = TypeVar("_Part", RepositoryPart, BlobPart)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How to import. A dry run writes everything in one transaction and rolls it back."""

    dry_run: bool = False
    count_rows: bool = False
    concurrency: int = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is, in repositories or in prefixes of blobs."""

    step: Step
    done: int
    total: int


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
) -> ImportReport:
    """Import a storage tree into the metadata database and mark the storage as managed by it.

    The mark is left out when something may be sound and is missing nevertheless (`report.faults`), or when there is a
    warning.
    Raises RefusedError before anything is written or touched. Any later error leaves the batches that were
    committed and the lock files as they were; a dry run leaves nothing in any case.
    """
    warnings = _refuse(driver, Store(connection), pending_migrations=pending_migrations, dry_run=options.dry_run)
    statistics = Statistics(storage_driver=driver.name, dry_run=options.dry_run, clock=clock)
    run = _Run(driver, connection, options, on_progress, statistics, clock)
    log.info("import started", storage_driver=driver.name, dry_run=options.dry_run)
    try:
        table_rows = run.execute()
        is_marked = not (options.dry_run or statistics.report().faults or warnings)
        if is_marked:
            lockfiles.switch_to_database(driver)
    except BaseException as error:
        statistics.finish(error=str(error) or type(error).__name__)
        _record(statistics.report(), connection)
        raise
    report = statistics.report(warnings=warnings, table_rows=table_rows, is_marked=is_marked)
    _record(report, connection)
    log.info("import finished", seconds=report.seconds, skips=len(report.skips))
    return report


def _refuse(
    driver: StorageDriver, store: Store, *, pending_migrations: Callable[[], int], dry_run: bool
) -> tuple[str, ...]:
    """Raise RefusedError if the run must not begin; else return what the operator should know."""
    if count := pending_migrations():
        raise PendingMigrationsError(count)
    if not store.is_tags_table_empty():
        raise AlreadyImportedError
    warnings = discovery.check_root(driver)
    lockfiles.refuse_database_lock(driver)
    if not dry_run:
        lockfiles.refuse_read_only(driver)
    return warnings


def _record(report: ImportReport, connection: BaseDatabaseWrapper) -> None:
    """Write the row of the run, unless it was a dry one. The run has ended; a failure here must not hide how."""
    if report.dry_run:
        return
    try:
        connection.close_if_unusable_or_obsolete()
        Store(connection).write_statistics(statistics_row(report))
    except Error as error:
        log.warning("import statistics not written", error=str(error))


@dataclass(slots=True)
class _Run:
    """One import under way."""

    driver: StorageDriver
    connection: BaseDatabaseWrapper
    options: ImportOptions
    on_progress: Callable[[Progress], None]
    statistics: Statistics
    clock: Callable[[], datetime]
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.connection)

    def execute(self) -> dict[str, int] | None:
        """Run the steps; return the rows of the tables if they are to be counted."""
        with self._rolled_back() if self.options.dry_run else nullcontext():
            with Reader(self.driver, concurrency=self.options.concurrency) as reader:
                self._import_repositories(reader)
            with Reader(self.driver, concurrency=self.options.concurrency) as reader:
                self._import_blobs(reader)
            return self.store.count_rows() if self.options.count_rows else None

    @contextmanager
    def _rolled_back(self) -> Iterator[None]:
        with transaction.atomic(using=self.connection.alias):
            yield
            transaction.set_rollback(True, using=self.connection.alias)

    def _import_repositories(self, reader: Reader) -> None:
        self.statistics.start(Step.PRE_IMPORT, Step.TAG_IMPORT)
        discovered = reader.discover_repositories()
        self.statistics.add_skips(discovered.skips)
        done, total = 0, len(discovered.found)
        self.on_progress(Progress(Step.TAG_IMPORT, done, total))
        for batch in _read_ahead(reader, reader.read_repositories(discovered.found)):
            self._write_repositories(batch)
            done += sum(part.is_last for part in batch)
            self.on_progress(Progress(Step.TAG_IMPORT, done, total))
        self.statistics.finish()

    def _import_blobs(self, reader: Reader) -> None:
        self.statistics.start(Step.BLOB_IMPORT)
        discovered = reader.discover_blob_prefixes()
        self.statistics.add_skips(discovered.skips)
        done, total = 0, len(discovered.found)
        self.on_progress(Progress(Step.BLOB_IMPORT, done, total))
        for batch in _read_ahead(reader, reader.read_blobs(discovered.found)):
            with transaction.atomic(using=self.connection.alias):
                written = self.store.write_blobs(blob for part in batch for blob in part.blobs)
            self.statistics.add_blobs(batch, written)
            done += len(batch)
            self.on_progress(Progress(Step.BLOB_IMPORT, done, total))
        self.statistics.finish()

    def _write_repositories(self, parts: Sequence[RepositoryPart]) -> None:
        """Write these parts in one transaction, or in halves when PostgreSQL does not accept one of them."""
        try:
            with transaction.atomic(using=self.connection.alias):
                written = self.store.write_repositories(parts, published_at=self.clock())
        except (DataError, IntegrityError) as error:
            middle = len(parts) // 2
            if middle:
                self._write_repositories(parts[:middle])
                self._write_repositories(parts[middle:])
            else:
                path = layout.repository_directory(parts[0].path)
                skip = Skip(SkipReason.DATABASE_REFUSED, path, " ".join(str(error).split()))
                self.statistics.add_skips((*parts[0].skips, skip))
        else:
            self.statistics.add_repositories(parts, written)


def _read_ahead(reader: Reader, parts: Iterator[_Part]) -> Iterator[list[_Part]]:
    """Yield batches that are read while earlier ones are written; ends with its threads stopped, however it ends."""
    batches = Prefetcher(_batches(parts), limit=BATCHES_AHEAD)
    try:
        yield from batches
    finally:
        reader.stop()
        batches.close()


def _batches(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    batch: list[_Part] = []
    weight, began = 0, time.monotonic()
    for part in parts:
        batch.append(part)
        weight += part.weight
        if weight >= BATCH_WEIGHT_BYTES or time.monotonic() - began >= BATCH_SECONDS:
            yield batch
            batch, weight, began = [], 0, time.monotonic()
    if batch:
        yield batch
