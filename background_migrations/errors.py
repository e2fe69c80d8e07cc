"""What can be refused or go wrong with a background migration; each message names the thing and the next step."""

from collections.abc import Sequence


class BackgroundMigrationError(Exception):
    """Base of this app's errors; `code` is stable, the message is for people."""

    code = "background_migration"


# --- Requests that are refused before anything changes ------------------------------------------------------------


class UnknownMigrationError(BackgroundMigrationError):
    """No background migration has this name or id."""

    code = "unknown_migration"

    def __init__(self, name: str | int) -> None:
        which = f"with the id {name}" if isinstance(name, int) else repr(name)
        super().__init__(f"There is no background migration {which}; `background_migrate status` lists them.")
        self.name = name


class InvalidIdError(BackgroundMigrationError):
    """The number is larger than any id."""

    code = "invalid_id"

    def __init__(self, *, largest: int) -> None:
        super().__init__(f"No background migration has an id above {largest}.")
        self.largest = largest


class InvalidParameterError(BackgroundMigrationError):
    """A parameter of a request has a value that it cannot have."""

    code = "invalid_parameter"

    def __init__(self, name: str, *, reason: str) -> None:
        super().__init__(f"Parameter {name} {reason}.")
        self.name, self.reason = name, reason


class ParameterTypeError(InvalidParameterError):
    """A parameter of a request is not of the kind that it must be."""

    code = "parameter_type"


class InvalidTransitionError(BackgroundMigrationError):
    """The migration is not in a status that allows this move."""

    code = "invalid_transition"

    def __init__(self, name: str, *, status: str, to: str) -> None:
        super().__init__(f"Background migration {name!r} is {status}; it cannot become {to} from there.")
        self.name, self.status, self.to = name, status, to


class NothingToRetryError(BackgroundMigrationError):
    """The migration has no failed job."""

    code = "nothing_to_retry"

    def __init__(self, name: str) -> None:
        super().__init__(f"Background migration {name!r} has no failed job.")
        self.name = name


class InvalidControlError(BackgroundMigrationError):
    """A control was given a value that makes no sense."""

    code = "invalid_control"

    def __init__(self, control: str, *, value: object, reason: str) -> None:
        super().__init__(f"Control {control} cannot be {value!r}: {reason}.")
        self.control, self.value, self.reason = control, value, reason


class ControlTypeError(InvalidControlError):
    """A control was given a value of another kind than it has."""

    code = "control_type"


class ConflictingControlsError(BackgroundMigrationError):
    """Two controls contradict each other."""

    code = "conflicting_controls"

    def __init__(self, *, smallest: int, largest: int) -> None:
        super().__init__(f"Control min_batch_size cannot be {smallest} while max_batch_size is {largest}.")
        self.smallest, self.largest = smallest, largest


class UnknownWorkFunctionError(BackgroundMigrationError):
    """This release has no work function of this name."""

    code = "unknown_work_function"

    def __init__(self, name: str, *, known: Sequence[str]) -> None:
        super().__init__(f"There is no work function {name!r} in this release; it has {', '.join(sorted(known))}.")
        self.name, self.known = name, tuple(known)


class UnknownStrategyError(BackgroundMigrationError):
    """This release has no batching strategy of this name."""

    code = "unknown_batching_strategy"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no batching strategy {name!r} in this release.")
        self.name = name


class NotQueueableError(BackgroundMigrationError):
    """The work function does not say which table it is for: a schema migration queues it."""

    code = "not_queueable"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is queued by a schema migration: python manage.py database migrate up.")
        self.name = name


class AlreadyQueuedError(BackgroundMigrationError):
    """A background migration of this name exists."""

    code = "already_queued"

    def __init__(self, name: str, *, status: str) -> None:
        super().__init__(f"Background migration {name!r} is queued already; it is {status}.")
        self.name, self.status = name, status


class NothingToQueueError(BackgroundMigrationError):
    """The table that a background migration is for holds no row."""

    code = "nothing_to_queue"

    def __init__(self, name: str, *, table: str) -> None:
        super().__init__(f"{name} is not queued: {table} holds no row.")
        self.name, self.table = name, table


class GitLabWorkerError(BackgroundMigrationError):
    """GitLab's own worker would stop for ever at a work function that it does not know."""

    code = "gitlab_worker"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is not queued: the registry's own worker takes up the lowest unfinished background migration, "
            "whatever it is, and stops at a work function that it does not know; everything behind it would wait. "
            "Switch that worker off (database.backgroundmigrations.enabled: false) and give --gitlab-worker-stopped."
        )
        self.name = name


class UnusableNameError(BackgroundMigrationError):
    """The name cannot be that of a new work function."""

    code = "unusable_name"

    def __init__(self, name: str, *, reason: str) -> None:
        super().__init__(f"{name!r} cannot be the name of a background migration: {reason}.")
        self.name, self.reason = name, reason


# --- The database is not ready -------------------------------------------------------------------------------------


class TablesMissingError(BackgroundMigrationError):
    """The tables of background migrations, or our own beside them, are not there yet."""

    code = "tables_missing"

    def __init__(self, table: str, *, command: str) -> None:
        super().__init__(
            f"Table {table} is not there yet, or not as this release needs it; make it with: python manage.py {command}"
        )
        self.table, self.command = table, command


class InsufficientPrivilegeError(BackgroundMigrationError):
    """The role may not do what a worker does."""

    code = "insufficient_privilege"

    def __init__(self, role: str, *, missing: Sequence[str]) -> None:
        super().__init__(
            f"Role {role!r} may not run background migrations: it lacks {', '.join(missing)}. "
            "docs/how-to/least-privilege-roles.md says which role may."
        )
        self.role, self.missing = role, tuple(missing)


class UnsupportedServerError(BackgroundMigrationError):
    """The server is too old."""

    code = "unsupported_server"

    def __init__(self, version: str, *, minimum: int) -> None:
        super().__init__(f"PostgreSQL {minimum} or newer is needed; this server is {version}.")
        self.version, self.minimum = version, minimum


# --- A migration cannot be worked on -------------------------------------------------------------------------------


class InvalidTableError(BackgroundMigrationError):
    """The migration's table is not there, or not written as schema.table."""

    code = "invalid_table"

    def __init__(self, table: str) -> None:
        super().__init__(f"Table {table!r} does not exist, or is not written as schema.table.")
        self.table = table


class InvalidColumnError(BackgroundMigrationError):
    """A column that the migration needs is not there, or is not a whole number that batches can be cut by."""

    code = "invalid_column"

    def __init__(self, table: str, *, column: str, reason: str) -> None:
        super().__init__(f"Column {column!r} of {table} {reason}.")
        self.table, self.column, self.reason = table, column, reason


class MissingNullIndexError(BackgroundMigrationError):
    """The null strategy needs an index of the rows that are still NULL."""

    code = "missing_null_index"

    def __init__(self, table: str, *, column: str) -> None:
        super().__init__(f"Table {table} has no valid index on ({column}) WHERE {column} IS NULL.")
        self.table, self.column = table, column


class GitLabBusyError(BackgroundMigrationError):
    """GitLab's own worker is at work."""

    code = "gitlab_busy"

    def __init__(self) -> None:
        super().__init__("GitLab's own worker is running a job in this database; try again when it has ended.")


# --- A job fails ---------------------------------------------------------------------------------------------------


class ClaimLostError(BackgroundMigrationError):
    """A claim that was ours when the transaction began is not any more: a fault of the bookkeeping."""

    code = "claim_lost"

    def __init__(self, job_id: int) -> None:
        super().__init__(f"The claim on job {job_id} was lost in the middle of a transaction.")
        self.job_id = job_id


class WorkAbortedError(BackgroundMigrationError):
    """A work function raised what is meant to end a program."""

    code = "work_aborted"

    def __init__(self, error_class: str) -> None:
        super().__init__(f"The work function raised {error_class}.")
        self.error_class = error_class


class NoProgressError(BackgroundMigrationError):
    """The work function was called for NULLs and removed none."""

    code = "no_progress"

    def __init__(self, table: str, *, column: str) -> None:
        super().__init__(f"The work function changed no row, and {table} still has rows whose {column} is NULL.")
        self.table, self.column = table, column


class NoHeartbeatError(BackgroundMigrationError):
    """A worker does not show that it is alive."""

    code = "no_heartbeat"

    def __init__(self, file: str, *, reason: str) -> None:
        super().__init__(f"The worker shows no sign of life in {file}: {reason}.")
        self.file, self.reason = file, reason


class HeartbeatUnsetError(BackgroundMigrationError):
    """Nobody said where a worker shows that it is alive."""

    code = "heartbeat_unset"

    def __init__(self) -> None:
        super().__init__(
            "Set REGISTRY_BBM_HEARTBEAT_FILE to the same file for the worker and for `worker --check`, "
            "another one for each worker of a machine."
        )


class MetricsAddressError(BackgroundMigrationError):
    """The metrics of a worker cannot be served where they were asked for."""

    code = "metrics_address"

    def __init__(self, address: str, port: int, *, reason: str) -> None:
        super().__init__(f"Metrics cannot be served on {address} port {port}: {reason}. Choose another --metrics-port.")
        self.address, self.port = address, port
