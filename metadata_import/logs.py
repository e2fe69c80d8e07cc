"""Where the log of one import goes: to standard output or into a file made for it, if that was asked for.

Standard error has the progress; it gets the log too only where the service logs as much as that.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

LOGGER = "metadata_import"
OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class Logs:
    """What was asked for, and how lines are written; standard output wins over a directory."""

    formatter: logging.Formatter
    to_stdout: bool = False
    directory: Path | None = None

    @contextmanager
    def written(self) -> Iterator[None]:
        """Write every event of the import there while the block runs."""
        logger, handler = logging.getLogger(LOGGER), self._handler()
        level, propagates = logger.level, logger.propagate
        handler.setFormatter(self.formatter)
        logger.addHandler(handler)
        logger.propagate = logging.getLogger().isEnabledFor(logging.INFO)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagates
            handler.close()

    def _handler(self) -> logging.Handler:
        if self.to_stdout:
            return logging.StreamHandler(sys.stdout)
        if self.directory is None:
            return logging.NullHandler()
        name = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-registry-import.log"
        path = self.directory / name
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, OWNER_ONLY))
        return logging.FileHandler(path)
