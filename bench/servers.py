"""A throw-away server with the whole schema and no background migration in it, for programs that bring their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection

from registry_project.embedded_postgres import EmbeddedPostgres, postmaster
from tests.databases import throwaway_server

LOOK_SECONDS = 0.05
MIGRATING = (["database", "migrate", "up"], ["migrate"])

TEMPLATE = "bench_template"
QUEUE = """
    INSERT INTO public.batched_background_migrations
        (name, min_value, max_value, batch_size, status, job_signature_name, table_name, column_name, batching_strategy)
    VALUES (%(name)s, %(min_value)s, %(max_value)s, %(batch_size)s, 1, %(function)s, %(table)s, %(column)s,
        %(strategy)s)
    RETURNING id
"""


@contextmanager
def migrated_server() -> Iterator[EmbeddedPostgres]:
    """Start a durable server and make the schema with the commands that ship."""
    with throwaway_server(durable=True) as server:
        url = server.start().url or ""
        environment = {**os.environ, "DATABASE_URL": url, "SECRET_KEY": "only-for-measurements"}
        for command in MIGRATING:
            subprocess.run([sys.executable, "manage.py", *command], env=environment, check=True, capture_output=True)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DELETE FROM public.batched_background_migrations")
        yield server


def url_of(server: EmbeddedPostgres) -> str:
    """Return where a running server is."""
    return server.status().url or ""


def crash(server: EmbeddedPostgres) -> None:
    """End a server without letting it write anything more, and start it again."""
    data = server.status().data_directory
    found = postmaster.find(data)
    if found is not None:
        os.kill(found.pid, signal.SIGQUIT)  # an immediate shutdown
    while postmaster.find(data) is not None:
        time.sleep(LOOK_SECONDS)
    server.start()


def queue(connection: Connection, name: str, **values: Any) -> int:
    """Insert an active migration; `table`, `function` and `batch_size` have to be given. Return its id."""
    row = {"name": name, "min_value": 1, "max_value": 2**63 - 1, "column": "id", "strategy": None, **values}
    ((migration_id,),) = connection.execute(QUEUE, row)
    return int(migration_id)


class Databases:
    """Copies of an empty, migrated database."""

    def __init__(self, url: str) -> None:
        self._server = url.rpartition("/")[0]
        self._run(f"CREATE DATABASE {TEMPLATE} TEMPLATE {url.rpartition('/')[2]}")

    def fresh(self, name: str) -> str:
        """Make a database of this name anew and return its address."""
        self._run(
            f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
            f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy",
            "CHECKPOINT",
        )
        return f"{self._server}/{name}"

    def _run(self, *statements: str) -> None:
        with psycopg.connect(f"{self._server}/postgres", autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
