"""Which blobs are in common storage, learned from listings as far as one page goes, and asked one by one beyond it.

A listing of 1,000 names takes no longer than the question for one. It only ever tells that a blob is there: what came
after it is still found by a question of its own.
"""

import threading
from itertools import islice

from metadata_import import layout
from metadata_import.errors import PathNotFoundError, StorageError, UnusableContentError
from metadata_import.storage.base import FileInfo, StorageDriver

LISTED_PER_PREFIX = 1_000  # a page: it tells all of a registry below 256,000 blobs
HELD_DIGESTS = 400_000  # some 40 MB


class BlobPresence:
    """Answers for one storage; may be asked by many threads."""

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver
        self._present: set[bytes] = set()
        self._lock = threading.Lock()
        self._listed: dict[str, threading.Lock] = {}

    def is_known(self, digest: str) -> bool:
        """Tell whether a blob was found before; no request is made."""
        return bool(self._present) and layout.encode_digest(digest) in self._present

    def find(self, digest: str) -> bool:
        """Tell whether a blob's data is there. Raises StorageError where the storage does not tell."""
        self.learn(layout.blob_prefix(digest))
        if self.is_known(digest):
            return True
        if has_blob(self._driver, digest):
            if len(self._present) < HELD_DIGESTS:
                self._present.add(layout.encode_digest(digest))
            return True
        return False

    def learn(self, prefix: str) -> None:
        """List a prefix once; whoever needs the same one meanwhile waits for it."""
        with self._lock:
            first = prefix not in self._listed
            turn = self._listed.setdefault(prefix, threading.Lock())
            if first:
                turn.acquire()
        if not first:
            with turn:
                return
        try:
            files = self._driver.walk(prefix, on_error=_pass_over)
            self._present.update(filter(None, map(_encoded, islice(files, LISTED_PER_PREFIX))))
        except StorageError:
            pass  # each blob is asked for then
        finally:
            turn.release()


def has_blob(driver: StorageDriver, digest: str) -> bool:
    """Ask the storage whether a blob's data is there."""
    try:
        return not driver.stat(layout.blob_data(digest)).is_directory
    except PathNotFoundError:
        return False


def _encoded(file: FileInfo) -> bytes | None:
    try:
        return layout.encode_digest(layout.digest_from_blob_path(file.path))
    except UnusableContentError:
        return None


def _pass_over(_path: str, _error: StorageError) -> None:
    """Take an error of a listing that only saves requests."""
