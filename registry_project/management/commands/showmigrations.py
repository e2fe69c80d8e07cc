"""`manage.py showmigrations`: Django's own command, each app under the database that holds its tables."""

from typing import Any

from django.core.management.commands import showmigrations
from django.db import router

from registry_project import control_tables
from registry_project.management.each_database import ALIASES, EachDatabaseCommand, errors_in_one_line

EXAMPLES = """examples:
  python manage.py showmigrations
  python manage.py showmigrations --database registry
  python manage.py showmigrations background_migrations

The schema migrations of the registry itself: python manage.py database migrate status"""


class Command(EachDatabaseCommand, showmigrations.Command):
    """Shows all databases unless one is named."""

    help = "List Django's migrations and which of them are applied."
    examples = EXAMPLES

    def handle(self, *_args: Any, **options: Any) -> None:
        """Show one database after the other; of named apps each where it lives."""
        for alias in [options["database"]] if options["database"] else ALIASES:
            labels = options["app_label"]
            if not options["database"]:
                labels = [label for label in labels if router.allow_migrate(alias, label)]
            if labels or not options["app_label"]:
                self._show(alias, {**options, "app_label": labels})

    def _show(self, alias: str, options: dict[str, Any]) -> None:
        self.write_heading(alias)
        registry = alias == control_tables.ALIAS
        place = control_tables.only_control_tables(change=False) if registry else control_tables.only_apps_of(alias)
        with errors_in_one_line(alias), place:
            super().handle(**{**options, "database": alias})
