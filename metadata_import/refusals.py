"""Why a run does not begin: everything that is refused before anything is written or touched."""

from datetime import datetime

from metadata_import.errors import MetadataImportError


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


class DistributedDryRunError(RefusedError):
    """A dry run was asked for on many machines."""

    code = "distributed_dry_run"

    def __init__(self) -> None:
        super().__init__("A dry run is one transaction, which machines cannot share; run it without --distributed.")


class WaitAloneError(RefusedError):
    """The command was told to wait, and there is nothing to wait for."""

    code = "wait_alone"

    def __init__(self) -> None:
        super().__init__("--wait goes with --distributed; every other import waits for its end anyway.")


class ImportQueuedError(RefusedError):
    """An import was handed over to workers, and none has taken it yet."""

    code = "import_queued"

    def __init__(self) -> None:
        super().__init__(
            "An import waits for a worker already. Start one: python manage.py procrastinate worker, on any machine."
        )


class SampleAloneError(RefusedError):
    """A sample was asked for, and no comparison."""

    code = "sample_alone"

    def __init__(self) -> None:
        super().__init__("--sample says how much to compare; it goes with --verify. An import takes everything.")


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


class NoStorageError(RefusedError):
    """Nothing says which storage is meant."""

    code = "no_storage"

    def __init__(self) -> None:
        super().__init__(
            "Say which storage to read: give its root directory, or the registry's configuration with --config FILE, "
            "or the variables REGISTRY_STORAGE_…"
        )


class StorageKeyError(RefusedError):
    """A key of the storage's configuration makes no sense, or asks for what cannot be had."""

    code = "storage_key"

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key} {problem}.")
        self.key, self.problem = key, problem
