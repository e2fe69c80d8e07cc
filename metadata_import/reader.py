"""Storage → a stream of records: repositories in parts, then the blobs of common storage.

Reads run in a thread pool, a bounded number of them ahead of the consumer. A bad item becomes a skip; only a
storage that cannot be read at all is raised.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

from metadata_import import discovery, layout
from metadata_import.blob_walk import BlobWalk
from metadata_import.discovery import Discovery
from metadata_import.errors import PathNotFoundError, StorageError, UnusableContentError
from metadata_import.foresight import LINK_LIMIT_BYTES, NO_LINKS, Foresight, Links, list_layers, list_proven_revisions
from metadata_import.manifest_reader import ManifestReader
from metadata_import.prefetch import Pace, map_ahead
from metadata_import.presence import BlobPresence, has_blob
from metadata_import.records import BlobPart, Manifest, RepositoryPart, Skip, SkipReason, Tag
from metadata_import.referrers import Referrer, find_referrers, generations, list_revisions
from metadata_import.storage.base import Entry, StorageDriver

TAGS_PER_PART = 100
REVISIONS_PER_PART = 500  # of those that are only asked for their subject
PART_WEIGHT_LIMIT_BYTES = 16 * 1024 * 1024  # of manifests; what is left of a part is read when it is consumed
# Of a remote storage four times as many parts are held.
REMOTE_PART_WEIGHT_LIMIT_BYTES = 2 * 1024 * 1024
REMOTE_PARTS = 32
REMOTE_WALKS = 64
REQUESTS_PER_PART = 4  # a part of few tags has no more of them in flight
REQUESTS_AHEAD = 2  # of those in flight

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some tags of one repository, or some of its other revisions, on their way through the stages."""

    repository: str
    names: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()
    skips: tuple[Skip, ...] = ()
    unread: tuple[str, ...] = ()  # digests of manifests that no earlier chunk has read
    left_out: frozenset[str] = frozenset()  # digests of those that were read and cannot be used
    manifests: tuple[Manifest, ...] = ()
    layer_access: dict[str, bool] = field(default_factory=dict)  # one for all chunks of a repository
    links: Links = NO_LINKS  # the same
    known: Set[str] = frozenset()  # digests of manifests that are imported already
    revisions: tuple[str, ...] = ()  # with the last tags: all digests that the repository has links for
    untagged: tuple[str, ...] = ()  # digests of manifests that are imported only if they have a subject
    referrers: tuple[Referrer, ...] = ()  # those that have one
    is_last: bool = True
    is_readable: bool = True


class Reader:
    """Reads one storage; a context manager, whose end stops its threads."""

    def __init__(self, driver: StorageDriver, *, concurrency: int, presence: BlobPresence | None = None) -> None:
        self._driver = driver
        parts = min(REMOTE_PARTS, 1 + concurrency // REQUESTS_PER_PART) if driver.is_remote else concurrency
        # Two per thread: one being read, one ready for the thread that gets free.
        self._pace = Pace(2 * parts, least=2 * parts if driver.is_remote else 1)
        self._pool = ThreadPoolExecutor(parts, thread_name_prefix="import-read")
        # Enough to have all requests in flight; what is begun later gets its turn when it can be done.
        self._requests_ahead = REQUESTS_AHEAD * concurrency if driver.is_remote else math.inf
        # What a part of a repository asks of a remote storage, many things at once; it waits for nobody else.
        self._requests = ThreadPoolExecutor(concurrency, thread_name_prefix="import-ask") if driver.is_remote else None
        self._presence = presence or BlobPresence(driver)
        self._weight_limit = REMOTE_PART_WEIGHT_LIMIT_BYTES if driver.is_remote else PART_WEIGHT_LIMIT_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no further read, and wait for those that have begun; a stream under way ends with an error."""
        if self._requests:
            self._requests.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def discover_repositories(self) -> Discovery:
        """Find every repository by name."""
        return discovery.discover_repositories(self._driver, executor=self._requests or self._pool)

    def discover_blob_prefixes(self) -> Discovery:
        """Find the directories that share the blobs out, usually 256."""
        return discovery.discover_blob_prefixes(self._driver)

    def read_repositories(self, repositories: Iterable[str]) -> Iterator[RepositoryPart]:
        """Yield each repository in one part or more, in order.

        A manifest comes no later than the tags on it and what refers to it; the tags come in the order of their names.
        """
        return self._settle(self._read_unread(_ask_once(self._resolved(repositories, with_revisions=True))))

    def read_manifests(self, repository: str, digests: Sequence[str]) -> Iterator[RepositoryPart]:
        """Yield these manifests, whatever leads to them, and what they lead to themselves."""
        return map(_part, self._read_unread([_Chunk(repository, unread=tuple(some)) for some in _slices(digests)]))

    def read_tags(self, repositories: Iterable[str]) -> Iterator[RepositoryPart]:
        """Yield each repository with its tags alone, whether their manifests can be read or not."""
        return map(_part, self._resolved(repositories, with_revisions=False))

    def read_blobs(self, prefixes: Iterable[str]) -> Iterator[BlobPart]:
        """Yield the blobs of each prefix, in order, with the sizes of their files."""
        return self._map(self._walk_blobs, prefixes)

    def read_blob_parts(self, prefixes: Iterable[str]) -> Iterator[BlobPart]:
        """Yield the blobs of each prefix in parts that are not large, in any order but the last of each one last."""
        if not self._requests:
            yield from self.read_blobs(prefixes)
            return
        waiting = iter(prefixes)
        walks = (BlobWalk(self._driver, prefix) for prefix in waiting)
        begun = {self._requests.submit(walk.step): walk for walk in islice(walks, REMOTE_WALKS)}
        while begun:
            done, _ = wait(begun, return_when=FIRST_COMPLETED)
            for future in done:
                walk, part = begun.pop(future), future.result()
                following = next(walks, None) if part.is_last else walk
                if following:
                    begun[self._requests.submit(following.step)] = following
                yield part

    def _map(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
        return map_ahead(self._pool, function, items, pace=self._pace)

    def _map_chunks(self, function: Callable[[_Chunk], _Chunk], chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
        return map_ahead(self._pool, function, chunks, pace=self._pace, weigh=_requests_of, limit=self._requests_ahead)

    def _resolved(self, repositories: Iterable[str], *, with_revisions: bool) -> Iterator[_Chunk]:
        chunks = self._map(partial(self._list_repository, with_revisions=with_revisions), repositories)
        return self._map_chunks(self._resolve_tags, (chunk for listed in chunks for chunk in listed))

    def _list_repository(self, repository: str, *, with_revisions: bool) -> list[_Chunk]:
        path = layout.tags_directory(repository)
        entries: list[Entry] = []
        try:
            entries += self._driver.list(path)
        except PathNotFoundError:
            pass  # a repository without tags
        except StorageError as error:
            unreadable = Skip(SkipReason.REPOSITORY_UNREADABLE, path, error.reason)
            return [_Chunk(repository, skips=(unreadable,), is_readable=False)]
        passed_over = {entry.name: skip for entry in entries if (skip := _passed_over(path, entry))}
        names = [entry.name for entry in entries if entry.name not in passed_over]
        revisions, skips, links = self._list_links(repository) if names and with_revisions else ([], [], NO_LINKS)
        access: dict[str, bool] = {}
        chunks = [
            _Chunk(repository, tuple(some), is_last=False, layer_access=access, links=links)
            for some in _slices(names) or [[]]
        ]
        chunks[0] = replace(chunks[0], skips=(*passed_over.values(), *skips))
        chunks[-1] = replace(chunks[-1], is_last=True, revisions=tuple(revisions))
        return chunks

    def _list_links(self, repository: str) -> tuple[list[str], list[Skip], Links]:
        """Return a repository's revisions, what could not be listed, and what listings tell of the links."""
        if not self._requests:
            return *list_revisions(self._driver, repository), NO_LINKS
        layers = self._requests.submit(list_layers, self._driver, repository)
        revisions, skips, proven = list_proven_revisions(self._driver, repository)
        return revisions, skips, Links(proven, layers.result())

    def _each(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterable[_Out]:
        """Do one request for each of these: all at once where they take long."""
        return self._requests.map(function, items) if self._requests else map(function, items)

    def _resolve_tags(self, chunk: _Chunk) -> _Chunk:
        found = list(self._each(partial(self._resolve_tag, chunk.repository), chunk.names))
        tags = tuple(each for each in found if isinstance(each, Tag))
        skips = tuple(each for each in found if isinstance(each, Skip))
        return replace(chunk, tags=tags, skips=(*chunk.skips, *skips))

    def _resolve_tag(self, repository: str, name: str) -> Tag | Skip:
        path = layout.tag_link(repository, name)
        try:
            link = self._driver.read_dated(path, limit=LINK_LIMIT_BYTES)
            return Tag(name, layout.parse_link(link.content), link.written_at)
        except PathNotFoundError as error:
            return Skip(SkipReason.TAG_LINK_MISSING, path, error.reason)
        except (StorageError, UnusableContentError) as error:
            return Skip(SkipReason(error.code), path, getattr(error, "reason", str(error)))

    def _read_manifests(self, chunk: _Chunk) -> _Chunk:
        """Read what is unread, up to the limit of weight."""
        if chunk.untagged:
            referrers, skips = self._find_referrers(chunk.untagged)
            return replace(chunk, referrers=tuple(referrers), skips=tuple(skips))
        reader = self._manifest_reader(chunk)
        left_out = set(chunk.left_out)
        count = 0
        for digest in chunk.unread:
            if reader.weight > self._weight_limit:
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

    def _manifest_reader(self, chunk: _Chunk) -> ManifestReader:
        source: Foresight | StorageDriver = self._driver
        asks: Callable[[str], bool] = partial(has_blob, self._driver)
        if self._requests:
            source = Foresight(
                self._driver,
                repository=chunk.repository,
                links=chunk.links,
                presence=self._presence,
                executor=self._requests,
            )
            asks = source.has_blob
            source.prepare(chunk.unread, known_layers=tuple(chunk.layer_access))
        return ManifestReader(
            source, asks, repository=chunk.repository, layer_access=chunk.layer_access, known=chunk.known
        )

    def _find_referrers(self, digests: Sequence[str]) -> tuple[list[Referrer], list[Skip]]:
        found = list(self._each(partial(find_referrers, self._driver), [[digest] for digest in digests]))
        return [each for some, _ in found for each in some], [skip for _, some in found for skip in some]

    def _finish(self, chunk: _Chunk) -> Iterator[_Chunk]:
        """Yield a chunk that is read as far as its weight allowed, then the rest of it."""
        while chunk.unread:
            yield replace(chunk, tags=(), is_last=False)
            chunk = self._read_manifests(replace(chunk, manifests=(), skips=()))
        yield chunk

    def _settle(self, chunks: Iterable[_Chunk]) -> Iterator[RepositoryPart]:
        """Turn chunks into parts, whose tags are those with a manifest; then add what refers to the repository."""
        left_out: set[str] = set()
        imported: set[str] = set()
        referrers: list[Referrer] = []
        ready: list[RepositoryPart] = []  # at most one, until it is known whether it is the repository's last
        for chunk in chunks:
            left_out |= chunk.left_out
            imported.update(manifest.digest for manifest in chunk.manifests)
            referrers += chunk.referrers
            if chunk.skips or not chunk.untagged:
                yield from ready
                ready = [_part(replace(chunk, is_last=False), left_out=left_out)]
            if chunk.is_last:
                for part in self._read_referrers(chunk, referrers, imported):
                    yield from ready
                    ready = [part]
                yield replace(ready.pop(), is_last=True)
                left_out, imported, referrers = set(), set(), []

    def _read_referrers(
        self, last: _Chunk, referrers: Sequence[Referrer], imported: set[str]
    ) -> Iterator[RepositoryPart]:
        for generation in generations(referrers, imported=imported):
            chunks = [
                _Chunk(
                    last.repository,
                    unread=tuple(some),
                    layer_access=last.layer_access,
                    links=last.links,
                    known=imported,
                )
                for some in _slices(generation)
            ]
            for chunk in self._read_unread(chunks):
                yield _part(replace(chunk, is_last=False))
                imported.update(manifest.digest for manifest in chunk.manifests)

    def _read_unread(self, chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
        return (whole for chunk in self._map_chunks(self._read_manifests, chunks) for whole in self._finish(chunk))

    def _walk_blobs(self, prefix: str) -> BlobPart:
        return BlobWalk(self._driver, prefix, at_once=None).step()


def _passed_over(path: str, entry: Entry) -> Skip | None:
    if entry.is_symbolic_link:
        return Skip(SkipReason.SYMBOLIC_LINK, f"{path}/{entry.name}")
    if not entry.is_directory:
        return Skip(SkipReason.STRAY_FILE, f"{path}/{entry.name}")
    if not layout.is_storable_name(entry.name):
        return Skip(SkipReason.TAG_NAME_INVALID, f"{path}/{entry.name}")
    return None


def _ask_once(chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
    """Give each chunk the digests that no earlier chunk of its repository has asked for; revisions that are left over
    follow in chunks of their own.
    """
    asked: set[str] = set()
    for chunk in chunks:
        unread = dict.fromkeys(tag.digest for tag in chunk.tags if tag.digest not in asked)
        asked.update(unread)
        left_over = [digest for digest in chunk.revisions if digest not in asked]
        yield replace(chunk, unread=tuple(unread), revisions=(), is_last=chunk.is_last and not left_over)
        for start in range(0, len(left_over), REVISIONS_PER_PART):
            untagged = tuple(left_over[start : start + REVISIONS_PER_PART])
            is_last = start + REVISIONS_PER_PART >= len(left_over)
            yield replace(
                chunk, names=(), tags=(), skips=(), unread=(), revisions=(), untagged=untagged, is_last=is_last
            )
        if chunk.is_last:
            asked = set()


def _part(chunk: _Chunk, *, left_out: Set[str] = frozenset()) -> RepositoryPart:
    dangling = tuple(
        Skip(SkipReason.TAG_WITHOUT_MANIFEST, layout.tag_link(chunk.repository, tag.name), tag.digest)
        for tag in chunk.tags
        if tag.digest in left_out
    )
    return RepositoryPart(
        path=chunk.repository,
        manifests=chunk.manifests,
        tags=tuple(tag for tag in chunk.tags if tag.digest not in left_out) if dangling else chunk.tags,
        skips=(*chunk.skips, *dangling),
        is_last=chunk.is_last,
        is_readable=chunk.is_readable,
    )


def _requests_of(chunk: _Chunk) -> int:
    return len(chunk.names or chunk.untagged or chunk.unread)


def _slices(items: Sequence[str]) -> list[Sequence[str]]:
    return [items[start : start + TAGS_PER_PART] for start in range(0, len(items), TAGS_PER_PART)]
