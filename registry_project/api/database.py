"""The connection to the registry's database that a request works on: kept between requests, without a round trip."""

import select

from django.db import connections
from psycopg import Connection


def registry_connection() -> Connection:
    """Return this thread's connection, opened anew where it was lost. Raises django.db.OperationalError.

    A server that went away has closed the socket, which shows here; a SELECT before each request would double its
    round trips.
    """
    wrapper = connections["registry"]
    if wrapper.connection is not None and _has_something_to_say(wrapper.connection) and not wrapper.is_usable():
        wrapper.close()
    wrapper.ensure_connection()
    connection: Connection = wrapper.connection
    return connection


def _has_something_to_say(connection: Connection) -> bool:
    """Whether the server sent something, or closed, since the last answer."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
