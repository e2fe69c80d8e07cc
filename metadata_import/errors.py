"""What can go wrong in an import once it runs: an early end, failures of storage, and content that cannot be used."""

from typing import Any


class MetadataImportError(Exception):
    """Base of every error of this app; one can travel from process to process."""

    code = "metadata_import"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel by message and facts: the arguments that made them are not kept."""
        return _rebuild, (type(self), str(self), self.__dict__)


def _rebuild(kind: type[MetadataImportError], message: str, facts: dict[str, Any]) -> MetadataImportError:
    error = kind.__new__(kind, message)
    error.__dict__.update(facts)
    return error


class IncompleteImportError(MetadataImportError):
    """The import came to its end without items that may be sound; the lock files are as they were."""

    code = "incomplete"

    def __init__(self, left_out: int, *, dry_run: bool) -> None:
        items = f"{left_out} item{'' if left_out == 1 else 's'}, which may be sound"
        if dry_run:
            message = f"An import would leave out {items} (see the report). Mend that first; nothing was changed."
        else:
            message = (
                f"The import left out {items} (see the report). All else is imported; the storage is not marked as "
                "managed by a database. Mend that and run the same command again: what was left out is tried again."
            )
        super().__init__(message)
        self.left_out, self.dry_run = left_out, dry_run


class StrictImportError(MetadataImportError):
    """A strict import met an item that must be left out."""

    code = "strict"

    def __init__(self, reason: str, *, path: str, detail: str) -> None:
        super().__init__(
            f"{path}: {reason}{f' ({detail})' if detail else ''}. Nothing after it was imported; mend that and run the "
            "same command again, or run it without --strict, which leaves such items out."
        )
        self.reason, self.path, self.detail = reason, path, detail


class DifferencesFoundError(MetadataImportError):
    """Storage and database are not equal."""

    code = "differences_found"

    def __init__(self, count: int) -> None:
        super().__init__(f"Storage and database differ in {count:,} item{'' if count == 1 else 's'} (see the list).")
        self.count = count


class LeaseLostError(MetadataImportError):
    """Another import has taken this one for dead and taken its place."""

    code = "lease_lost"

    def __init__(self) -> None:
        super().__init__(
            "This import was silent for so long that another one has taken its place; what it had done is kept."
        )


class WorkerDiedError(MetadataImportError):
    """A process of the import ended before its work did."""

    code = "worker_died"

    def __init__(self, reason: str) -> None:
        super().__init__(f"A process of the import ended: {reason}. What was done is kept; run the same command again.")
        self.reason = reason


class TaskFailedError(MetadataImportError):
    """A worker could not do its part of a distributed import."""

    code = "task_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"A worker could not do its part: {reason} What was done is kept; run the same command again.")
        self.reason = reason


class OtherStorageError(MetadataImportError):
    """A worker's configuration names another storage than the import reads."""

    code = "other_storage"

    def __init__(self, wanted: str, *, found: str) -> None:
        super().__init__(
            f"This worker is configured for {found}, and the import reads {wanted}. "
            "Start it with the configuration of the import."
        )
        self.wanted, self.found = wanted, found


class UnmarkedStorageError(MetadataImportError):
    """All was imported, and then the lock files could not be switched."""

    code = "unmarked_storage"

    def __init__(self, path: str, *, reason: str) -> None:
        super().__init__(
            f"Everything is imported, but the storage could not be marked as managed by a database: {path}: {reason}. "
            f'Mark it by hand: delete filesystem-in-use beside that file, and write {{"version":1}} into it.'
        )
        self.path, self.reason = path, reason


class StorageError(MetadataImportError):
    """Storage could not do what was asked with one path."""

    code = "storage_unreadable"

    def __init__(self, path: str, *, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class PathNotFoundError(StorageError):
    """Nothing of the kind that was asked for is at this path."""

    code = "path_not_found"

    def __init__(self, path: str, *, reason: str = "not found") -> None:
        super().__init__(path, reason=reason)


class FileTooLargeError(StorageError):
    """The file is larger than the reader is willing to hold."""

    code = "file_too_large"

    def __init__(self, path: str, *, limit: int) -> None:
        super().__init__(path, reason=f"larger than {limit} bytes")
        self.limit = limit


class LinkedDirectoryError(StorageError):
    """A symbolic link stands where a directory is to be walked."""

    code = "symbolic_link"

    def __init__(self, path: str) -> None:
        super().__init__(path, reason="a link to a directory is not walked")


class OutsideRootError(StorageError):
    """The path leads out of the storage root, by a symbolic link or by `..`."""

    code = "outside_root"

    def __init__(self, path: str) -> None:
        super().__init__(path, reason="leads out of the storage root and is not followed")


class UnusableContentError(MetadataImportError):
    """Bytes were read but cannot be imported; its code is the reason of a skip."""

    code = "unusable_content"


class InvalidDigestError(UnusableContentError):
    """The text is no digest."""

    code = "digest_invalid"

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:100]!r} is not a digest")
        self.text = text


class DigestLengthError(UnusableContentError):
    """The digest's checksum is too long or too short for its algorithm."""

    code = "digest_length_invalid"

    def __init__(self, text: str, *, expected: int) -> None:
        super().__init__(f"{text[:200]!r} is not a digest: the checksum must have {expected} characters")
        self.text, self.expected = text, expected


class UnsupportedDigestError(UnusableContentError):
    """Registries do not know the digest's algorithm."""

    code = "digest_unsupported"

    def __init__(self, text: str) -> None:
        super().__init__(f"the algorithm of {text[:100]!r} is not supported; sha256 and sha512 are")
        self.text = text


class UnstorableDigestError(UnusableContentError):
    """Registries know the digest's algorithm, and the database has no form for it."""

    code = "digest_unstorable"

    def __init__(self, text: str) -> None:
        super().__init__(f"the database cannot hold {text[:100]!r}; sha256 and sha512 are what it can")
        self.text = text


class EmptyManifestError(UnusableContentError):
    """The payload has no bytes."""

    code = "manifest_empty"

    def __init__(self) -> None:
        super().__init__("the payload is empty")


class MalformedManifestError(UnusableContentError):
    """The payload is not the JSON that its kind of manifest requires."""

    code = "manifest_malformed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the payload is malformed: {reason}")
        self.reason = reason


class UnsupportedSchemaError(UnusableContentError):
    """The payload has another schema version than 2."""

    code = "schema_unsupported"

    def __init__(self, version: int | None) -> None:
        super().__init__(f"schema version {version} is not supported" if version is not None else "no schema version")
        self.version = version


class UnsupportedManifestError(UnusableContentError):
    """The payload is of a kind that is not imported."""

    code = "manifest_unsupported"

    def __init__(self, media_type: str) -> None:
        super().__init__(f"media type {media_type[:100]!r} is not supported")
        self.media_type = media_type


class MixedCacheIndexError(UnusableContentError):
    """The payload is an index that holds both a BuildKit cache and manifests."""

    code = "cache_index_mixed"

    def __init__(self) -> None:
        super().__init__("an index that holds a BuildKit cache may not list manifests too")


class InvalidMediaTypeError(UnusableContentError):
    """A media type that the database must hold is blank, too long or no text."""

    code = "media_type_invalid"

    def __init__(self, media_type: str) -> None:
        super().__init__(f"{media_type[:100]!r} cannot be stored as a media type")
        self.media_type = media_type
