"""What every storage driver offers. Paths are relative to its root, with `/` between names and no leading slash."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from metadata_import.errors import StorageError


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or a directory at a path."""

    path: str
    size: int
    is_directory: bool
    md5: str | None = None  # of its content in hex, where a listing tells


@dataclass(frozen=True, slots=True)
class Entry:
    """One child of a directory. A symbolic link is neither followed nor counted as a directory."""

    name: str
    is_directory: bool
    is_symbolic_link: bool = False
    size: int | None = None  # of a regular file, as the listing tells it


@dataclass(frozen=True, slots=True)
class DatedContent:
    """A file's bytes, and when they were written; None where no calendar says."""

    content: bytes
    written_at: datetime | None


class StorageDriver(Protocol):
    """Reads and writes whole files below one root, and never leaves it.

    Every method raises PathNotFoundError where no regular file or no directory is at the path, as wanted, and
    another StorageError for all other failures. Methods may be called from many threads at once. Where directories
    exist only as the beginnings of names, an empty one does not exist, save the root.
    """

    name: str
    root: str  # for messages
    # Each request takes long, and many at once take no longer; a walk costs no more than a list and tells as much.
    is_remote: bool

    def stat(self, path: str) -> FileInfo:
        """Return what is at a path."""

    def read(self, path: str, *, limit: int) -> bytes:
        """Return a file's bytes; raises FileTooLargeError when there are more than the limit."""

    def read_dated(self, path: str, *, limit: int) -> DatedContent:
        """Do as `read`, and tell when the file was written."""

    def list(self, path: str) -> Iterator[Entry]:
        """Yield a directory's children, sorted by name; a storage that lists in pages asks for them as they are used.

        Errors come with the step that meets them, so with the first one where there is no directory.
        """

    def walk(self, path: str, *, on_error: Callable[[str, StorageError], None]) -> Iterator[FileInfo]:
        """Yield every file below a directory, at any depth, in no certain order.

        What cannot be read is given to on_error with its path, and the walk goes on; only a missing
        directory at the start is raised.
        """

    def put(self, path: str, content: bytes) -> None:
        """Write a file whole, replacing what was there; readers see the old file or the new one."""

    def delete(self, path: str) -> None:
        """Delete a file; one that is not there is no error."""

    def check_writable(self, path: str) -> None:
        """Raise StorageError unless put(path) would succeed; leaves nothing behind."""
