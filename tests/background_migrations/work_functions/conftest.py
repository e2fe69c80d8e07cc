"""One copy of the registry's database for all tests of work functions: making one takes seconds."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.conftest import TEMPLATE, Database, drop


@pytest.fixture(scope="package")
def database(create_database: Callable[..., Database], template_database: Database) -> Iterator[Database]:
    """A database with the whole schema; whatever a test commits there, it removes."""
    database = create_database(template=TEMPLATE)
    yield database
    drop(database)


@pytest.fixture(scope="package")
def shared_connection(database: Database) -> Iterator[psycopg.Connection]:
    """An autocommit connection, for tests that begin and roll back a transaction for each of many examples."""
    with database.connect() as connection:
        yield connection


@pytest.fixture
def connection(shared_connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection in a transaction that is rolled back."""
    with shared_connection.transaction(force_rollback=True):
        yield shared_connection
