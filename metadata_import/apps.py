"""Registers the app with Django."""

from django.apps import AppConfig


class MetadataImportConfig(AppConfig):
    """Metadata import."""

    name = "metadata_import"
    verbose_name = "Metadata import"
