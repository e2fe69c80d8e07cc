"""What is applied, pending, unknown or changed: for the command line, the admin and whoever needs a current schema."""

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from psycopg import Connection, errors, sql
from psycopg.rows import class_row

from schema_migrations import journal, preflight, recorder
from schema_migrations.errors import PendingGitLabMigrationsError
from schema_migrations.loader import KnownMigration, load_migrations
from schema_migrations.migration import Phase

# Numbers are those of background migrations' statuses: 0 paused, 1 active, 2 finished, 3 failed, 4 running.
OVERVIEW = sql.SQL("""
    SELECT (SELECT count(*) FROM known WHERE id = ANY(recorded)) AS applied,
        (SELECT count(*) FROM known WHERE NOT post_deployment AND NOT id = ANY(recorded)) AS pending_pre_deployment,
        (SELECT count(*) FROM known WHERE post_deployment AND NOT id = ANY(recorded)) AS pending_post_deployment,
        active, paused, failed, finished
    FROM (SELECT array(SELECT id FROM ({recorded}) AS tables) AS recorded) AS applied,
        (
            SELECT count(*) FILTER (WHERE status IN (1, 4)) AS active, count(*) FILTER (WHERE status = 0) AS paused,
                count(*) FILTER (WHERE status = 3) AS failed, count(*) FILTER (WHERE status = 2) AS finished
            FROM ({statuses}) AS background
        ) AS background
""")
KNOWN = sql.SQL("""
    WITH known AS (SELECT * FROM unnest(%(ids)s::text[], %(post)s::boolean[]) AS known(id, post_deployment))
""")
RECORDED = {
    "schema_migrations": sql.SQL("SELECT id FROM public.schema_migrations"),
    "post_deploy_schema_migrations": sql.SQL("SELECT id FROM public.post_deploy_schema_migrations"),
}
STATUSES = {"batched_background_migrations": sql.SQL("SELECT status FROM public.batched_background_migrations")}
NO_RECORD, NO_STATUS = sql.SQL("SELECT ''::text AS id WHERE false"), sql.SQL("SELECT 0 AS status WHERE false")
EXISTING = """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s)
"""


@dataclass(frozen=True)
class Overview:
    """How many schema migrations of this release are applied or pending, and background migrations by status."""

    applied: int
    pending_pre_deployment: int
    pending_post_deployment: int
    active: int  # running ones among them
    paused: int
    failed: int
    finished: int


@dataclass(frozen=True)
class MigrationStatus:
    """One migration as the database and this release see it.

    Pending: known, `recorded` is false. Unknown: recorded by another release. Changed: the release holds another
    wording than the one that was applied.
    """

    id: str
    phase: Phase
    recorded: bool
    known: bool
    applied_at: datetime.datetime | None = None
    changed: bool = False

    @property
    def pending(self) -> bool:
        """Whether `up` would apply it."""
        return self.known and not self.recorded


@dataclass(frozen=True)
class Counts:
    """How many migrations there are of each kind."""

    applied: int
    pending_pre_deployment: int
    pending_post_deployment: int
    unknown: int
    changed: int

    @property
    def pending(self) -> int:
        """How many `up` would apply."""
        return self.pending_pre_deployment + self.pending_post_deployment


def migration_statuses(connection: Connection, *, known: Sequence[KnownMigration]) -> list[MigrationStatus]:
    """Return every known and every recorded migration, sorted by id; reads only."""
    recorded = {each.id: each for each in recorder.applied_migrations(connection)}
    checksums = journal.applied_checksums(connection)
    known_ids = {each.id for each in known}
    statuses = [
        MigrationStatus(each.id, each.phase, recorded=True, known=False, applied_at=each.applied_at)
        for each in recorded.values()
        if each.id not in known_ids
    ]
    for each in known:
        applied = recorded.get(each.id)
        statuses.append(
            MigrationStatus(
                each.id,
                each.phase,
                recorded=applied is not None,
                known=True,
                applied_at=applied.applied_at if applied else None,
                changed=applied is not None and checksums.get(each.id, each.checksum) != each.checksum,
            )
        )
    return sorted(statuses, key=lambda status: status.id)


@lru_cache
def known_migrations(own_database: bool) -> Sequence[KnownMigration]:
    """Return the migrations of this release, read once: a process that serves stays with the release it began with."""
    return load_migrations(own_database=own_database)


def counts(connection: Connection, *, own_database: bool) -> Counts:
    """Count the migrations by what `migration_statuses` says of them."""
    statuses = migration_statuses(connection, known=known_migrations(own_database))
    pending = Counter(each.phase for each in statuses if each.pending)
    return Counts(
        applied=sum(each.recorded and each.known for each in statuses),
        pending_pre_deployment=pending[Phase.PRE_DEPLOYMENT],
        pending_post_deployment=pending[Phase.POST_DEPLOYMENT],
        unknown=sum(not each.known for each in statuses),
        changed=sum(each.changed for each in statuses),
    )


def overview(connection: Connection, *, known: Sequence[KnownMigration]) -> Overview:
    """Count in one statement. A table that does not exist counts as empty; to find out takes statements more."""
    try:
        return _overview(connection, known, {*RECORDED, *STATUSES})
    except errors.UndefinedTable:
        existing = {name for (name,) in connection.execute(EXISTING, ([*RECORDED, *STATUSES],))}
        return _overview(connection, known, existing)


def _overview(connection: Connection, known: Sequence[KnownMigration], tables: set[str]) -> Overview:
    recorded = [query for table, query in RECORDED.items() if table in tables] or [NO_RECORD]
    statuses = [query for table, query in STATUSES.items() if table in tables] or [NO_STATUS]
    query = KNOWN + OVERVIEW.format(recorded=sql.SQL(" UNION ALL ").join(recorded), statuses=statuses[0])
    values = {
        "ids": [each.id for each in known],
        "post": [each.phase is Phase.POST_DEPLOYMENT for each in known],
    }
    with connection.cursor(row_factory=class_row(Overview)) as cursor:
        (found,) = cursor.execute(query, values)
    return found


def check_release(connection: Connection) -> None:
    """Raise OutdatedRegistryError when a database that is GitLab's is older than those that we work on."""
    preflight.check_release(connection)


def count_pending(connection: Connection, *, own_database: bool) -> int:
    """Return how many schema migrations of this release are not applied.

    Raises when the server is too old, and when some are pending that only GitLab's own command applies.
    """
    preflight.check_version(connection)
    statuses = migration_statuses(connection, known=load_migrations(own_database=own_database))
    count = sum(status.pending for status in statuses)
    if count and not own_database:
        raise PendingGitLabMigrationsError(count)
    return count
