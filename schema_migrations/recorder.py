"""The two tables of applied schema migrations, in the shape that GitLab's registry gives them."""

import datetime
from dataclasses import dataclass

from psycopg import Connection, errors, sql

from schema_migrations.errors import NotRecordedError
from schema_migrations.loader import KnownMigration
from schema_migrations.migration import Phase

# Qualified, so that a role's own search path cannot lead to other tables than everybody else's.
SCHEMA = "public"
TABLES = {
    Phase.PRE_DEPLOYMENT: "schema_migrations",
    Phase.POST_DEPLOYMENT: "post_deploy_schema_migrations",
}

CREATE_TABLE = """
    CREATE TABLE IF NOT EXISTS {table} (
        id text NOT NULL PRIMARY KEY,
        applied_at timestamp WITH time zone
    )
"""
EXISTING_TABLES = """
    SELECT to_regclass('public.schema_migrations') IS NOT NULL,
           to_regclass('public.post_deploy_schema_migrations') IS NOT NULL
"""
READ = "SELECT id, applied_at FROM {table}"
IS_APPLIED = "SELECT FROM public.schema_migrations WHERE id = %s"
ADD = "INSERT INTO {table} (id, applied_at) VALUES (%s, clock_timestamp())"
REMOVE = "DELETE FROM {table} WHERE id = %s"


@dataclass(frozen=True)
class AppliedMigration:
    """One recorded migration, which this release may or may not know."""

    id: str
    phase: Phase
    applied_at: datetime.datetime | None


def create_tables(connection: Connection) -> None:
    """Create both tables where they are missing."""
    for table in TABLES.values():
        connection.execute(sql.SQL(CREATE_TABLE).format(table=sql.Identifier(SCHEMA, table)))


def applied_migrations(connection: Connection) -> list[AppliedMigration]:
    """Return what is recorded, sorted by id. Writes nothing: a missing table counts as an empty one."""
    existing = connection.execute(EXISTING_TABLES).fetchone() or (False, False)
    applied = []
    for (phase, table), exists in zip(TABLES.items(), existing, strict=True):
        if exists:
            rows = connection.execute(sql.SQL(READ).format(table=sql.Identifier(SCHEMA, table)))
            applied += [AppliedMigration(id_, phase, applied_at) for id_, applied_at in rows]
    return sorted(applied, key=lambda each: each.id)


def is_applied(connection: Connection, migration_id: str) -> bool:
    """Say whether a pre-deployment migration is recorded. A missing table counts as an empty one."""
    try:
        rows = connection.execute(sql.SQL(IS_APPLIED), [migration_id])
    except errors.UndefinedTable:
        return False
    return rows.fetchone() is not None


def add(connection: Connection, *, known: KnownMigration) -> None:
    """Record a migration as applied now."""
    connection.execute(sql.SQL(ADD).format(table=sql.Identifier(SCHEMA, TABLES[known.phase])), [known.id])


def remove(connection: Connection, *, known: KnownMigration) -> None:
    """Forget that a migration was applied; raises NotRecordedError when its table does not say so."""
    removed = connection.execute(sql.SQL(REMOVE).format(table=sql.Identifier(SCHEMA, TABLES[known.phase])), [known.id])
    if removed.rowcount != 1:
        raise NotRecordedError(known.id, table=TABLES[known.phase])
