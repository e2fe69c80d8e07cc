"""Drafts the files of a new background migration: work function, its line in the list, test, and the SQL of its row.

Writes nothing and knows no schema migration: whoever asks puts the texts where they belong.
"""

import ast
import keyword
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from background_migrations.errors import InvalidColumnError, InvalidTableError, UnusableNameError

ROOT = Path(__file__).parent.parent
PACKAGE = "background_migrations.work_functions"
LIST = "WORK_FUNCTIONS"
LINE_LENGTH = 120
MAXIMUM_NAME_LENGTH = 55  # its line in the list has it twice
IDENTIFIER = r"[a-z_][a-z0-9_]{0,62}"  # what the server keeps whole and needs no quotes for
TAKEN_WORDS = frozenset({LIST.lower(), "statement"})  # other constants are called so

WORK_FUNCTION = '''"""{title}."""

from psycopg import Cursor, sql

from background_migrations.batching import Batch
from background_migrations.work import WorkContext, WorkFunction

# Looks at the rows and changes none: the change goes here. Let it pass over rows that need nothing, and never commit.
STATEMENT = sql.SQL("SELECT FROM {{table}} WHERE {{column}} BETWEEN %(min_value)s AND %(max_value)s")


def _work(cursor: Cursor, batch: Batch, _context: WorkContext) -> int:
    """Do the rows of one batch; return how many were touched."""
    statement = STATEMENT.format(table=sql.Identifier(*batch.table), column=sql.Identifier(batch.column))
    cursor.execute(statement, {{"min_value": batch.min_value, "max_value": batch.max_value}})
    return cursor.rowcount


{constant} = WorkFunction(run=_work, batch_size=1_000)
'''
TEST = '''"""{title}, from its schema migration to its end."""

from background_migrations.records import Rules
from background_migrations.status import Status
from background_migrations.work_functions import WORK_FUNCTIONS
from background_migrations.worker import Worker
from schema_migrations.loader import load_migrations

NAME = "{name}"
STATUS = "SELECT status FROM batched_background_migrations WHERE name = %s"


def test_it_is_queued_and_runs_to_its_end(scratch_copy):
    declared = [known.migration for known in load_migrations()]
    (queueing,) = (each for each in declared if NAME in each.queued_background_migrations)
    worker = Worker(
        connect={{"registry": scratch_copy.connect}},
        functions=WORK_FUNCTIONS,
        rules=Rules(actor="tests"),
        name="tests",
        once=True,
        only=[NAME],
    )
    with scratch_copy.connect() as connection:
        for statement in (*queueing.down, *queueing.up):
            connection.execute(statement)
        # Here go rows that the change is for, and below what became of them.
        assert worker.run()
        assert connection.execute(STATUS, [NAME]).fetchall() == [(Status.FINISHED,)]
'''
INSERT = """\
INSERT INTO public.batched_background_migrations
    (name, min_value, max_value, batch_size, status, job_signature_name, table_name, column_name)
VALUES (
    '{name}',
    1,
    9223372036854775807,  -- the end of bigint: up to the last row
    1000,
    1,  -- active
    '{name}',
    '{table}',
    '{column}'
)
ON CONFLICT (name) DO NOTHING
"""
DELETE = """\
DELETE FROM public.batched_background_migrations
WHERE name = '{name}'
"""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """New files with their texts, the list of work functions with its new text, and the SQL for the row."""

    created: dict[Path, str]
    listing: tuple[Path, str]
    insert: str
    delete: str


def draft_background_migration(name: str, *, table: str, column: str, root: Path = ROOT) -> Draft:
    """Return what a background migration over `schema.table` needs, in batches by a column of whole numbers.

    As drafted it runs and changes nothing. Raises when a name is malformed, or that of a work function of the list.
    """
    listing = root / "background_migrations" / "work_functions" / "__init__.py"
    text = listing.read_text(encoding="utf-8")
    _refuse_unusable(name, names=_entries(text))
    if re.fullmatch(rf"{IDENTIFIER}\.{IDENTIFIER}", table) is None:
        raise InvalidTableError(table)
    if re.fullmatch(IDENTIFIER, column) is None:
        raise InvalidColumnError(table, column=column, reason="is not a lower-case name")
    words = {
        "name": name,
        "constant": name.upper(),
        "title": name.replace("_", " ").capitalize(),
        "table": table,
        "column": column,
    }
    tests = root / "tests" / "background_migrations" / "work_functions"
    return Draft(
        created={
            listing.parent / f"{name}.py": WORK_FUNCTION.format(**words),
            tests / f"test_{name}.py": TEST.format(**words),
        },
        listing=(listing, _with_entry(_with_import(text, name), name)),
        insert=INSERT.format(**words),
        delete=DELETE.format(**words),
    )


def _refuse_unusable(name: str, *, names: Collection[str]) -> None:
    if not (name.isidentifier() and name.isascii() and name.islower()) or keyword.iskeyword(name):
        raise UnusableNameError(name, reason="it must be lower-case words joined by _, and no word of Python's own")
    if len(name) > MAXIMUM_NAME_LENGTH:
        raise UnusableNameError(name, reason=f"it is longer than {MAXIMUM_NAME_LENGTH} characters")
    if name in TAKEN_WORDS or name in names:
        raise UnusableNameError(name, reason="it is taken")


# --- The list of work functions: its text with one more line in each of two places ------------------------------------


def _with_import(text: str, name: str) -> str:
    """Return the text with the import where ruff wants it: by name, numbers as numbers."""
    line = f"from {PACKAGE}.{name} import {name.upper()}"
    if len(line) > LINE_LENGTH:
        line = f"from {PACKAGE}.{name} import (\n    {name.upper()},\n)"
    froms = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
    ours = [node for node in froms if (node.module or "").startswith(PACKAGE.partition(".")[0])]
    later = (node.lineno for node in ours if _order(node.module or "") > _order(f"{PACKAGE}.{name}"))
    return _insert(text, line, before=next(later, (ours[-1].end_lineno or 0) + 1))


def _order(module: str) -> list[tuple[bool, int]]:
    parts = re.findall(r"\d+|\D", module.lower())
    return [(not part.isdigit(), int(part) if part.isdigit() else ord(part)) for part in parts]


def _with_entry(text: str, name: str) -> str:
    """Return the text with the entry before the first one that is later in the alphabet, whatever their order."""
    entries = _entries(text)
    later = (line for key, line in entries.items() if key.lower() > name)
    return _insert(text, f'    "{name}": {name.upper()},', before=next(later, _list(text).end_lineno or 0))


def _entries(text: str) -> dict[str, int]:
    """Return the job signature names of the list, each with its line."""
    return {str(key.value): key.lineno for key in _list(text).keys if isinstance(key, ast.Constant)}


def _list(text: str) -> ast.Dict:
    assignments = [node for node in ast.parse(text).body if isinstance(node, ast.AnnAssign)]
    (found,) = (node.value for node in assignments if isinstance(node.target, ast.Name) and node.target.id == LIST)
    if not isinstance(found, ast.Dict):
        raise TypeError(f"{LIST} is no dictionary that is written out")
    return found


def _insert(text: str, line: str, *, before: int) -> str:
    lines = text.splitlines()
    return "\n".join([*lines[: before - 1], line, *lines[before - 1 :]]) + "\n"
