"""Registers the app with Django."""

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings


class RegistryProjectConfig(AppConfig):
    """Registry project."""

    name = "registry_project"
    verbose_name = "Registry project"

    def ready(self) -> None:
        """Begin to report errors, where somebody takes the reports; what does that is heavy to load."""
        if settings.SENTRY_DSN:
            import_module("registry_project.error_reports").start()
