"""Which model lives in which database: the registry's tables in `registry`, Django's own in `default`."""

from typing import Any

from django.db.models import Model

REGISTRY_APPS = frozenset({"schema_migrations", "background_migrations", "metadata_import"})


class RegistryRouter:
    """Sends each app to its one alias; no relation crosses from one to the other."""

    def db_for_read(self, model: type[Model], **_hints: Any) -> str:
        """Return the alias that holds this model."""
        return _alias_of(model._meta.app_label)

    def db_for_write(self, model: type[Model], **_hints: Any) -> str:
        """Return the alias that holds this model: reads and writes go to one place."""
        return _alias_of(model._meta.app_label)

    def allow_relation(self, first: Model, second: Model, **_hints: Any) -> bool:
        """Allow a relation within one alias only."""
        return _alias_of(first._meta.app_label) == _alias_of(second._meta.app_label)

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool:
        """Let Django's migrations of an app touch its own alias alone."""
        return db == _alias_of(app_label)


def _alias_of(app_label: str) -> str:
    return "registry" if app_label in REGISTRY_APPS else "default"
