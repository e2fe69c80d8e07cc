"""Writes the file of a new schema migration from its template."""

import datetime
import re
from collections.abc import Mapping
from pathlib import Path

from schema_migrations.errors import InvalidNameError, NameTakenError
from schema_migrations.loader import FOLDERS
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


def write_migration(
    name: str, *, phase: Phase, now: datetime.datetime, folders: Mapping[Phase, Path] = FOLDERS
) -> Path:
    """Create an empty migration and return its path; nothing is written when the name is bad or taken.

    The version is `now` to the second, moved on until no other migration has it.
    """
    if NAME.fullmatch(name) is None or len(name) > MAXIMUM_NAME_LENGTH:
        raise InvalidNameError(name)
    existing = [path for folder in folders.values() for path in folder.glob("[0-9]*.py")]
    for path in existing:
        if path.stem.partition("_")[2] == name:
            raise NameTakenError(name, existing=str(path))
    versions = {path.stem.partition("_")[0] for path in existing}
    while (version := now.strftime("%Y%m%d%H%M%S")) in versions:
        now += datetime.timedelta(seconds=1)
    path = folders[phase] / f"{version}_{name}.py"
    with path.open("x") as file:
        file.write(TEMPLATE.format(title=name.replace("_", " ").capitalize()))
    return path
