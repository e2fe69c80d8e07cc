"""Registers the app with Django."""

from django.apps import AppConfig


class RegistryProjectConfig(AppConfig):
    """Registry project."""

    name = "registry_project"
    verbose_name = "Registry project"
