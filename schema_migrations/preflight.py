"""Asks the server, before anything is planned, whether migrations can run: version, writes, pooler, privileges."""

from psycopg import Connection

from schema_migrations import recorder
from schema_migrations.errors import (
    GitLabDatabaseError,
    InsufficientPrivilegeError,
    OutdatedRegistryError,
    PooledConnectionError,
    ReadOnlyServerError,
    UnsupportedServerError,
)

MINIMUM_VERSION = 15
# The oldest release of GitLab's registry whose database we work on, and the last pre-deployment migration in it.
OLDEST_RELEASE = "v4.32"
LAST_OF_OLDEST_RELEASE = "20251021070732_bbm_backfill_blobs_id_column"

FACTS = """
    SELECT pg_backend_pid(), pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
        current_user, current_database(), has_schema_privilege('public', 'CREATE'),
        has_database_privilege(current_database(), 'CREATE')
            OR (to_regnamespace('registry_admin') IS NOT NULL AND to_regnamespace('partitions') IS NOT NULL),
        to_regclass('public.gc_blob_review_queue') IS NOT NULL
"""


def check_release(connection: Connection) -> None:
    """Raise OutdatedRegistryError when GitLab's registry did not make this database, or one before v4.32 did."""
    if not recorder.is_applied(connection, LAST_OF_OLDEST_RELEASE):
        raise OutdatedRegistryError(connection.info.dbname, release=OLDEST_RELEASE)


def check_version(connection: Connection, *, minimum: int = MINIMUM_VERSION) -> None:
    """Raise when the server is older than PostgreSQL `minimum`."""
    major, minor = divmod(connection.info.server_version, 10_000)
    if major < minimum:
        raise UnsupportedServerError(f"{major}.{minor}", minimum=minimum)


def check_migratable(connection: Connection) -> None:
    """Raise when the server, the connection or the role does not allow migrations; changes nothing."""
    check_version(connection)
    (facts,) = connection.execute(FACTS)
    backend_pid, in_recovery, read_only, role, database, may_create, may_create_schema, is_gitlab_s = facts
    # A pooler answers the log-in with a process id of its own making.
    if backend_pid != connection.info.backend_pid:
        raise PooledConnectionError
    if is_gitlab_s:
        raise GitLabDatabaseError
    if in_recovery:
        raise ReadOnlyServerError("it is a standby in recovery")
    if read_only:
        raise ReadOnlyServerError("default_transaction_read_only is on for this role, database or server")
    if not may_create:
        raise InsufficientPrivilegeError(role, privilege="CREATE on schema public")
    if not may_create_schema:
        raise InsufficientPrivilegeError(role, privilege=f"CREATE on database {database}")
