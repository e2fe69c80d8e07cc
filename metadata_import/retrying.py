"""Tries again what the database could not do for a moment: a lost connection, a deadlock, a restart."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg
import structlog
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from tenacity import AttemptManager, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

RETRY_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.1
# Connection lost, deadlock or serialization, server shut down, lock not available: worth another attempt.
TRANSIENT_STATES = ("08", "40", "57P", "55P03")

T = TypeVar("T")
log = structlog.get_logger(__name__)


def attempts(connection: BaseDatabaseWrapper) -> Iterator[AttemptManager]:
    """Yield attempts until one succeeds, each on a connection that works, for a minute at most.

    In a transaction there is one: what went before is gone with its connection.
    """
    is_nested = connection.in_atomic_block

    def is_transient(error: BaseException) -> bool:
        if is_nested or not isinstance(error, OperationalError):
            return False
        cause = error.__cause__
        return isinstance(cause, psycopg.Error) and (cause.sqlstate or "08").startswith(TRANSIENT_STATES)

    def reconnect(*_state: object) -> None:
        log.warning("database is asked again")
        connection.close_if_unusable_or_obsolete()

    return iter(
        Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_delay(RETRY_SECONDS),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS),
            before_sleep=reconnect,
            reraise=True,
        )
    )


def retried(connection: BaseDatabaseWrapper, work: Callable[[], T]) -> T:
    """Return what `work` returns, which may be called several times: doing it twice must be as doing it once."""
    for attempt in attempts(connection):
        with attempt:
            found = work()
    return found
