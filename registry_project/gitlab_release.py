"""Where the schema is GitLab's: refuses a database that is older than those we work on, or that is none of GitLab's."""

from django.conf import settings
from psycopg import Connection

from background_migrations import wiring
from background_migrations.sessions import REGISTRY
from registry_project.api.database import registry_connection
from schema_migrations import services


def check_release(connection: Connection) -> None:
    """Raise OutdatedRegistryError where the registry's database is not of GitLab's registry v4.32 or newer."""
    if settings.SCHEMA_OWNER == "gitlab":
        services.check_release(connection)


def check_release_first() -> None:
    """Look on a connection of its own, before anything else does."""
    if settings.SCHEMA_OWNER == "gitlab":
        with wiring.connectors()[REGISTRY]() as connection:
            services.check_release(connection)


def checked_connection() -> Connection:
    """Return this thread's connection to the registry's database, for what reads tables that older ones lack."""
    connection = registry_connection()
    check_release(connection)
    return connection
