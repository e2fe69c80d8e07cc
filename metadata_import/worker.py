"""What one process does of an import: reads the items it is given, writes them in batches and records each batch.

Reading runs ahead in threads; writing happens in the caller's thread, on the caller's connection.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import TypeVar

from django.db import DataError, IntegrityError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from metadata_import import layout
from metadata_import.errors import StrictImportError
from metadata_import.journal import Done, Journal
from metadata_import.options import ImportOptions
from metadata_import.prefetch import Batches
from metadata_import.presence import BlobPresence
from metadata_import.reader import Reader
from metadata_import.records import TOLERATED, BlobPart, RepositoryPart, Skip, SkipReason, Written
from metadata_import.retrying import attempts, retried
from metadata_import.statistics import Counts, ImportKind, Mode
from metadata_import.storage.base import StorageDriver
from metadata_import.store import Store

# A transaction's worth of records. One batch is read and one written: this times two is held.
BATCH_WEIGHT_BYTES = 16 * 1024 * 1024
# So long the first records of a batch wait for more. What takes longer to read is written at once: it shows as
# progress, and a crash cannot take it away.
BATCH_SECONDS = 0.25

_Part = TypeVar("_Part", RepositoryPart, BlobPart)
AnyPart = RepositoryPart | BlobPart


@dataclass(frozen=True, slots=True)
class Increment:
    """What a batch added to a run."""

    kind: ImportKind
    done: tuple[Done, ...]
    skips: tuple[Skip, ...]

    @property
    def items(self) -> int:
        """Return how many items are done now."""
        return sum(each.is_finished for each in self.done)

    @property
    def counts(self) -> Counts:
        """Return what was visited."""
        return Counts(
            repositories=self.items if self.kind is ImportKind.REPOSITORY else 0,
            tags=sum(each.tags for each in self.done),
            manifests=sum(each.manifests for each in self.done),
            blobs=sum(each.blobs for each in self.done),
            blobs_size_bytes=sum(each.blobs_size_bytes for each in self.done),
        )


class Worker:
    """Imports what it is given, for one run."""

    def __init__(
        self,
        driver: StorageDriver,
        *,
        connection: BaseDatabaseWrapper,
        journal: Journal,
        options: ImportOptions,
        on_written: Callable[[Increment], None],
        clock: Callable[[], datetime],
        presence: BlobPresence | None = None,
    ) -> None:
        self._presence = presence
        self._driver, self._connection, self._journal, self._options = driver, connection, journal, options
        self._on_written, self._clock = on_written, clock
        self._store = Store(connection, dynamic_media_types=options.dynamic_media_types)
        self._tagged: tuple[str, set[str]] = ("", set())  # a repository and its tagged manifests so far

    def work(self, kind: ImportKind, names: Iterable[str]) -> None:
        """Import these items. Raises StrictImportError at the first that a strict import stops at."""
        with self._reader() as reader:
            if kind is ImportKind.BLOB_PREFIX:
                for blobs in _read_ahead(reader, reader.read_blob_parts(names)):
                    self._write(kind, blobs)
            elif self._options.mode is Mode.ALL_REPOSITORIES:
                self._import_tags(reader, names)
            else:
                for parts in _read_ahead(reader, reader.read_repositories(names)):
                    self._write(kind, parts)

    def _reader(self) -> Reader:
        return Reader(self._driver, concurrency=self._options.reads_in_flight, presence=self._presence)

    def _import_tags(self, reader: Reader, names: Iterable[str]) -> None:
        """Import tags on manifests that are in the database; where one is missing, read its repository whole."""
        read_whole: set[str] = set()
        for parts in _read_ahead(reader, reader.read_tags(names)):
            unknown = retried(self._connection, partial(self._store.find_unknown, parts)) - read_whole
            read_whole |= unknown
            self._write(ImportKind.REPOSITORY, [part for part in parts if part.path not in read_whole])
            if unknown:
                retried(self._connection, partial(self._journal.reset, ImportKind.REPOSITORY, unknown))
                self._tagged = ("", set())
                with self._reader() as second:
                    for more in _read_ahead(second, second.read_repositories(sorted(unknown))):
                        self._write(ImportKind.REPOSITORY, more)

    def _write(self, kind: ImportKind, parts: Sequence[AnyPart]) -> None:
        """Write these parts, or those before the first that a strict import stops at."""
        stop = self._find_stop(parts) if self._options.strict else None
        sound = parts if stop is None else parts[: stop[0]]
        if sound:
            self._write_or_halve(kind, sound)
        if stop is not None:
            raise StrictImportError(stop[1].reason, path=stop[1].path, detail=stop[1].detail)

    def _find_stop(self, parts: Sequence[AnyPart]) -> tuple[int, Skip] | None:
        skips = ((number, skip) for number, part in enumerate(parts) for skip in part.skips)
        return next(((number, skip) for number, skip in skips if skip.reason not in TOLERATED), None)

    def _refuse_strictly(self, skips: Sequence[tuple[str, Skip]]) -> None:
        """Raise StrictImportError at what only the database refused."""
        for _, skip in skips:
            if self._options.strict and skip.reason not in TOLERATED:
                raise StrictImportError(skip.reason, path=skip.path, detail=skip.detail)

    def _write_or_halve(self, kind: ImportKind, parts: Sequence[AnyPart]) -> None:
        """Write these parts in one go, or in halves when PostgreSQL does not accept one of them."""
        try:
            self._write_all(kind, parts)
        except (DataError, IntegrityError) as error:
            middle = len(parts) // 2
            if middle:
                self._write_or_halve(kind, parts[:middle])
                self._write_or_halve(kind, parts[middle:])
                return
            self._leave_out(kind, parts[0], " ".join(str(error).split()))
        if kind is ImportKind.REPOSITORY:  # a pass over blobs asks nothing of these tables
            retried(self._connection, self._store.analyze_grown)

    def _leave_out(self, kind: ImportKind, part: AnyPart, detail: str) -> None:
        path = layout.repository_directory(part.path) if isinstance(part, RepositoryPart) else part.prefix
        refused = Skip(SkipReason.DATABASE_REFUSED, path, detail)
        empty: AnyPart
        if isinstance(part, RepositoryPart):
            empty = replace(part, manifests=(), tags=(), skips=(*part.skips, refused))
        else:
            empty = replace(part, blobs=(), skips=(*part.skips, refused))
        self._commit(kind, [empty], Written)

    def _write_all(self, kind: ImportKind, parts: Sequence[AnyPart]) -> None:
        if kind is ImportKind.BLOB_PREFIX:
            blobs = [blob for part in parts if isinstance(part, BlobPart) for blob in part.blobs]
            self._commit(kind, parts, lambda: self._store.write_blobs(blobs))
            return
        repositories = [part for part in parts if isinstance(part, RepositoryPart)]
        if self._options.mode is Mode.PRE_IMPORT:
            written = [replace(part, tags=()) for part in repositories]
        else:
            written = repositories
        self._commit(kind, [], lambda: Written(self._store.write_shared(written)))
        self._commit(
            kind,
            repositories,
            lambda: self._store.write_repositories(
                written, published_at=self._clock(), publish_again=self._options.mode is not Mode.ALL_REPOSITORIES
            ),
        )

    def _commit(self, kind: ImportKind, parts: Sequence[AnyPart], write: Callable[[], Written]) -> None:
        """Write and record what these parts amount to in one transaction; a passing failure is tried again.

        A commit whose answer was lost is recognized by its record and not done twice.
        """
        batch = uuid.uuid4()
        written, before = Written(), self._tagged
        done: list[Done] = []
        for attempt in attempts(self._connection):
            with attempt, transaction.atomic(using=self._connection.alias):
                if self._journal.begin_batch(batch):
                    self._tagged = (before[0], set(before[1]))
                    written = write()
                    skips = _skips(parts, written)
                    self._refuse_strictly(skips)
                    done = self._done(parts, written)
                    self._journal.record_batch(kind, batch, done=done, rows=written.rows, now=self._clock())
                    self._journal.record_skips(kind, skips)
        if parts:
            left_out = tuple(skip for _, skip in _skips(parts, written))
            self._on_written(Increment(kind, tuple(done), left_out))

    def _done(self, parts: Sequence[AnyPart], written: Written) -> list[Done]:
        lost = {skip.path for skip in written.skips if skip.reason is SkipReason.TAG_WITHOUT_MANIFEST}
        by_name: dict[str, Done] = {}
        for part in parts:
            each = self._done_part(part, lost)
            before = by_name.get(each.name, Done(name=each.name))
            by_name[each.name] = replace(
                each,
                tags=before.tags + each.tags,
                manifests=before.manifests + each.manifests,
                blobs=before.blobs + each.blobs,
                blobs_size_bytes=before.blobs_size_bytes + each.blobs_size_bytes,
                is_finished=each.is_finished,
            )
        return list(by_name.values())

    def _done_part(self, part: AnyPart, lost: set[str]) -> Done:
        if isinstance(part, BlobPart):
            size = sum(blob.size for blob in part.blobs)
            return Done(name=part.prefix, blobs=len(part.blobs), blobs_size_bytes=size, is_finished=part.is_last)
        if self._tagged[0] != part.path:
            self._tagged = (part.path, set())
        tags = [tag for tag in part.tags if not lost or layout.tag_link(part.path, tag.name) not in lost]
        digests = {tag.digest for tag in tags} - self._tagged[1]
        self._tagged[1].update(digests)
        return Done(name=part.path, tags=len(tags), manifests=len(digests), is_finished=part.is_last)


def _skips(parts: Iterable[AnyPart], written: Written) -> list[tuple[str, Skip]]:
    found = [
        (part.path if isinstance(part, RepositoryPart) else part.prefix, skip) for part in parts for skip in part.skips
    ]
    return [*found, *((layout.repository_of(skip.path), skip) for skip in written.skips)]


def _read_ahead(reader: Reader, parts: Iterator[_Part]) -> Iterator[list[_Part]]:
    """Yield what is read while earlier parts are written; ends with its threads stopped, however it ends."""
    batches = Batches(parts, weigh=attrgetter("weight"), limit=BATCH_WEIGHT_BYTES, seconds=BATCH_SECONDS)
    try:
        yield from batches
    finally:
        reader.stop()
        batches.close()
