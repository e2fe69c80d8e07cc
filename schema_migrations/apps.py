"""Registers the app with Django."""

from django.apps import AppConfig


class SchemaMigrationsConfig(AppConfig):
    """Schema migrations."""

    name = "schema_migrations"
    verbose_name = "Schema migrations"
