"""What can be refused or go wrong with a schema migration; each message names the thing and the next step."""

from collections.abc import Sequence


class SchemaMigrationError(Exception):
    """Base of this app's errors; `code` is stable, the message is for people."""

    code = "schema_migration"


# --- Declarations: found while loading, before any database is asked ----------------------------------------------


class MalformedMigrationError(SchemaMigrationError):
    """A file among the schema migrations does not declare one."""

    code = "malformed_migration"

    def __init__(self, path: str, *, reason: str) -> None:
        super().__init__(f"Schema migration file {path}: {reason}")
        self.path, self.reason = path, reason


class DuplicateVersionError(SchemaMigrationError):
    """Two schema migrations carry the same version number."""

    code = "duplicate_version"

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"Schema migrations {first} and {second} have the same version number; rename one of them.")
        self.first, self.second = first, second


class UnknownRequirementError(SchemaMigrationError):
    """A schema migration requires one that does not exist."""

    code = "unknown_requirement"

    def __init__(self, migration_id: str, *, requirement: str) -> None:
        super().__init__(f"Schema migration {migration_id} requires {requirement}, which does not exist.")
        self.migration_id, self.requirement = migration_id, requirement


class DuplicateBackgroundMigrationError(SchemaMigrationError):
    """Two schema migrations queue a background migration of the same name."""

    code = "duplicate_background_migration"

    def __init__(self, first: str, second: str, *, name: str) -> None:
        super().__init__(
            f"Schema migrations {first} and {second} both queue background migration {name!r}; rename one of the two."
        )
        self.first, self.second, self.name = first, second, name


class UnknownBackgroundMigrationError(SchemaMigrationError):
    """A schema migration requires a background migration that none queues."""

    code = "unknown_background_migration"

    def __init__(self, migration_id: str, *, name: str, close: Sequence[str] = ()) -> None:
        hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "Is its name right?"
        super().__init__(
            f"Schema migration {migration_id} requires background migration {name!r}, which no schema migration "
            f"declares in `queued_background_migrations`. {hint}"
        )
        self.migration_id, self.name, self.close = migration_id, name, tuple(close)


class DependencyCycleError(SchemaMigrationError):
    """Schema migrations wait for one another in a circle (the order within a phase counts as waiting)."""

    code = "dependency_cycle"

    def __init__(self, cycle: Sequence[str]) -> None:
        super().__init__(f"Schema migrations wait for one another in a circle: {' → '.join(cycle)}.")
        self.cycle = tuple(cycle)


# --- Requests that are refused before anything changes ------------------------------------------------------------


class InvalidLimitError(SchemaMigrationError):
    """A limit below one."""

    code = "invalid_limit"

    def __init__(self, option: str, *, value: int) -> None:
        super().__init__(f"{option} is {value}; it must be at least 1. Leave it out to take all.")
        self.option, self.value = option, value


class ConflictingOptionsError(SchemaMigrationError):
    """Post-deployment migrations are asked for and skipped at once."""

    code = "conflicting_options"

    def __init__(self) -> None:
        super().__init__("--skip-post-deployment and --post-deploy-limit contradict each other; give one of them.")


class SkippedRequirementError(SchemaMigrationError):
    """A pre-deployment migration needs post-deployment ones that are to be skipped."""

    code = "skipped_requirement"

    def __init__(self, migration_id: str, *, required: Sequence[str]) -> None:
        super().__init__(
            f"Schema migration {migration_id} requires post-deployment migrations that may not be skipped: "
            f"{', '.join(required)}. Run without --skip-post-deployment."
        )
        self.migration_id, self.required = migration_id, tuple(required)


class IrreversibleMigrationError(SchemaMigrationError):
    """A plan of `down` reaches a migration that cannot be undone."""

    code = "irreversible_migration"

    def __init__(self, migration_id: str, *, reason: str) -> None:
        super().__init__(f"Schema migration {migration_id} cannot be undone: {reason} Use --limit to stop before it.")
        self.migration_id, self.reason = migration_id, reason


class PlanChangedError(SchemaMigrationError):
    """Somebody migrated between the question and the answer."""

    code = "plan_changed"

    def __init__(self) -> None:
        super().__init__("Another run changed the schema after this plan was shown; nothing was done. Run it again.")


class ForeignSchemaError(SchemaMigrationError):
    """The schema belongs to GitLab's registry."""

    code = "foreign_schema"

    def __init__(self, command: str) -> None:
        super().__init__(
            f"This schema is GitLab's (REGISTRY_SCHEMA_OWNER=gitlab): 'database migrate {command}' leaves it alone. "
            "Use GitLab's own command on a registry node: registry database migrate up CONFIG."
        )
        self.command = command


class OutdatedRegistryError(SchemaMigrationError):
    """The schema is said to be GitLab's, and is older than any that we work on, or none of GitLab's at all."""

    code = "outdated_registry"

    def __init__(self, database: str, *, release: str) -> None:
        super().__init__(
            f"REGISTRY_SCHEMA_OWNER=gitlab, but database {database!r} is not that of GitLab's registry {release} or "
            "newer. Check REGISTRY_DATABASE_URL; if it is right, upgrade the registry first and run its own command on "
            "one of its nodes: registry database migrate up CONFIG."
        )
        self.database, self.release = database, release


class PendingGitLabMigrationsError(SchemaMigrationError):
    """GitLab's registry has not applied all of its own schema migrations."""

    code = "pending_gitlab_migrations"

    def __init__(self, count: int) -> None:
        super().__init__(
            f"GitLab's registry has {count} pending schema migration{'' if count == 1 else 's'} in this database. "
            "Run its own command on one of its nodes first: registry database migrate up CONFIG."
        )
        self.count = count


class GitLabDatabaseError(SchemaMigrationError):
    """The database was made by GitLab's registry, and the settings say that it is ours."""

    code = "gitlab_database"

    def __init__(self) -> None:
        super().__init__(
            "This database holds the garbage-collection tables of GitLab's registry, which made it; migrating it here "
            "would break that registry's own upgrades. Set REGISTRY_SCHEMA_OWNER=gitlab."
        )


class InvalidNameError(SchemaMigrationError):
    """A name that cannot become a migration's file name."""

    code = "invalid_name"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is no name for a migration: use lower-case words joined by _, at most 80 characters."
        )
        self.name = name


class NameTakenError(SchemaMigrationError):
    """A migration of that name exists."""

    code = "name_taken"

    def __init__(self, name: str, *, existing: str) -> None:
        super().__init__(f"A migration named {name!r} exists already: {existing}.")
        self.name, self.existing = name, existing


class FileTakenError(SchemaMigrationError):
    """A file that is to be written exists."""

    code = "file_taken"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} exists already; nothing was written. Choose another name.")
        self.path = path


class NothingAppliedError(SchemaMigrationError):
    """There is no current version."""

    code = "nothing_applied"

    def __init__(self) -> None:
        super().__init__("No schema migration is applied. Apply them with: python manage.py database migrate up")


# --- The server that is asked -------------------------------------------------------------------------------------


class UnsupportedServerError(SchemaMigrationError):
    """The server is older than the oldest supported PostgreSQL."""

    code = "unsupported_server"

    def __init__(self, version: str, *, minimum: int) -> None:
        super().__init__(f"The server is PostgreSQL {version}; {minimum} or newer is needed. Upgrade the server first.")
        self.version, self.minimum = version, minimum


class ReadOnlyServerError(SchemaMigrationError):
    """The server takes no writes."""

    code = "read_only_server"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The server takes no writes: {reason}. Point REGISTRY_DATABASE_URL at the primary.")
        self.reason = reason


class PooledConnectionError(SchemaMigrationError):
    """A connection pooler stands between the migrator and the server."""

    code = "pooled_connection"

    def __init__(self) -> None:
        super().__init__(
            "The connection goes through a pooler (PgBouncer or alike), where a session's locks are not safe. "
            "Schema migrations need a direct connection: set REGISTRY_DATABASE_URL to the server itself."
        )


class InsufficientPrivilegeError(SchemaMigrationError):
    """The role may not create what the migrations create."""

    code = "insufficient_privilege"

    def __init__(self, role: str, *, privilege: str) -> None:
        super().__init__(f"Role {role!r} may not migrate: grant it {privilege}, or connect as the owner.")
        self.role, self.privilege = role, privilege


# --- Running ------------------------------------------------------------------------------------------------------


class MigratorBusyError(SchemaMigrationError):
    """Another migrator held the lock for as long as we were ready to wait."""

    code = "migrator_busy"

    def __init__(self, holder: str, *, waited_seconds: float) -> None:
        super().__init__(
            f"Another migrator is at work: {holder}. Gave up after {waited_seconds:.0f} s; nothing was changed. "
            "Wait for it to end, then run again."
        )
        self.holder, self.waited_seconds = holder, waited_seconds


class BlockedMigrationError(SchemaMigrationError):
    """A migration could not get its locks, however often it tried."""

    code = "blocked_migration"

    def __init__(self, migration_id: str, *, attempts: int, blockers: str) -> None:
        super().__init__(
            f"Schema migration {migration_id} could not get its lock in {attempts} attempts; blocked by {blockers}. "
            "Those before it stay applied. End the blocking session or wait for it, then run again."
        )
        self.migration_id, self.attempts, self.blockers = migration_id, attempts, blockers


class MigrationFailedError(SchemaMigrationError):
    """The server refused a statement of a migration."""

    code = "migration_failed"

    def __init__(self, migration_id: str, *, statement: int, cause: str) -> None:
        super().__init__(
            f"Schema migration {migration_id} failed in statement {statement}: {cause} "
            "Those before it stay applied, it is not recorded."
        )
        self.migration_id, self.statement, self.cause = migration_id, statement, cause


class NotRecordedError(SchemaMigrationError):
    """A migration that is to be undone stands in the other table than its phase says."""

    code = "not_recorded"

    def __init__(self, migration_id: str, *, table: str) -> None:
        super().__init__(
            f"Schema migration {migration_id} is not recorded in {table}, the table of its phase; nothing of it was "
            "undone. Move its row there, then run again."
        )
        self.migration_id, self.table = migration_id, table


class InvalidIndexError(SchemaMigrationError):
    """An index that a migration built is not valid, so the migration is not recorded."""

    code = "invalid_index"

    def __init__(self, migration_id: str, *, index: str) -> None:
        super().__init__(
            f"Schema migration {migration_id} left index {index} invalid; it is not recorded. "
            "Run it again: the invalid index is dropped and built anew."
        )
        self.migration_id, self.index = migration_id, index


class UnfinishedBackgroundMigrationsError(SchemaMigrationError):
    """A schema migration needs background migrations that have not finished."""

    code = "unfinished_background_migrations"

    def __init__(self, migration_id: str, *, names: Sequence[str]) -> None:
        super().__init__(
            f"Schema migration {migration_id} requires background migrations that are not finished: "
            f"{', '.join(names)}. Finish them with: python manage.py background_migrate run {' '.join(names)}"
        )
        self.migration_id, self.names = migration_id, tuple(names)
