"""Registers the app with Django."""

from django.apps import AppConfig


class BackgroundMigrationsConfig(AppConfig):
    """Background migrations."""

    name = "background_migrations"
    verbose_name = "Background migrations"
