"""How the logger `migrations` is written: one JSON object per line, as in GitLab's log of the same name."""

import json
import logging
from datetime import UTC, datetime

# What every record carries; the rest came with the call, as its `extra`.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Writes severity, time and correlation id, then the facts that came with the call, in their order."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a message and a traceback are written too, where there is one."""
        facts = {name: value for name, value in vars(record).items() if name not in STANDARD}
        time = datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None)
        line = {
            "severity": record.levelname,
            "time": f"{time.isoformat(timespec='milliseconds')}Z",
            "correlation_id": facts.pop("correlation_id", None),
            **({"message": message} if (message := record.getMessage()) else {}),
            **facts,
            **({"exception": self.formatException(record.exc_info)} if record.exc_info else {}),
        }
        return json.dumps(line, separators=(",", ":"), default=str)
