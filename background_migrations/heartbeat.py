"""A file that a worker touches while all its threads are alive, for whoever watches its process from beside it."""

import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from background_migrations.errors import NoHeartbeatError

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Heartbeat:
    """The file of one worker. Whoever looks at it needs no database: one that is away is not the worker's fault."""

    file: Path

    def beat(self) -> None:
        """Say that the worker is alive. A file that cannot be written must not end it."""
        try:
            self.file.touch()
        except OSError as error:
            log.warning("heartbeat not written", file=str(self.file), error=str(error))

    def end(self) -> None:
        """Take the file away: a worker that has ended is none."""
        self.file.unlink(missing_ok=True)

    def check(self, *, longest_seconds: float) -> float:
        """Return how many seconds ago the last beat was. Raises NoHeartbeatError when that is too long."""
        try:
            seconds = max(time.time() - self.file.stat().st_mtime, 0.0)
        except OSError as error:
            raise NoHeartbeatError(str(self.file), reason=error.strerror or "it cannot be read") from error
        if seconds > longest_seconds:
            reason = f"it was touched {seconds:.0f} s ago, and {longest_seconds:g} s are the limit"
            raise NoHeartbeatError(str(self.file), reason=reason)
        return seconds
