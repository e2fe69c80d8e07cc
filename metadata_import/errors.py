"""What can go wrong in an import: refusals of a whole run, failures of storage, and content that cannot be used."""

from datetime import datetime
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


class RefusedError(MetadataImportError):
    """The run cannot begin; nothing was written or touched."""

    code = "refused"


class StepsRefusedError(RefusedError):
    """These steps cannot be run together."""

    code = "steps_refused"

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second} cannot be run together; without a step all three are run, in order.")


class VerifyAloneError(RefusedError):
    """A comparison was asked for together with something that concerns imports alone."""

    code = "verify_alone"

    def __init__(self, option: str) -> None:
        super().__init__(f"--verify compares and writes nothing; it cannot be combined with {option}.")
        self.option = option


class DebugServerError(RefusedError):
    """A listener for profiling was asked for."""

    code = "debug_server"

    def __init__(self) -> None:
        super().__init__(
            "--debug-server is a listener of the Go registry for its own profiler; there is none here. "
            "Leave it out; --log-to-stdout shows what the import does."
        )


class ImportRunningError(RefusedError):
    """Another import into this database is running."""

    code = "import_running"

    def __init__(self, holder: str, *, since: datetime) -> None:
        super().__init__(
            f"Another import into this database is running: {holder}, since {since:%Y-%m-%d %H:%M:%S %Z}. "
            "Wait for its end, or stop it; what it has done is kept."
        )
        self.holder, self.since = holder, since


class NothingToResumeError(RefusedError):
    """No import of this tree with these steps is open."""

    code = "nothing_to_resume"

    def __init__(self, root: str, *, mode: str) -> None:
        super().__init__(f"No unfinished import ({mode}) of {root} is recorded; run it without --resume.")
        self.root, self.mode = root, mode


class PendingMigrationsError(RefusedError):
    """The schema is not up to date."""

    code = "pending_migrations"

    def __init__(self, count: int) -> None:
        super().__init__(
            f"The database has {count} pending schema migration{'' if count == 1 else 's'}. "
            "Run `python manage.py database migrate up` first."
        )
        self.count = count


class AlreadyImportedError(RefusedError):
    """The tags table holds rows, and no unfinished import of this tree with these steps is recorded."""

    code = "already_imported"

    def __init__(self, *, open_mode: str = "") -> None:
        advice = (
            f"An import of this tree ({open_mode}) is unfinished: run that again, and it goes on."
            if open_mode
            else "To import again on purpose, empty it first (TRUNCATE tags); other rows are kept and found again."
        )
        super().__init__(f"The registry seems to be imported already: the table tags is not empty. {advice}")
        self.open_mode = open_mode


class DatabaseLockError(RefusedError):
    """The storage is marked as managed by a database."""

    code = "database_in_use"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"The storage is marked as managed by a database: {path} exists. "
            "Delete that file only if no registry uses a metadata database for this storage."
        )
        self.path = path


class UnreadableRootError(RefusedError):
    """The root directory of the storage cannot be read."""

    code = "unreadable_root"

    def __init__(self, root: str, *, reason: str) -> None:
        super().__init__(f"The storage root {root} cannot be read: {reason}. Check the path and its permissions.")
        self.root, self.reason = root, reason


class WrongRootError(RefusedError):
    """The directory given lies inside a registry's tree instead of above it."""

    code = "wrong_root"

    def __init__(self, root: str, *, expected: str) -> None:
        super().__init__(f"{root} lies inside a registry's tree; give its root directory instead: {expected}")
        self.root, self.expected = root, expected


class NotARegistryError(RefusedError):
    """The directory given holds something else than a registry's tree, or half of one."""

    code = "not_a_registry"

    def __init__(self, root: str, *, missing: str) -> None:
        super().__init__(
            f"{root} does not hold a whole registry's tree: {missing} is not there. Check the path, and whether "
            "everything is mounted."
        )
        self.root, self.missing = root, missing


class ReadOnlyStorageError(RefusedError):
    """The lock files could not be written at the end of the run."""

    code = "read_only_storage"

    def __init__(self, path: str, *, reason: str) -> None:
        super().__init__(
            f"{path} cannot be written: {reason}. A finished import marks the storage as managed by a database; "
            "make that directory writable, or look first with --dry-run, which writes nothing."
        )
        self.path, self.reason = path, reason


class UnknownStorageDriverError(RefusedError):
    """No storage driver has this name."""

    code = "unknown_storage_driver"

    def __init__(self, name: str, *, known: list[str]) -> None:
        super().__init__(f"There is no storage driver {name!r}; choose one of {', '.join(known)}.")
        self.name, self.known = name, known


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
