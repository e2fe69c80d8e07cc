"""What a schema migration declares. Its name and its phase come from the file that holds it, never from here."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

PARTITIONS = 64


class Phase(enum.Enum):
    """When a schema migration runs, relative to the release of new code."""

    PRE_DEPLOYMENT = "pre-deployment"  # while the old code still serves
    POST_DEPLOYMENT = "post-deployment"  # after the new code serves


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One change of the schema: SQL statements forth and back, and what they need.

    A transactional migration and its record commit as one. Without a transaction every statement commits by
    itself, so each of them must do no harm when it runs a second time.
    """

    up: Sequence[str]
    down: Sequence[str] = ()
    transactional: bool = True
    irreversible: str = ""  # the reason why `down` cannot undo it; then `down` stays empty
    requires: Sequence[str] = ()  # full ids of schema migrations, of either phase, that come first
    queued_background_migrations: Sequence[str] = ()  # names of the rows that `up` inserts and `down` deletes
    required_background_migrations: Sequence[str] = ()  # names, queued by earlier ones, that must be finished first
    own_database_only: bool = False  # for tables that a database created by GitLab's registry gets elsewhere
    lock_timeout_seconds: float | None = None  # None: as configured
    statement_timeout_seconds: float | None = None  # None: as configured


def for_partitions(statement: str, *, first: int = 0, last: int = PARTITIONS - 1) -> str:
    """Return one SQL statement that executes the given one for each of these partitions, their number for `{n}`.

    Shipped migrations are checked by what this returns: never change it.
    """
    return f"""
        DO $do$
        BEGIN
            FOR n IN {first}..{last} LOOP
                EXECUTE replace($statement${statement}$statement$, '{{n}}', n::text);
            END LOOP;
        END
        $do$
    """
