"""For which request or command something is done: the correlation id, in logs and events and towards other servers.

It travels beside the call, in structlog's context, as whatever else is logged with each line does.
"""

from contextlib import AbstractContextManager, nullcontext

from structlog.contextvars import bound_contextvars, get_contextvars

LONGEST = 128  # characters


def current() -> str:
    """Return the id of what this thread works for, or nothing."""
    return str(get_contextvars().get("correlation_id") or "")[:LONGEST]


def correlated(correlation_id: str) -> AbstractContextManager[object]:
    """Work for this id while the block runs; for the one that there is, where it is empty."""
    return bound_contextvars(correlation_id=correlation_id) if correlation_id else nullcontext()
