"""What is applied, pending, unknown or changed: for the command line, the admin and whoever needs a current schema."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import Connection

from schema_migrations import journal, preflight, recorder
from schema_migrations.loader import KnownMigration, load_migrations
from schema_migrations.migration import Phase


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


def count_pending(connection: Connection, *, own_database: bool) -> int:
    """Return how many schema migrations of this release are not applied. Raises when the server is too old."""
    preflight.check_version(connection)
    statuses = migration_statuses(connection, known=load_migrations(own_database=own_database))
    return sum(status.pending for status in statuses)
