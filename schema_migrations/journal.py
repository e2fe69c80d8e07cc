"""Who ran which migration, when, how long and in which wording: tables of our own, in the schema `registry_admin`.

The migrator makes them under its lock. Whoever only reads treats missing tables as empty ones.
"""

from dataclasses import dataclass

from psycopg import Connection

from schema_migrations.planner import Step

CREATE = """
    CREATE SCHEMA IF NOT EXISTS registry_admin;
    CREATE TABLE IF NOT EXISTS registry_admin.schema_journal (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        migration_id text NOT NULL,
        phase text NOT NULL,
        direction text NOT NULL CHECK (direction IN ('up', 'down')),
        checksum text NOT NULL,
        release text NOT NULL,
        actor text NOT NULL,
        finished_at timestamp WITH time zone NOT NULL DEFAULT clock_timestamp(),
        duration_seconds double precision NOT NULL
    );
    CREATE INDEX IF NOT EXISTS schema_journal_migration_id ON registry_admin.schema_journal (migration_id, id);
    CREATE TABLE IF NOT EXISTS registry_admin.schema_installation (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        started_at timestamp WITH time zone NOT NULL DEFAULT clock_timestamp(),
        finished_at timestamp WITH time zone
    );
"""
# A role that may not look is told of no journal rather than refused.
IS_READABLE = """
    SELECT EXISTS (
        SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = 'registry_admin' AND relname = 'schema_journal'
          AND has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(pg_class.oid, 'SELECT')
    )
"""
# Of several runs of one migration the newest counts.
CHECKSUMS = """
    SELECT DISTINCT ON (migration_id) migration_id, checksum
    FROM registry_admin.schema_journal WHERE direction = 'up' ORDER BY migration_id, id DESC
"""
ADD = """
    INSERT INTO registry_admin.schema_journal
        (migration_id, phase, direction, checksum, release, actor, duration_seconds)
    VALUES (%(migration_id)s, %(phase)s, %(direction)s, %(checksum)s, %(release)s, %(actor)s, %(duration_seconds)s)
"""
START_INSTALLATION = """
    INSERT INTO registry_admin.schema_installation DEFAULT VALUES
    ON CONFLICT (only_row) DO UPDATE SET started_at = clock_timestamp(), finished_at = NULL
"""
INSTALLATION_UNFINISHED = "SELECT EXISTS (SELECT FROM registry_admin.schema_installation WHERE finished_at IS NULL)"
HAS_REPOSITORIES_TABLE = "SELECT to_regclass('public.repositories') IS NOT NULL"
HAS_REPOSITORIES = "SELECT EXISTS (SELECT FROM public.repositories)"
FINISH_INSTALLATION = (
    "UPDATE registry_admin.schema_installation SET finished_at = clock_timestamp() WHERE finished_at IS NULL"
)


@dataclass(frozen=True)
class Author:
    """Who runs the migrations and with which release: what the journal keeps."""

    actor: str
    release: str


def create_tables(connection: Connection) -> None:
    """Create the schema and its two tables where they are missing."""
    if not _is_readable(connection):
        connection.execute(CREATE)


def add(connection: Connection, *, step: Step, author: Author, duration_seconds: float) -> None:
    """Write down one step that was run."""
    values = {
        "migration_id": step.known.id,
        "phase": step.known.phase.value,
        "direction": step.direction.value,
        "checksum": step.known.checksum,
        "release": author.release,
        "actor": author.actor,
        "duration_seconds": duration_seconds,
    }
    connection.execute(ADD, values)


def applied_checksums(connection: Connection) -> dict[str, str]:
    """Return the checksum with which each migration was last applied, by id."""
    if not _is_readable(connection):
        return {}
    return dict(connection.execute(CHECKSUMS).fetchall())


def begin_installation(connection: Connection) -> None:
    """Remember that a fresh database is being filled, until `finish_installation`: a killed first run stays one."""
    connection.execute(START_INSTALLATION)


def is_installing(connection: Connection) -> bool:
    """Say whether a first run began and has not finished, and the registry is still empty."""
    if not _is_true(connection, INSTALLATION_UNFINISHED):
        return False
    return not (_is_true(connection, HAS_REPOSITORIES_TABLE) and _is_true(connection, HAS_REPOSITORIES))


def finish_installation(connection: Connection) -> None:
    """Remember that the first run reached its end; a second call does nothing."""
    connection.execute(FINISH_INSTALLATION)


def _is_readable(connection: Connection) -> bool:
    return _is_true(connection, IS_READABLE)


def _is_true(connection: Connection, query: str) -> bool:
    row = connection.execute(query.encode()).fetchone()
    return bool(row and row[0])
