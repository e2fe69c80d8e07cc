"""Finds the repositories of a tree and the prefixes of its blobs, listing many directories at once."""

from concurrent.futures import Executor, Future
from dataclasses import dataclass
from queue import SimpleQueue

from metadata_import import layout
from metadata_import.errors import PathNotFoundError, StorageError
from metadata_import.records import Skip, SkipReason
from metadata_import.refusals import NotARegistryError, UnreadableRootError, WrongRootError
from metadata_import.storage.base import Entry, StorageDriver

VISITS_AT_ONCE = 256  # there may be 100,000 directories, and a visit that has not begun weighs a kilobyte


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found, sorted: names of repositories or paths of prefixes; and what was passed over."""

    found: tuple[str, ...]
    skips: tuple[Skip, ...]


@dataclass(frozen=True, slots=True)
class _Directory:
    """One directory below the repositories' root: a repository or not, and the directories to visit next."""

    repository: str | None = None
    children: tuple[str, ...] = ()
    skips: tuple[Skip, ...] = ()


def check_root(driver: StorageDriver) -> tuple[str, ...]:
    """Raise RefusedError if the root cannot be read or is the wrong one; return what the operator should know.

    A tree without repositories and blobs is an empty registry, and so is an empty directory.
    """
    try:
        children = frozenset(entry.name for entry in driver.list(""))
        if expected := layout.expected_root(driver.root, children=children):
            raise WrongRootError(driver.root, expected=expected)
        if not children:
            return (
                f"{driver.root} is empty; as the root of a registry that was never used it is imported as nothing.",
            )
        _refuse_half_a_tree(driver)
    except StorageError as error:
        raise UnreadableRootError(driver.root, reason=str(error) if error.path else error.reason) from error
    return ()


def _refuse_half_a_tree(driver: StorageDriver) -> None:
    """A volume that is not mounted must not pass for a registry without blobs or without repositories."""
    if not _is_there(driver, layout.VERSION_ROOT):
        raise NotARegistryError(driver.root, missing=layout.VERSION_ROOT)
    missing = [path for path in (layout.REPOSITORIES_ROOT, layout.BLOBS_ROOT) if not _is_there(driver, path)]
    if len(missing) == 1:
        raise NotARegistryError(driver.root, missing=missing[0])


def _is_there(driver: StorageDriver, path: str) -> bool:
    try:
        next(driver.list(path), None)
    except PathNotFoundError:
        return False
    return True


def discover_repositories(driver: StorageDriver, *, executor: Executor) -> Discovery:
    """Find every repository by name; a tree without the repositories' root has none.

    Raises StorageError if the root is there but cannot be listed.
    """
    found: list[str] = []
    skips: list[Skip] = []
    visited: SimpleQueue[Future[_Directory]] = SimpleQueue()
    executor.submit(_visit_root, driver).add_done_callback(visited.put)
    waiting: list[str] = []
    under_way = 1
    while under_way:
        directory = visited.get().result()
        under_way -= 1
        skips += directory.skips
        found += [directory.repository] if directory.repository else []
        waiting += directory.children
        while waiting and under_way < VISITS_AT_ONCE:
            executor.submit(_visit, driver, waiting.pop()).add_done_callback(visited.put)
            under_way += 1
    return Discovery(tuple(sorted(found)), tuple(sorted(skips, key=lambda skip: skip.path)))


def discover_blob_prefixes(driver: StorageDriver) -> Discovery:
    """Find the directories that share the blobs out; a tree without the blobs' root has none.

    Raises StorageError if the root is there but cannot be listed.
    """
    found: list[str] = []
    skips: list[Skip] = []
    algorithms, passed_over = _directories(layout.BLOBS_ROOT, _list_or_nothing(driver, layout.BLOBS_ROOT))
    skips += passed_over
    for algorithm in algorithms:
        try:
            prefixes, passed_over = _directories(algorithm, list(driver.list(algorithm)))
        except StorageError as error:
            skips.append(Skip(SkipReason(error.code), algorithm, error.reason))
        else:
            found += prefixes
            skips += passed_over
    return Discovery(tuple(found), tuple(skips))


def _visit_root(driver: StorageDriver) -> _Directory:
    entries = _list_or_nothing(driver, layout.REPOSITORIES_ROOT)
    return _look("", [entry for entry in entries if entry.name != layout.MANIFESTS_DIRECTORY])


def _visit(driver: StorageDriver, name: str) -> _Directory:
    path = layout.repository_directory(name)
    try:
        return _look(name, list(driver.list(path)))
    except StorageError as error:
        return _Directory(skips=(Skip(SkipReason(error.code), path, error.reason),))


def _look(name: str, entries: list[Entry]) -> _Directory:
    path = layout.repository_directory(name) if name else layout.REPOSITORIES_ROOT
    skips = [Skip(SkipReason.SYMBOLIC_LINK, f"{path}/{entry.name}") for entry in entries if entry.is_symbolic_link]
    has_manifests = any(entry.is_directory and entry.name == layout.MANIFESTS_DIRECTORY for entry in entries)
    if has_manifests and not layout.is_repository_name(name):
        skips.append(Skip(SkipReason.REPOSITORY_NAME_INVALID, path))
        has_manifests = False
    children = []
    for entry in entries:
        child = f"{name}/{entry.name}" if name else entry.name
        if not entry.is_directory or entry.name.startswith("_"):
            continue
        if len(child) <= layout.NAME_LENGTH_LIMIT:
            children.append(child)
        else:  # nothing below it can have a shorter name
            skips.append(Skip(SkipReason.REPOSITORY_NAME_INVALID, f"{path}/{entry.name}", "over 255 characters"))
    return _Directory(name if has_manifests else None, tuple(children), tuple(skips))


def _directories(path: str, entries: list[Entry]) -> tuple[list[str], list[Skip]]:
    """Return the paths of the directories among the entries, and skips for what might have been meant as one."""
    directories = [f"{path}/{entry.name}" for entry in entries if entry.is_directory]
    skips = [Skip(SkipReason.SYMBOLIC_LINK, f"{path}/{entry.name}") for entry in entries if entry.is_symbolic_link]
    skips += [
        Skip(SkipReason.BLOB_PATH_INVALID, f"{path}/{entry.name}")
        for entry in entries
        if entry.name == layout.BLOB_FILE and not entry.is_directory and not entry.is_symbolic_link
    ]
    return directories, skips


def _list_or_nothing(driver: StorageDriver, path: str) -> list[Entry]:
    try:
        return list(driver.list(path))
    except PathNotFoundError:
        return []
