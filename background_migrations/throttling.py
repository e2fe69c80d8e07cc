"""Signals that the database is under strain: may we work now, and why not. One small class each; none ever sleeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from psycopg import Connection


@dataclass(frozen=True)
class Throttled:
    """The signal that says no, and its reason in words for people."""

    signal: str
    reason: str


class Signal(Protocol):
    """Looks at one thing on the server; `table` is the schema and name of the table to be worked on."""

    @property
    def name(self) -> str: ...

    def reason(self, connection: Connection, table: tuple[str, str]) -> str | None:
        """Return why not to work now, or None."""


def first_throttled(signals: Sequence[Signal], connection: Connection, *, table: tuple[str, str]) -> Throttled | None:
    """Return the first signal that says no."""
    for signal in signals:
        if (reason := signal.reason(connection, table)) is not None:
            return Throttled(signal.name, reason)
    return None
