"""Storage → a stream of records: repositories in parts, then the blobs of common storage.

Reads run in a thread pool, a bounded number of them ahead of the consumer. A bad item becomes a skip; only a
storage that cannot be read at all is raised.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, TypeVar

from metadata_import import discovery, layout
from metadata_import.discovery import Discovery
from metadata_import.errors import PathNotFoundError, StorageError, UnusableContentError
from metadata_import.manifest_reader import LINK_LIMIT_BYTES, ManifestReader
from metadata_import.prefetch import map_ahead
from metadata_import.records import Blob, BlobPart, Manifest, RepositoryPart, Skip, SkipReason, Tag
from metadata_import.storage.base import Entry, StorageDriver

TAGS_PER_PART = 100
PART_WEIGHT_LIMIT_BYTES = 16 * 1024 * 1024  # of manifests; what is left of a part is read when it is consumed

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some tags of one repository on their way through the stages."""

    repository: str
    names: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()
    skips: tuple[Skip, ...] = ()
    unread: tuple[str, ...] = ()  # digests of manifests that no earlier chunk has read
    left_out: frozenset[str] = frozenset()  # digests of those that were read and cannot be used
    manifests: tuple[Manifest, ...] = ()
    layer_access: dict[str, bool] = field(default_factory=dict)  # one for all chunks of a repository
    is_last: bool = True
    is_readable: bool = True


class Reader:
    """Reads one storage; a context manager, whose end stops its threads."""

    def __init__(self, driver: StorageDriver, *, concurrency: int) -> None:
        self._driver = driver
        # Two per thread: one being read, one ready for the thread that gets free.
        self._ahead = 2 * concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="import-read")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no further read, and wait for those that have begun; a stream under way ends with an error."""
        self._pool.shutdown(cancel_futures=True)

    def discover_repositories(self) -> Discovery:
        """Find every repository by name."""
        return discovery.discover_repositories(self._driver, executor=self._pool)

    def discover_blob_prefixes(self) -> Discovery:
        """Find the directories that share the blobs out, usually 256."""
        return discovery.discover_blob_prefixes(self._driver)

    def read_repositories(self, repositories: Iterable[str]) -> Iterator[RepositoryPart]:
        """Yield each repository in one part or more, in order; a manifest comes no later than the tags on it."""
        listed = (chunk for chunks in self._map(self._list_tags, repositories) for chunk in chunks)
        resolved = self._map(self._resolve_tags, listed)
        read = self._map(self._read_manifests, _ask_once(resolved))
        return _settle(part for chunk in read for part in self._finish(chunk))

    def read_blobs(self, prefixes: Iterable[str]) -> Iterator[BlobPart]:
        """Yield the blobs of each prefix, in order, with the sizes of their files."""
        return self._map(self._walk_blobs, prefixes)

    def _map(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
        return map_ahead(self._pool, function, items, limit=self._ahead)

    def _list_tags(self, repository: str) -> list[_Chunk]:
        path = layout.tags_directory(repository)
        try:
            entries = self._driver.list(path)
        except PathNotFoundError:
            return [_Chunk(repository)]
        except StorageError as error:
            unreadable = Skip(SkipReason.REPOSITORY_UNREADABLE, path, error.reason)
            return [_Chunk(repository, skips=(unreadable,), is_readable=False)]
        passed_over = {entry.name: skip for entry in entries if (skip := _passed_over(path, entry))}
        names = [entry.name for entry in entries if entry.name not in passed_over]
        access: dict[str, bool] = {}
        chunks = [
            _Chunk(repository, tuple(names[start : start + TAGS_PER_PART]), is_last=False, layer_access=access)
            for start in range(0, max(len(names), 1), TAGS_PER_PART)
        ]
        chunks[0] = replace(chunks[0], skips=tuple(passed_over.values()))
        chunks[-1] = replace(chunks[-1], is_last=True)
        return chunks

    def _resolve_tags(self, chunk: _Chunk) -> _Chunk:
        tags, skips = [], list(chunk.skips)
        for name in chunk.names:
            path = layout.tag_link(chunk.repository, name)
            try:
                content = self._driver.read(path, limit=LINK_LIMIT_BYTES)
                tags.append(Tag(name, layout.parse_link(content)))
            except PathNotFoundError as error:
                skips.append(Skip(SkipReason.TAG_LINK_MISSING, path, error.reason))
            except (StorageError, UnusableContentError) as error:
                skips.append(Skip(SkipReason(error.code), path, getattr(error, "reason", str(error))))
        return replace(chunk, tags=tuple(tags), skips=tuple(skips))

    def _read_manifests(self, chunk: _Chunk) -> _Chunk:
        """Read what is unread, up to the limit of weight."""
        reader = ManifestReader(self._driver, repository=chunk.repository, layer_access=chunk.layer_access)
        left_out = set(chunk.left_out)
        count = 0
        for digest in chunk.unread:
            if reader.weight > PART_WEIGHT_LIMIT_BYTES:
                break
            count += 1
            if not reader.read(digest):
                left_out.add(digest)
        return replace(
            chunk,
            unread=chunk.unread[count:],
            left_out=frozenset(left_out),
            manifests=tuple(reader.manifests.values()),
            skips=(*chunk.skips, *reader.skips),
        )

    def _finish(self, chunk: _Chunk) -> Iterator[_Chunk]:
        """Yield a chunk that is read as far as its weight allowed, then the rest of it."""
        while chunk.unread:
            yield replace(chunk, tags=(), is_last=False)
            chunk = self._read_manifests(replace(chunk, manifests=(), skips=()))
        yield chunk

    def _walk_blobs(self, prefix: str) -> BlobPart:
        blobs: list[Blob] = []
        skips: list[Skip] = []

        def skip(path: str, error: StorageError) -> None:
            skips.append(Skip(SkipReason(error.code), path, error.reason))

        try:
            for file in self._driver.walk(prefix, on_error=skip):
                if file.path.rsplit("/", 1)[-1] == layout.BLOB_FILE:
                    try:
                        blobs.append(Blob(layout.digest_from_blob_path(file.path), file.size))
                    except UnusableContentError as error:
                        skips.append(Skip(SkipReason.BLOB_PATH_INVALID, file.path, str(error)))
        except StorageError as error:
            skip(prefix, error)
        return BlobPart(tuple(blobs), tuple(skips))


def _passed_over(path: str, entry: Entry) -> Skip | None:
    if entry.is_symbolic_link:
        return Skip(SkipReason.SYMBOLIC_LINK, f"{path}/{entry.name}")
    if not entry.is_directory:
        return Skip(SkipReason.STRAY_FILE, f"{path}/{entry.name}")
    if not layout.is_storable_name(entry.name):
        return Skip(SkipReason.TAG_NAME_INVALID, f"{path}/{entry.name}")
    return None


def _ask_once(chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
    """Give each chunk the digests that no earlier chunk of its repository has asked for."""
    repository: str | None = None
    asked: set[str] = set()
    for chunk in chunks:
        if chunk.repository != repository:
            repository, asked = chunk.repository, set()
        unread = dict.fromkeys(tag.digest for tag in chunk.tags if tag.digest not in asked)
        asked.update(unread)
        yield replace(chunk, unread=tuple(unread))


def _settle(chunks: Iterable[_Chunk]) -> Iterator[RepositoryPart]:
    """Turn chunks into parts, whose tags are those with a manifest, in this part or in an earlier one."""
    repository: str | None = None
    left_out: set[str] = set()
    for chunk in chunks:
        if chunk.repository != repository:
            repository, left_out = chunk.repository, set()
        left_out |= chunk.left_out
        dangling = tuple(
            Skip(SkipReason.TAG_WITHOUT_MANIFEST, layout.tag_link(chunk.repository, tag.name), tag.digest)
            for tag in chunk.tags
            if tag.digest in left_out
        )
        yield RepositoryPart(
            path=chunk.repository,
            manifests=chunk.manifests,
            tags=tuple(tag for tag in chunk.tags if tag.digest not in left_out),
            skips=(*chunk.skips, *dangling),
            is_last=chunk.is_last,
            is_readable=chunk.is_readable,
        )
