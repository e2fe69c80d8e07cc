"""Asks a storage far away for what is going to be needed, many requests at once.

Whatever reads manifests goes from path to path, and behind latency it would wait at each. So their paths are asked for
in rounds, as soon as they are known: manifests, then what these name. What listings have told already is not asked.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import md5
from itertools import islice

from metadata_import import layout
from metadata_import.errors import FileTooLargeError, PathNotFoundError, StorageError, UnusableContentError
from metadata_import.manifests import ParsedLayer, ParsedManifest, parse_manifest
from metadata_import.presence import BlobPresence
from metadata_import.records import Skip, SkipReason
from metadata_import.storage.base import FileInfo, StorageDriver

LINK_LIMIT_BYTES = 1024
CONFIG_PAYLOAD_LIMIT_BYTES = 256_000  # by descriptor; larger ones are not kept in the database
# Nearly every manifest and configuration is smaller; what is larger is read when it is its turn, one at a time.
CONTENT_LIMIT_BYTES = 64 * 1024
HELD_LIMIT_BYTES = 8 * 1024 * 1024  # of one part of a repository; then nothing more is asked ahead
REQUESTS_AT_ONCE = 128
# Beyond these the rest of a repository's links is read one by one: its oldest ones are likely to be of no use.
LISTED_LINKS = 5_000


@dataclass(frozen=True, slots=True)
class Links:
    """Digests whose link in a repository is known to name just them, since a listing tells what it holds."""

    revisions: frozenset[str] = frozenset()
    layers: frozenset[str] = frozenset()


NO_LINKS = Links()


def list_layers(driver: StorageDriver, repository: str) -> frozenset[str]:
    """Return the digests of layers and configurations whose links hold what they should; those that do not go on."""
    proven: set[str] = set()
    with suppress(StorageError):  # reading the others will tell what is wrong
        links = driver.walk(layout.layers_directory(repository), on_error=_pass_over)
        proven.update(digest for digest, file in _digests(islice(links, LISTED_LINKS)) if _names(file, digest))
    return frozenset(proven)


def list_proven_revisions(driver: StorageDriver, repository: str) -> tuple[list[str], list[Skip], frozenset[str]]:
    """Return the digests of all manifests that a repository has links for, what could not be listed, and which of the
    links are known to name their own digest.
    """
    root = layout.revisions_directory(repository)
    skips: list[Skip] = []

    def skip(path: str, error: StorageError) -> None:
        skips.append(Skip(SkipReason(error.code), path, error.reason))

    found: list[str] = []
    proven: set[str] = set()
    try:
        for digest, file in _digests(driver.walk(root, on_error=skip)):
            found.append(digest)
            if len(proven) < LISTED_LINKS and _names(file, digest):
                proven.add(digest)
    except PathNotFoundError:
        pass
    except StorageError as error:
        skip(root, error)
    return list(dict.fromkeys(found)), skips, frozenset(proven)


@dataclass(slots=True)
class _Wanted:
    """What to ask for in one round: contents by path, with the most that is taken of each, and blobs' presence."""

    paths: dict[str, int] = field(default_factory=dict)
    blobs: list[str] = field(default_factory=list)


class Foresight:
    """The reading side of a storage for some manifests of one repository: answers that are there, or are asked for."""

    def __init__(
        self, driver: StorageDriver, *, repository: str, links: Links, presence: BlobPresence, executor: Executor
    ) -> None:
        self._driver, self._repository, self._links = driver, repository, links
        self._presence, self._executor = presence, executor
        self._answers: dict[str, bytes | StorageError] = {}
        self._found: dict[str, bool | StorageError] = {}
        self._held = 0

    def read(self, path: str, *, limit: int) -> bytes:
        """Return a file's bytes, or raise what the storage answered when it was asked ahead."""
        if proven := self._proven(path):
            return proven.encode()
        answer = self._answers.get(path)
        if isinstance(answer, StorageError):
            raise answer
        if answer is None:
            return self._driver.read(path, limit=limit)
        if len(answer) > limit:
            raise FileTooLargeError(path, limit=limit)
        return answer

    def has_blob(self, digest: str) -> bool:
        """Tell whether a blob's data is there, as far as possible without asking again."""
        answer = self._found.get(digest)
        if isinstance(answer, StorageError):
            raise answer
        return self._presence.find(digest) if answer is None else answer

    def prepare(self, digests: Iterable[str], *, known_layers: Iterable[str] = ()) -> None:
        """Ask for these manifests and all that they lead to, round by round, within the limit of memory."""
        manifests = list(digests)
        asked, layers = set(manifests), set(known_layers)
        wanted = _Wanted()
        while (manifests or wanted.paths or wanted.blobs) and self._held < HELD_LIMIT_BYTES:
            for digest in manifests:
                link = layout.revision_link(self._repository, digest)
                self._want_link(wanted, link, digest, self._links.revisions)
                wanted.paths[layout.blob_data(digest)] = CONTENT_LIMIT_BYTES
            self._ask(wanted)
            parsed = [each for digest in manifests if (each := self._parsed(digest))]
            wanted = self._named_by(parsed, layers)
            named = dict.fromkeys(each for manifest in parsed for each in _manifests_named(manifest))
            manifests = [each for each in named if each not in asked]
            asked.update(manifests)

    def _named_by(self, parsed: Iterable[ParsedManifest], layers: set[str]) -> "_Wanted":
        wanted = _Wanted()
        for manifest in parsed:
            if manifest.config and layout.is_digest(manifest.config.digest):
                self._want_config(wanted, manifest.config)
            for layer in manifest.layers:
                if layer.digest not in layers and layout.is_digest(layer.digest):
                    layers.add(layer.digest)
                    self._want_link(
                        wanted, layout.layer_link(self._repository, layer.digest), layer.digest, self._links.layers
                    )
                    wanted.blobs.append(layer.digest)
        return wanted

    def _want_config(self, wanted: "_Wanted", config: ParsedLayer) -> None:
        link = layout.layer_link(self._repository, config.digest)
        self._want_link(wanted, link, config.digest, self._links.layers)
        if config.size <= CONFIG_PAYLOAD_LIMIT_BYTES:
            wanted.paths[layout.blob_data(config.digest)] = CONTENT_LIMIT_BYTES
        else:
            wanted.blobs.append(config.digest)

    def _want_link(self, wanted: "_Wanted", link: str, digest: str, proven: frozenset[str]) -> None:
        if digest not in proven:
            wanted.paths[link] = LINK_LIMIT_BYTES

    def _proven(self, path: str) -> str | None:
        """Return the digest that is known to be in a link."""
        directory, algorithm, checksum, name = path.rsplit("/", 3)
        digest = f"{algorithm}:{checksum}"
        is_layer = directory == layout.layers_directory(self._repository)
        known = self._links.layers if is_layer else self._links.revisions
        return digest if name == layout.LINK_FILE and digest in known else None

    def _ask(self, wanted: "_Wanted") -> None:
        prefixes = {layout.blob_prefix(digest) for digest in wanted.blobs if not self._presence.is_known(digest)}
        learned = self._executor.map(self._presence.learn, prefixes)
        unasked = [(path, limit) for path, limit in wanted.paths.items() if path not in self._answers]
        for some in _slices(unasked):
            if self._held > HELD_LIMIT_BYTES:
                break
            for (path, _), answer in zip(some, self._executor.map(self._answer, some), strict=True):
                if answer is not None:
                    self._answers[path] = answer
                    self._held += len(answer) if isinstance(answer, bytes) else 0
        deque(learned, maxlen=0)
        unknown = [digest for digest in wanted.blobs if not self._presence.is_known(digest)]
        self._found.update(zip(unknown, self._executor.map(self._find, unknown), strict=True))

    def _find(self, digest: str) -> bool | StorageError:
        try:
            return self._presence.find(digest)
        except StorageError as error:
            return error

    def _answer(self, request: tuple[str, int]) -> bytes | StorageError | None:
        path, limit = request
        try:
            return self._driver.read(path, limit=limit)
        except FileTooLargeError:
            return None  # it may be within the limit of whoever reads it
        except StorageError as error:
            return error

    def _parsed(self, digest: str) -> ParsedManifest | None:
        payload = self._answers.get(layout.blob_data(digest))
        try:
            return parse_manifest(payload) if isinstance(payload, bytes) else None
        except UnusableContentError:
            return None  # whoever reads it will find out


def _manifests_named(manifest: ParsedManifest) -> list[str]:
    return [each for each in (*manifest.children, manifest.subject) if each and layout.is_digest(each)]


def _digests(files: Iterable[FileInfo]) -> Iterator[tuple[str, FileInfo]]:
    for file in files:
        algorithm, checksum, name = file.path.rsplit("/", 3)[-3:]
        if name == layout.LINK_FILE and layout.is_digest(f"{algorithm}:{checksum}"):
            yield f"{algorithm}:{checksum}", file


def _names(file: FileInfo, digest: str) -> bool:
    return file.md5 is not None and file.md5 == md5(digest.encode(), usedforsecurity=False).hexdigest()


def _pass_over(_path: str, _error: StorageError) -> None:
    """Take an error of a listing that only saves requests."""


def _slices(items: Sequence[tuple[str, int]]) -> Iterator[Sequence[tuple[str, int]]]:
    for start in range(0, len(items), REQUESTS_AT_ONCE):
        yield items[start : start + REQUESTS_AT_ONCE]
