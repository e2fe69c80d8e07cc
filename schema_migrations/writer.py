"""Writes the file of a new schema migration from its template, and the files that come with one that queues."""

import datetime
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from schema_migrations.errors import FileTakenError, InvalidNameError, NameTakenError
from schema_migrations.loader import FOLDERS, load_migrations
from schema_migrations.migration import Phase

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAXIMUM_NAME_LENGTH = 80

TEMPLATE = '''"""{title}."""

from schema_migrations.migration import Migration

# Every statement may run twice. An index on a table that holds rows is built CONCURRENTLY, which needs
# transactional=False; what cannot be undone says why in `irreversible` and has no `down`.
migration = Migration(
    up=[],
    down=[],
)
'''
QUEUEING_TEMPLATE = '''"""Queue the background migration {name}."""

from schema_migrations.migration import Migration

migration = Migration(
{requires}    queued_background_migrations=["{name}"],
    up=[
        """
{insert}        """,
    ],
    down=[
        """
{delete}        """,
    ],
)
'''


class Draft(Protocol):
    """What a new background migration needs: SQL to insert and to delete its row, and files with their whole texts."""

    @property
    def created(self) -> Mapping[Path, str]: ...
    @property
    def listing(self) -> tuple[Path, str]: ...
    @property
    def insert(self) -> str: ...
    @property
    def delete(self) -> str: ...


def write_migration(
    name: str, *, phase: Phase, now: datetime.datetime, folders: Mapping[Phase, Path] = FOLDERS
) -> Path:
    """Create an empty migration and return its path; nothing is written when the name is bad or taken.

    The version is `now` to the second, moved on until no other migration has it.
    """
    path = _new_path(name, phase=phase, now=now, folders=folders)
    with path.open("x") as file:
        file.write(TEMPLATE.format(title=name.replace("_", " ").capitalize()))
    return path


def write_queueing_migration(
    name: str,
    *,
    phase: Phase,
    now: datetime.datetime,
    draft: Callable[[str], Draft],
    folders: Mapping[Phase, Path] = FOLDERS,
) -> list[Path]:
    """Create a migration that queues a background migration, with all that one needs; return the paths, it last.

    All or nothing: what was written goes again when something fails.
    """
    path = _new_path(name, phase=phase, now=now, folders=folders)
    drafted = draft(name)
    text = QUEUEING_TEMPLATE.format(
        name=name,
        requires=_requirement(folders) if phase is Phase.POST_DEPLOYMENT else "",
        insert=textwrap.indent(drafted.insert, " " * 8),
        delete=textwrap.indent(drafted.delete, " " * 8),
    )
    _write({**drafted.created, path: text}, listing=drafted.listing)
    return [*drafted.created, drafted.listing[0], path]


def _new_path(name: str, *, phase: Phase, now: datetime.datetime, folders: Mapping[Phase, Path]) -> Path:
    if NAME.fullmatch(name) is None or len(name) > MAXIMUM_NAME_LENGTH:
        raise InvalidNameError(name)
    existing = [path for folder in folders.values() for path in folder.glob("[0-9]*.py")]
    for path in existing:
        if path.stem.partition("_")[2] == name:
            raise NameTakenError(name, existing=str(path))
    versions = {path.stem.partition("_")[0] for path in existing}
    while (version := now.strftime("%Y%m%d%H%M%S")) in versions:
        now += datetime.timedelta(seconds=1)
    return folders[phase] / f"{version}_{name}.py"


def _requirement(folders: Mapping[Phase, Path]) -> str:
    """Return the line that puts a post-deployment migration after those that every database has before it."""
    shared = load_migrations(folders, own_database=False)
    before = [each.id for each in shared if each.phase is Phase.PRE_DEPLOYMENT]
    return f'    requires=["{before[-1]}"],\n' if before else ""


def _write(created: Mapping[Path, str], *, listing: tuple[Path, str]) -> None:
    """Create files and then exchange the text of one that there is. Raises FileTakenError."""
    written: list[Path] = []
    try:
        for path, text in created.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
        _exchange(*listing)
    except BaseException as error:
        for path in written:
            path.unlink()
        if isinstance(error, FileExistsError):
            raise FileTakenError(str(error.filename)) from error
        raise


def _exchange(path: Path, text: str) -> None:
    """Give a file another text, at once."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        shutil.copymode(path, fresh)
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise
