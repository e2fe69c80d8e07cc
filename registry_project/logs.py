"""How logs are written: one JSON object per line, or a line for a person; never a secret.

The logger `migrations` has a form of its own, that of GitLab's log of the same name.
"""

import json
import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from registry_project.redaction import Redaction

# What every record carries; the rest came with the call, as its `extra`.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
FIRST = ("time", "level", "msg", "correlation_id", "component")


def log_configuration(
    *, lines: dict[str, Any], level: str, secrets: Sequence[str], migrations_file: str
) -> dict[str, Any]:
    """Return what logging is configured with: all on standard error, rows of migrations in a file if one is named."""
    # The file is opened by its first line, and anew when it was rotated away.
    file = {"class": "logging.handlers.WatchedFileHandler", "filename": migrations_file, "delay": True}
    console = {"class": "logging.StreamHandler"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": lines, "row": {"()": f"{__name__}.JsonLines", "secrets": secrets}},
        "handlers": {
            "console": {**console, "formatter": "line"},
            "migrations": {**(file if migrations_file else console), "formatter": "row"},
        },
        "loggers": {
            # One line per row that a background migration decided about: wanted whatever the level is.
            "migrations": {"handlers": ["migrations"], "level": "INFO", "propagate": False},
            # What they say of a request stands in its one line.
            "django.request": {"level": "CRITICAL"},
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            "django.server": {"level": "CRITICAL"},
            # Every command loads the tasks, and has nothing to tell of it.
            "procrastinate.blueprints": {"level": "WARNING"},
        },
        "root": {"handlers": ["console"], "level": level},
    }


def configure_events() -> None:
    """Have events of structlog written by logging."""
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.contextvars.merge_contextvars, to_record],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def new_correlation_id() -> str:
    """Return an id for a request or a command that brings none."""
    return uuid.uuid4().hex


def correlation_id() -> str | None:
    """Return the id of what this thread works for."""
    return structlog.contextvars.get_contextvars().get("correlation_id")


class Lines(ProcessorFormatter):
    """Writes events of structlog and records of other libraries alike, with the names that GitLab's registry uses."""

    def __init__(self, *, form: str, secrets: Sequence[str] = ()) -> None:
        written = {"json": _json, "console": _console}[form]()
        super().__init__(
            processors=[_from_record, ProcessorFormatter.remove_processors_meta, *written],
            foreign_pre_chain=[structlog.contextvars.merge_contextvars, structlog.stdlib.ExtraAdder()],
            keep_exc_info=True,
        )
        self._redact = Redaction(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return self._redact(super().format(record))


class JsonLines(logging.Formatter):
    """Writes severity, time and correlation id, then the facts that came with the call, in their order."""

    def __init__(self, *, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._redact = Redaction(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a message and a traceback are written too, where there is one."""
        facts = {name: value for name, value in vars(record).items() if name not in STANDARD}
        line = {
            "severity": record.levelname,
            "time": _time(record),
            "correlation_id": facts.pop("correlation_id", None) or correlation_id(),
            **({"message": message} if (message := record.getMessage()) else {}),
            **facts,
            **({"exception": self.formatException(record.exc_info)} if record.exc_info else {}),
        }
        return self._redact(json.dumps(line, separators=(",", ":"), default=str))


def to_record(logger: WrappedLogger, method: str, event: EventDict) -> tuple[tuple[EventDict], dict[str, Any]]:
    """Hand an event over to logging; an error as logging knows it, for whoever else listens there."""
    error = event.pop("exc_info", None)
    return (event,), {"extra": {"_logger": logger, "_name": method}, "exc_info": error}


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer()]


def _console() -> list[Processor]:
    # Without local variables, which it would show otherwise, and without colours, between which secrets could hide.
    shown = structlog.dev.ConsoleRenderer(
        colors=False, event_key="msg", timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )
    return [shown]


def _from_record(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    if record.exc_info:  # taken from the record, or it would be written below the line once more
        event["exc_info"], record.exc_info = record.exc_info, None
    event["msg"] = event.pop("event")
    return {**event, "time": _time(record), "level": record.levelname.lower(), "logger": record.name}


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> dict[str, Any]:
    first = {name: event.pop(name) for name in FIRST if name in event}
    return {**first, **event}


def _time(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None)
    return f"{time.isoformat(timespec='milliseconds')}Z"
