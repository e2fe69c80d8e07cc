"""Databases for the tests, all on the process's own server, all made by the migrator that ships."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connections
from psycopg import sql
from pytest_django import DjangoDbBlocker

from registry_project.control_tables import ensure_control_tables
from registry_project.management.commands.quickstart import unpack_tree
from schema_migrations.journal import Author
from schema_migrations.loader import load_migrations
from schema_migrations.migrator import Migrator
from schema_migrations.planner import Selection
from tests.api_client import ApiClient
from tests.e2e.tokens import TokenAuth
from tests.fakes import RecordingReporter
from tests.metadata_import.import_crowd import EMPTY_IMPORTS
from tests.proxy import Proxy
from tests.reference import make_reference

# A shell has what runs in its background ignore Ctrl-C, and so would all programs that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEMPLATE = "registry_template"
REFERENCE = "reference_template"
SEEDED_BACKGROUND_MIGRATIONS = sum(len(each.migration.queued_background_migrations) for each in load_migrations())
# What tests write, in an order that every foreign key allows; seeded rows and records of migrations stay.
EMPTY_TABLES = f"""
    DELETE FROM manifest_references;
    DELETE FROM top_level_namespaces;
    DELETE FROM blobs;
    DELETE FROM import_statistics;
    DELETE FROM container_repositories;
    DELETE FROM routes;
    DELETE FROM batched_background_migration_jobs;
    DELETE FROM batched_background_migrations
    WHERE id NOT IN (SELECT id FROM batched_background_migrations ORDER BY id LIMIT {SEEDED_BACKGROUND_MIGRATIONS});
    UPDATE batched_background_migrations
    SET status = 1, failure_error_code = NULL, started_at = NULL, finished_at = NULL, updated_at = NULL,
        total_tuple_count = NULL
    WHERE status <> 1
        OR num_nonnulls(failure_error_code, started_at, finished_at, updated_at, total_tuple_count) > 0;
    DELETE FROM registry_admin.background_migration_controls;
    DELETE FROM registry_admin.background_migration_events;
    DELETE FROM registry_admin.background_migration_job_progress;
    {EMPTY_IMPORTS};
    DELETE FROM media_types WHERE id NOT IN (SELECT id FROM media_types ORDER BY id LIMIT 103);
"""
_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use `committed_db`, before pytest-django looks at marks.

    It makes only the databases that some mark names, and runs what commits, and is flushed, after what rolls back.
    """
    for item in items:
        if "committed_db" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.django_db(transaction=True, databases=["default", "registry", "rails"]))


@dataclass(frozen=True)
class Database:
    """One database of the test server."""

    url: str

    def connect(self) -> psycopg.Connection:
        """Open an autocommit connection; whoever opens it closes it."""
        return psycopg.connect(self.url, autocommit=True, prepare_threshold=None)


def migrate(database: Database) -> None:
    """Run every shipped schema migration."""
    with database.connect() as connection:
        Migrator(
            connection=connection,
            connect=database.connect,
            known=load_migrations(),
            author=Author(actor="tests", release="tests"),
            reporter=RecordingReporter(),
        ).up(Selection())


def create_control_tables(database: Database) -> None:
    """Run Django's migrations of our own tables, with the alias pointed at this database meanwhile."""
    connection = connections["registry"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connection.settings_dict, "NAME", database.url.rpartition("/")[2])
        ensure_control_tables()
        connection.close()


def drop(database: Database) -> None:
    """Drop a database, whoever is still connected: its many files would make the end of a run long."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        name = sql.Identifier(database.url.rpartition("/")[2])
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def create_database() -> Iterator[Callable[..., Database]]:
    """Make databases of the test server; they go when it goes."""
    server_url = os.environ["DATABASE_URL"]
    with psycopg.connect(server_url, autocommit=True) as connection:

        def create(name: str | None = None, *, template: str = "template0") -> Database:
            name = name or f"scratch_{next(_numbers)}"
            # Copying files beats copying through the log when nothing needs to be durable.
            query = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
            connection.execute(query.format(sql.Identifier(name), sql.Identifier(template)))
            return Database(urlunsplit(urlsplit(server_url)._replace(path=f"/{name}")))

        yield create


@pytest.fixture(scope="session")
def template_database(create_database: Callable[..., Database], django_db_blocker: DjangoDbBlocker) -> Database:
    """A database with the whole schema and the control tables, to be copied and never connected to."""
    database = create_database(TEMPLATE)
    migrate(database)
    with django_db_blocker.unblock():
        create_control_tables(database)
    return database


@pytest.fixture(scope="session")
def migrated_database(create_database, template_database) -> Iterator[psycopg.Connection]:
    """A connection to a database that holds the whole schema and nothing of Django's own; for reading."""
    with create_database(template=TEMPLATE).connect() as connection:
        yield connection


@pytest.fixture
def scratch_database(create_database: Callable[..., Database]) -> Iterator[Database]:
    """An empty database, for the migrator."""
    database = create_database()
    yield database
    drop(database)


@pytest.fixture
def scratch_copy(create_database: Callable[..., Database], template_database: Database) -> Iterator[Database]:
    """A database with the whole schema, for a test that changes it."""
    database = create_database(template=TEMPLATE)
    yield database
    drop(database)


@pytest.fixture(scope="session")
def reference_template(create_database: Callable[..., Database]) -> str:
    """The name of a database as GitLab's registry v4.32 leaves it, to be copied and never connected to."""
    make_reference(create_database(REFERENCE))
    return REFERENCE


@pytest.fixture
def gitlab(create_database: Callable[..., Database], reference_template: str) -> Iterator[Database]:
    """A database of GitLab's registry, with nothing of ours."""
    database = create_database(template=reference_template)
    yield database
    drop(database)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(template_database: Database) -> None:
    """Let Django's test database begin as a copy of the migrated one."""
    for database in settings.DATABASES.values():
        database.setdefault("TEST", {})["TEMPLATE"] = TEMPLATE


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup) -> Iterator[None]:
    """Let go of the second alias of the test database too, before it is dropped."""
    yield
    connections.close_all()


@pytest.fixture
def committed_db(django_db_setup, django_db_blocker) -> Iterator[None]:
    """The Django databases without a surrounding transaction, for threads, locks and bulk writers; emptied after."""
    with django_db_blocker.unblock():
        yield
        with connections["registry"].cursor() as cursor:
            cursor.execute(EMPTY_TABLES)
        connections.close_all()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before the test server, which does nothing of its own yet."""
    server = urlsplit(os.environ["DATABASE_URL"])
    with Proxy((server.hostname or "", server.port or 0)).running() as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy) -> Callable[[Database], Database]:
    """Return a database as it is reached through the proxy."""

    def through(database: Database) -> Database:
        parts = urlsplit(database.url)
        place = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"
        return Database(urlunsplit(parts._replace(netloc=place)))

    return through


@pytest.fixture
def aliases_through(proxy: Proxy) -> Iterator[Proxy]:
    """Let all of Django's own connections go through the proxy; what makes databases has to come before."""
    with pytest.MonkeyPatch.context() as patch:
        connections.close_all()
        for alias in settings.DATABASES:
            patch.setitem(connections[alias].settings_dict, "HOST", "127.0.0.1")
            patch.setitem(connections[alias].settings_dict, "PORT", str(proxy.port))
        yield proxy
        connections.close_all()


@pytest.fixture
def registry_tree(tmp_path: Path) -> Path:
    """A fresh copy of the small registry's storage tree; tests/data/make_registry_tree.py made it."""
    unpack_tree(tmp_path / "registry")
    return tmp_path / "registry"


@pytest.fixture(scope="session")
def token_auth() -> TokenAuth:
    """Who signs tokens for the API."""
    return TokenAuth()


@pytest.fixture
def api(settings, token_auth: TokenAuth, tmp_path: Path) -> ApiClient:
    """A client of the API, which trusts `token_auth`."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(token_auth.certificate())
    settings.AUTH_TOKEN_REALM, settings.AUTH_TOKEN_SERVICE = token_auth.realm, token_auth.service
    settings.AUTH_TOKEN_ISSUER, settings.AUTH_TOKEN_ROOTCERTBUNDLE = token_auth.issuer, str(bundle)
    return ApiClient(token_auth)
