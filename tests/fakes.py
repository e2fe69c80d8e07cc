"""Stand-ins: for what the tests watch, recording what they are told, and for storage, in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from metadata_import.errors import FileTooLargeError, OutsideRootError, PathNotFoundError, StorageError
from metadata_import.storage.base import DatedContent, Entry, FileInfo
from schema_migrations.planner import Step
from schema_migrations.watcher import IndexBuild


@dataclass
class RecordingReporter:
    """A migrator's reporter that remembers."""

    holders: list[str] = field(default_factory=list)
    blockers: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    builds: list[IndexBuild] = field(default_factory=list)

    def waiting(self, holder: str) -> None:
        self.holders.append(holder)

    def planned(self, steps: Sequence[Step]) -> None:
        pass

    def finished(self, step: Step, *, seconds: float) -> None:
        self.run.append(step.known.id)

    def retrying(self, step: Step, *, blockers: str, pause_seconds: float) -> None:
        self.blockers.append(blockers)

    def blocked(self, blockers: str) -> None:
        self.seen.append(blockers)

    def building(self, build: IndexBuild) -> None:
        self.builds.append(build)


@dataclass
class MemoryDriver:
    """A storage driver over a dictionary, which behaves as object stores do: it has names, and no directories."""

    files: dict[str, bytes] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # path → why nothing can be read there
    page_size: int = 2
    pages: int = 0  # asked for so far
    written_at: datetime | None = None  # every file
    name: str = "memory"
    root: str = "memory:"
    is_remote: bool = False

    def stat(self, path: str) -> FileInfo:
        self._check(path)
        if path in self.files:
            return FileInfo(path, len(self.files[path]), is_directory=False)
        next(self.list(path))
        return FileInfo(path, 0, is_directory=True)

    def read(self, path: str, *, limit: int) -> bytes:
        self._check(path)
        if path not in self.files:
            raise PathNotFoundError(path)
        if len(self.files[path]) > limit:
            raise FileTooLargeError(path, limit=limit)
        return self.files[path]

    def read_dated(self, path: str, *, limit: int) -> DatedContent:
        return DatedContent(self.read(path, limit=limit), self.written_at)

    def list(self, path: str) -> Iterator[Entry]:
        self._check(path)
        start = f"{path}/" if path else ""
        names = sorted({name.removeprefix(start).split("/")[0] for name in self.files if name.startswith(start)})
        if path and not names:
            raise PathNotFoundError(path)
        for number, name in enumerate(names):
            self.pages += number % self.page_size == 0
            content = self.files.get(start + name)
            yield Entry(name, is_directory=content is None, size=None if content is None else len(content))

    def walk(self, path: str, *, on_error: Callable[[str, StorageError], None]) -> Iterator[FileInfo]:
        next(self.list(path), None)
        for name, content in sorted(self.files.items()):
            if name.startswith(f"{path}/" if path else ""):
                try:
                    self._check(name)
                except StorageError as error:
                    on_error(name, error)
                else:
                    yield FileInfo(name, len(content), is_directory=False)

    def put(self, path: str, content: bytes) -> None:
        self._check(path)
        self.files[path] = content

    def delete(self, path: str) -> None:
        self._check(path)
        self.files.pop(path, None)

    def check_writable(self, path: str) -> None:
        self._check(path)

    def _check(self, path: str) -> None:
        if ".." in path.split("/"):
            raise OutsideRootError(path)
        if path in self.broken:
            raise StorageError(path, reason=self.broken[path])
