"""Reads the blobs below one prefix of common storage, all at once or part by part."""

from itertools import islice

from metadata_import import layout
from metadata_import.errors import StorageError, UnusableContentError
from metadata_import.records import Blob, BlobPart, Skip, SkipReason
from metadata_import.storage.base import FileInfo, StorageDriver

FILES_AT_ONCE = 5_000  # some 1.5 MB of records


class BlobWalk:
    """A walk that can be gone on with; each part is read in one go."""

    def __init__(self, driver: StorageDriver, prefix: str, *, at_once: int | None = FILES_AT_ONCE) -> None:
        self._prefix, self._at_once = prefix, at_once
        self._skips: list[Skip] = []
        self._files = driver.walk(prefix, on_error=self._skip)

    def step(self) -> BlobPart:
        """Return the next part: what cannot be read is a skip of it. The last one says that it is the last."""
        blobs: list[Blob] = []
        count = 0
        try:
            for file in islice(self._files, self._at_once):
                count += 1
                self._take(file, blobs)
        except StorageError as error:
            count = 0
            self._skip(self._prefix, error)
        skips, self._skips[:] = tuple(self._skips), []
        return BlobPart(self._prefix, tuple(blobs), skips, is_last=not self._at_once or count < self._at_once)

    def _take(self, file: FileInfo, blobs: list[Blob]) -> None:
        if file.path.rsplit("/", 1)[-1] == layout.BLOB_FILE:
            try:
                blobs.append(Blob(layout.digest_from_blob_path(file.path), file.size))
            except UnusableContentError as error:
                self._skips.append(Skip(SkipReason.BLOB_PATH_INVALID, file.path, str(error)))

    def _skip(self, path: str, error: StorageError) -> None:
        self._skips.append(Skip(SkipReason(error.code), path, error.reason))
