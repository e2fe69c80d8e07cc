"""Indexes built concurrently: which ones a statement builds, and those that an interrupted build left invalid."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import Connection

_NAME = r'(?:"[^"]+"|\w+)'
# The name of an index is never qualified: it lives in the schema of its table.
CREATE_CONCURRENTLY = re.compile(
    rf"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>{_NAME})\s+"
    rf"ON\s+(?:ONLY\s+)?(?P<table>{_NAME}(?:\.{_NAME})?)",
    re.IGNORECASE,
)
MENTION = re.compile(r"\bCREATE\b[^;]*\bINDEX\b[^;]*\bCONCURRENTLY\b", re.IGNORECASE)
CONCURRENTLY = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)

FIND_INVALID = """
    SELECT format('%%I.%%I', namespaces.nspname, indexes.relname)
    FROM pg_index
    JOIN pg_class AS indexes ON indexes.oid = indexrelid
    JOIN pg_namespace AS namespaces ON namespaces.oid = indexes.relnamespace
    WHERE indrelid = to_regclass(%s) AND indexes.relname = %s AND NOT indisvalid
"""


@dataclass(frozen=True)
class ConcurrentIndex:
    """One index that a statement builds concurrently: its bare name, and its table as written."""

    name: str
    table: str


def concurrent_indexes(statements: Iterable[str]) -> list[ConcurrentIndex]:
    """Return what the statements build concurrently, in order."""
    return [
        ConcurrentIndex(_bare(match["name"]), match["table"])
        for statement in statements
        for match in CREATE_CONCURRENTLY.finditer(statement)
    ]


def is_unreadable(statement: str) -> bool:
    """Say whether a statement builds an index concurrently in a wording that its name cannot be read from."""
    return MENTION.search(statement) is not None and CREATE_CONCURRENTLY.search(statement) is None


def waits_patiently(statement: str) -> bool:
    """Say whether a statement works concurrently: waiting for others, it stops nobody from reading or writing."""
    return CONCURRENTLY.search(statement) is not None


def find_invalid(connection: Connection, *, index: ConcurrentIndex) -> str | None:
    """Return the qualified and quoted name of the index if it exists and is not valid."""
    row = connection.execute(FIND_INVALID, [index.table, index.name]).fetchone()
    return str(row[0]) if row else None


def _bare(name: str) -> str:
    return name[1:-1] if name.startswith('"') else name.lower()
