"""Where the log of one import goes besides the service's own: standard output, or a file made for it."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

LOGGER = "metadata_import"
LINE = "%(asctime)s %(levelname)s %(message)s"
OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class Logs:
    """What was asked for; standard output wins over a directory."""

    to_stdout: bool = False
    directory: Path | None = None

    @contextmanager
    def written(self) -> Iterator[None]:
        """Write every event of the import there while the block runs."""
        handler = self._handler()
        if handler is None:
            yield
            return
        handler.setFormatter(logging.Formatter(LINE))
        logger = logging.getLogger(LOGGER)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            handler.close()

    def _handler(self) -> logging.Handler | None:
        if self.to_stdout:
            return logging.StreamHandler(sys.stdout)
        if self.directory is None:
            return None
        name = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-registry-import.log"
        path = self.directory / name
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, OWNER_ONLY))
        return logging.FileHandler(path)
