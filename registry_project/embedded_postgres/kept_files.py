"""Small files that must be whole or absent, whoever is killed while writing them: passwords, keys, a port."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def read_or_create(path: Path, make: Callable[[], str]) -> str:
    """Return the file's text; where there is no file, make it with the text of ``make``, for its owner alone.

    Of several processes at once one makes it, and all return the same text.
    """
    if not path.exists():
        with _written_beside(path, make()) as written, suppress(FileExistsError):
            os.link(written, path)
    return path.read_text(encoding="utf-8")


def replace(path: Path, text: str) -> None:
    """Give the file this text, readable by its owner alone; a reader sees the old text or the new one."""
    with _written_beside(path, text) as written:
        Path(written).replace(path)


def keep_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _written_beside(path: Path, text: str) -> Iterator[str]:
    descriptor, written = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield written
        keep_directory(path.parent)
    finally:
        Path(written).unlink(missing_ok=True)
