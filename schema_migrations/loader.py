"""Finds the schema migrations on disk, sorts them and refuses what does not fit together. Asks no database."""

import difflib
import hashlib
import json
import re
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from schema_migrations import indexes
from schema_migrations.errors import (
    DependencyCycleError,
    DuplicateBackgroundMigrationError,
    DuplicateVersionError,
    MalformedMigrationError,
    UnknownBackgroundMigrationError,
    UnknownRequirementError,
)
from schema_migrations.migration import Migration, Phase

FOLDERS: Mapping[Phase, Path] = {
    Phase.PRE_DEPLOYMENT: Path(__file__).parent / "pre_deployment",
    Phase.POST_DEPLOYMENT: Path(__file__).parent / "post_deployment",
}
MIGRATION_ID = re.compile(r"(?P<version>\d{14})_[a-z0-9_]+")


@dataclass(frozen=True)
class KnownMigration:
    """A migration that this release ships, with the id and phase its file gives it."""

    id: str
    phase: Phase
    migration: Migration
    implied: tuple[str, ...] = ()  # ids of those that queue what it requires to be finished

    @property
    def requires(self) -> tuple[str, ...]:
        """The ids of all that come before it, declared or implied."""
        return (*self.migration.requires, *self.implied)

    @property
    def version(self) -> str:
        """The number its id begins with."""
        return self.id.partition("_")[0]

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over what runs: the statements of both directions and the transaction mode."""
        declared = [list(self.migration.up), list(self.migration.down), self.migration.transactional]
        return hashlib.sha256(json.dumps(declared).encode()).hexdigest()


def load_migrations(
    folders: Mapping[Phase, Path] = FOLDERS, *, own_database: bool = True
) -> tuple[KnownMigration, ...]:
    """Return all migrations, pre-deployment first, each phase by version.

    Raises the first fault found: a malformed file, a version given twice, a requirement that does not exist, a
    background migration that is required and never queued, or queued twice, a circle. Without `own_database` those
    that only a database of our own needs are left out.
    """
    known = [
        _load(path, phase=phase)
        for phase in Phase
        for path in sorted(folders[phase].glob("[!.]*.py"))
        if path.name != "__init__.py"
    ]
    _refuse_duplicates(known)
    linked = _link(known)
    _refuse_cycles(linked)
    return linked if own_database else _link([each for each in known if not each.migration.own_database_only])


def _load(path: Path, *, phase: Phase) -> KnownMigration:
    if MIGRATION_ID.fullmatch(path.stem) is None:
        raise MalformedMigrationError(str(path), reason="its name must be <14 digits>_<lower_case_words>.py.")
    try:
        # Not an import: cached bytecode would hide an edit within the second of the one before.
        declared = runpy.run_path(str(path)).get("migration")
    except (Exception, SystemExit) as error:
        raise MalformedMigrationError(str(path), reason=f"{type(error).__name__}: {error}") from error
    if not isinstance(declared, Migration):
        raise MalformedMigrationError(str(path), reason="it must define `migration = Migration(…)`.")
    _refuse_malformed(path, migration=declared)
    return KnownMigration(path.stem, phase, declared)


def _refuse_malformed(path: Path, *, migration: Migration) -> None:
    lists = {
        "up": migration.up,
        "down": migration.down,
        "requires": migration.requires,
        "queued_background_migrations": migration.queued_background_migrations,
        "required_background_migrations": migration.required_background_migrations,
    }
    for name, values in lists.items():
        if not isinstance(values, list | tuple) or not all(isinstance(each, str) and each.strip() for each in values):
            raise MalformedMigrationError(str(path), reason=f"`{name}` must be a list of strings, none of them empty.")
    for statement in (*migration.up, *migration.down):
        if indexes.is_unreadable(statement):
            reason = "an index that is built CONCURRENTLY needs a name: CREATE INDEX CONCURRENTLY name ON table (…)."
            raise MalformedMigrationError(str(path), reason=reason)
    if migration.irreversible and migration.down:
        raise MalformedMigrationError(str(path), reason="it is declared irreversible, so `down` must stay empty.")
    if migration.up and not migration.down and not migration.irreversible:
        raise MalformedMigrationError(str(path), reason="it needs a `down`, or a reason why it is `irreversible`.")


def _refuse_duplicates(known: Sequence[KnownMigration]) -> None:
    seen: dict[str, KnownMigration] = {}
    for each in known:
        if (other := seen.setdefault(each.version, each)) is not each:
            raise DuplicateVersionError(other.id, each.id)


def _link(known: Sequence[KnownMigration]) -> tuple[KnownMigration, ...]:
    """Return them with what their background migrations imply. Raises when one requires what is not among them."""
    _refuse_unknown_requirements(known)
    queued_by = _queued_by(known)
    return tuple(replace(each, implied=_implied(each, queued_by)) for each in known)


def _queued_by(known: Sequence[KnownMigration]) -> dict[str, str]:
    """Return which migration queues which background migration: one alone, or the order were not known."""
    queued_by: dict[str, str] = {}
    for each in known:
        for name in each.migration.queued_background_migrations:
            if name in queued_by:
                raise DuplicateBackgroundMigrationError(queued_by[name], each.id, name=name)
            queued_by[name] = each.id
    return queued_by


def _implied(each: KnownMigration, queued_by: Mapping[str, str]) -> tuple[str, ...]:
    names = each.migration.required_background_migrations
    for name in names:
        if name not in queued_by:
            raise UnknownBackgroundMigrationError(each.id, name=name, close=difflib.get_close_matches(name, queued_by))
    return tuple(dict.fromkeys(queued_by[name] for name in names))


def _refuse_unknown_requirements(known: Sequence[KnownMigration]) -> None:
    ids = {each.id for each in known}
    for each in known:
        for requirement in each.migration.requires:
            if requirement not in ids:
                raise UnknownRequirementError(each.id, requirement=requirement)


def _refuse_cycles(known: Sequence[KnownMigration]) -> None:
    graph = {each.id: set(each.requires) for each in known}
    for phase in Phase:
        stream = [each.id for each in known if each.phase is phase]
        for earlier, later in pairwise(stream):
            graph[later].add(earlier)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise DependencyCycleError(error.args[1]) from error
