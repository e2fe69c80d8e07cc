"""Compares a storage tree with the database, and writes to neither.

Storage is read as an import reads it, and both sides go past each other in the order of their names: what is held in
memory is one part of a repository, or the blobs of one prefix. Each repository and prefix is seen in one state of the
database, so that no transaction is long.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from heapq import merge
from itertools import chain, groupby, islice
from operator import attrgetter, itemgetter
from random import SystemRandom
from typing import TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from metadata_import import discovery, layout
from metadata_import.differences import DifferenceKind, Findings, VerifyReport
from metadata_import.importer import Progress, ignore_progress
from metadata_import.manifests import OCTET_STREAM
from metadata_import.reader import Reader
from metadata_import.records import Manifest, RepositoryPart
from metadata_import.sampling import Sample
from metadata_import.snapshots import ManifestFacts, Snapshots, StoredRepository
from metadata_import.statistics import Counts, ImportKind
from metadata_import.storage.base import StorageDriver

DIGESTS_PER_READ = 1_000
_RANDOM = SystemRandom()

_Key = TypeVar("_Key", str, bytes)
_Value = TypeVar("_Value", str, int)


def verify(
    driver: StorageDriver,
    connection: BaseDatabaseWrapper,
    *,
    concurrency: int = 8,
    sample: int | None = None,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> VerifyReport:
    """Return how storage and database differ; with `sample`, in so many repositories and prefixes of blobs at random.

    Raises RefusedError if the root cannot be read or is the wrong one, StorageError if its directories of
    repositories or blobs cannot be listed.
    """
    discovery.check_root(driver)
    with Reader(driver, concurrency=concurrency) as reader:
        return _Verification(reader, Snapshots(connection), on_progress, sample).run()


class _Verification:
    """One comparison under way."""

    def __init__(
        self, reader: Reader, snapshots: Snapshots, on_progress: Callable[[Progress], None], sample: int | None
    ) -> None:
        self._reader, self._snapshots, self._on_progress, self._sample = reader, snapshots, on_progress, sample
        self._findings = Findings()
        self._unreadable: set[str] = set()  # paths in the repository at hand of which nothing can be said

    def run(self) -> VerifyReport:
        repositories = self._reader.discover_repositories()
        prefixes = self._reader.discover_blob_prefixes()
        self._findings.add_skips((*repositories.skips, *prefixes.skips))
        self._find_extra_repositories(repositories.found)
        self._compare_repositories(self._some(repositories.found), len(repositories.found))
        self._compare_blobs(prefixes.found)
        return self._findings.report()

    def _tell(self, kind: ImportKind, done: int, total: int) -> None:
        self._on_progress(Progress(kind, done, total, Counts(**self._findings.compared)))

    def _some(self, items: Sequence[str]) -> Sequence[str]:
        """Return the items to compare: all, or a sample in the same order."""
        if self._sample is None or self._sample >= len(items):
            return items
        return [items[position] for position in sorted(_RANDOM.sample(range(len(items)), self._sample))]

    # --- Repositories ---------------------------------------------------------------------------------------------

    def _compare_repositories(self, found: Sequence[str], total: int) -> None:
        self._tell(ImportKind.REPOSITORY, 0, len(found))
        by_path = groupby(self._reader.read_repositories(found), key=attrgetter("path"))
        differing = 0
        for done, (path, parts) in enumerate(by_path, start=1):
            before = self._findings.count
            with self._snapshots.begin():
                self._compare_repository(path, parts)
            differing += self._findings.count > before
            self._tell(ImportKind.REPOSITORY, done, len(found))
        self._findings.samples.append(Sample("repositories", total, len(found), differing))

    def _find_extra_repositories(self, found: Iterable[str]) -> None:
        with self._snapshots.begin():
            stored = ((path, path) for path in self._snapshots.repository_paths())
            for path, _stored, in_storage in _aligned(stored, ((path, path) for path in found)):
                if in_storage is None:
                    self._findings.add(DifferenceKind.REPOSITORY_EXTRA, layout.repository_directory(path))

    def _compare_repository(self, path: str, parts: Iterator[RepositoryPart]) -> None:
        self._findings.compared["repositories"] += 1
        self._unreadable = set()
        repository = self._snapshots.find_repository(path)
        if repository is None:
            self._findings.add(DifferenceKind.REPOSITORY_MISSING, layout.repository_directory(path))
            return
        first = next(parts)
        if not first.is_readable:
            self._findings.add_skips(first.skips)
            return
        self._compare_tags(repository, path, chain([first], parts))
        self._compare_loose_manifests(repository, path)

    def _compare_tags(self, repository: StoredRepository, path: str, parts: Iterator[RepositoryPart]) -> None:
        def tags() -> Iterator[tuple[str, str]]:
            for part in parts:
                self._compare_part(repository, part)
                yield from ((tag.name, tag.digest) for tag in part.tags)

        for name, stored, found in _aligned(self._snapshots.tags(repository), tags()):
            self._findings.compared["tags"] += 1
            link = layout.tag_link(path, name)
            if stored is None:
                self._findings.add(DifferenceKind.TAG_MISSING, link, f"names {found}")
            elif found is None:
                if link not in self._unreadable:
                    self._findings.add(DifferenceKind.TAG_EXTRA, link, f"names {stored}")
            elif stored != found:
                self._findings.add(DifferenceKind.TAG_DIFFERS, link, f"names {stored} in the database, {found} here")

    # --- Manifests ------------------------------------------------------------------------------------------------

    def _compare_part(self, repository: StoredRepository, part: RepositoryPart) -> None:
        self._findings.add_skips(part.skips)
        self._unreadable.update(skip.path for skip in part.skips)
        self._findings.compared["manifests"] += len(part.manifests)
        stored = self._snapshots.find_manifests(repository, [manifest.digest for manifest in part.manifests])
        for manifest in part.manifests:
            link = layout.revision_link(part.path, manifest.digest)
            if not layout.is_digest_of(manifest.digest, manifest.payload):
                self._findings.add(DifferenceKind.PAYLOAD_CORRUPT, link)
            if manifest.digest in stored:
                self._compare_manifest(link, stored[manifest.digest], _facts(manifest))
            else:
                self._findings.add(DifferenceKind.MANIFEST_MISSING, link)
        for digest in self._snapshots.find_missing_links(repository, _blobs_of(part.manifests)):
            self._findings.add(DifferenceKind.LINK_MISSING, layout.layer_link(part.path, digest))

    def _compare_manifest(self, link: str, stored: ManifestFacts, found: ManifestFacts) -> None:
        for kind, fields in _COMPARED_FIELDS.items():
            for name in fields:
                in_database, here = getattr(stored, name), getattr(found, name)
                if in_database != here and not (name == "layers" and _are_like(in_database, here)):
                    self._findings.add(kind, link, _detail(name, in_database, here))

    def _compare_loose_manifests(self, repository: StoredRepository, path: str) -> None:
        """Look in storage for manifests that nothing leads to; they are sound if they lie there as they should."""
        for some in _pages(self._snapshots.loose_manifests(repository)):
            found: set[str] = set()
            for part in self._reader.read_manifests(path, some):
                self._compare_part(repository, part)
                found.update(manifest.digest for manifest in part.manifests)
            for digest in some:
                link = layout.revision_link(path, digest)
                if digest not in found:
                    self._findings.add(DifferenceKind.MANIFEST_EXTRA, link)

    # --- Blobs ----------------------------------------------------------------------------------------------------

    def _compare_blobs(self, prefixes: Iterable[str]) -> None:
        """Compare prefix by prefix, each with the blobs of the database from its first digest to the next prefix."""
        starts = {path: start for path in prefixes if (start := layout.encode_blob_prefix(path)) is not None}
        paths = sorted(starts, key=starts.__getitem__)
        lows = [b"", *(starts[path] for path in paths[1:])]
        ranges = dict(zip(paths, zip(lows, [*lows[1:], None], strict=False), strict=False))
        if not paths:
            self._compare_range([], b"", None)
        chosen = self._some(paths)
        differing = 0
        for done, part in enumerate(self._reader.read_blobs(chosen), start=1):
            low, high = ranges[part.prefix]
            before = self._findings.count
            self._findings.add_skips(part.skips)
            self._compare_range(
                sorted((layout.encode_digest(blob.digest), blob.size) for blob in part.blobs), low, high
            )
            differing += self._findings.count > before
            self._tell(ImportKind.BLOB_PREFIX, done, len(chosen))
        self._findings.samples.append(Sample("prefixes of blobs", len(paths), len(chosen), differing))

    def _compare_range(self, found: Iterable[tuple[bytes, int]], low: bytes, high: bytes | None) -> None:
        with self._snapshots.begin():
            for digest, in_database, here in _aligned(self._snapshots.blobs(low, high), found):
                self._findings.compared["blobs"] += 1
                if in_database == here:
                    continue
                path = layout.blob_data(layout.decode_digest(digest))
                if in_database is None:
                    self._findings.add(DifferenceKind.BLOB_MISSING, path)
                elif here is None:
                    self._findings.add(DifferenceKind.BLOB_EXTRA, path)
                else:
                    self._findings.add(DifferenceKind.BLOB_SIZE_DIFFERS, path, _detail("size", in_database, here))


_COMPARED_FIELDS = {
    DifferenceKind.LAYERS_DIFFER: ("layers",),
    DifferenceKind.REFERENCES_DIFFER: ("children",),
    DifferenceKind.MANIFEST_DIFFERS: tuple(
        name for name in ManifestFacts.__dataclass_fields__ if name not in ("layers", "children")
    ),
}


def _facts(manifest: Manifest) -> ManifestFacts:
    """Return what the database should hold of a manifest."""
    config = manifest.config
    layers: dict[str, str] = {}
    for layer in manifest.layers:
        layers.setdefault(layer.digest, layer.media_type)
    return ManifestFacts(
        media_type=manifest.media_type,
        schema_version=manifest.schema_version,
        payload=sha256(manifest.payload).digest(),
        total_size=manifest.total_size,
        configuration_media_type=config.media_type if config else None,
        configuration_digest=config.digest if config else None,
        configuration_payload=sha256(config.payload).digest() if config and config.payload is not None else None,
        non_conformant=manifest.non_conformant,
        non_distributable_layers=manifest.non_distributable_layers,
        artifact_media_type=manifest.artifact_media_type,
        subject=manifest.subject,
        layers=layers,
        children=frozenset(manifest.children) - {manifest.digest},  # no row may refer to itself
    )


def _blobs_of(manifests: Iterable[Manifest]) -> set[str]:
    layers = {layer.digest for manifest in manifests for layer in manifest.layers}
    return layers | {manifest.config.digest for manifest in manifests if manifest.config}


def _are_like(stored: dict[str, str], found: dict[str, str]) -> bool:
    """A layer's type may be the general one, where an import was not to create types."""
    return stored.keys() == found.keys() and all(stored[each] in (found[each], OCTET_STREAM) for each in found)


def _detail(name: str, in_database: object, here: object) -> str:
    if isinstance(in_database, int | str | None) and isinstance(here, int | str | None):
        return f"{name} {in_database} in the database, {here} here"
    return name


def _pages(digests: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(digests, DIGESTS_PER_READ)):
        yield page


def _aligned(
    stored: Iterable[tuple[_Key, _Value]], found: Iterable[tuple[_Key, _Value]]
) -> Iterator[tuple[_Key, _Value | None, _Value | None]]:
    """Go through two sorted sequences side by side; what one of them lacks is None there."""
    lefts = ((key, "stored", value) for key, value in stored)
    rights = ((key, "found", value) for key, value in found)
    for key, some in groupby(merge(lefts, rights, key=itemgetter(0)), key=itemgetter(0)):
        values = {side: value for _key, side, value in some}
        yield key, values.get("stored"), values.get("found")
