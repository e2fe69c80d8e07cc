"""`manage.py migrate`: Django's own command, on `default` and then on the control tables in `registry`."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS, router

from registry_project import control_tables
from registry_project.management.each_database import ALIASES, EachDatabaseCommand, errors_in_one_line
from registry_project.migrate_lock import others_kept_out

EXAMPLES = """examples:
  python manage.py migrate                        Django's tables and our control tables
  python manage.py migrate --check                exit code 1 where either lacks something
  python manage.py migrate --database registry    our control tables alone

The tables of the registry itself are not Django's: python manage.py database migrate up"""


class Command(EachDatabaseCommand, migrate.Command):
    """Does all databases unless one is named; on `registry` all of it is one transaction."""

    help = "Create and update Django's own tables, and the control tables in the registry's database."
    examples = EXAMPLES

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        """Have the system checks look at the databases that will be migrated."""
        return {**super().get_check_kwargs(options), "databases": _aliases(options)}

    def handle(self, *_args: Any, **options: Any) -> None:
        """Migrate one database after the other; with --check, exit with 1 when one of them lacks something."""
        unapplied = [alias for alias in _aliases(options) if not self._migrate(alias, options)]
        if unapplied:
            if options["verbosity"]:
                self.stdout.write(f"Unapplied migrations in {' and '.join(unapplied)}.")
            sys.exit(1)

    def _migrate(self, alias: str, options: dict[str, Any]) -> bool:
        """Run Django's command on one database; return False where --check found something to apply."""
        checks = options["check_unapplied"]
        if options["verbosity"] and (options["plan"] or not checks):
            self.write_heading(alias)
        try:
            with errors_in_one_line(alias), _held(alias, change=not (options["plan"] or checks)):
                super().handle(**{**options, "database": alias})
        except SystemExit:  # how Django answers --check
            return False
        return True


def _held(alias: str, *, change: bool) -> AbstractContextManager[None]:
    """Return what keeps other runs out, and Django inside our schema in the registry's database."""
    if alias == control_tables.ALIAS:
        return control_tables.only_control_tables(change=change)
    return others_kept_out(alias, wait_seconds=settings.SCHEMA_MIGRATOR_WAIT_SECONDS) if change else nullcontext()


def _aliases(options: dict[str, Any]) -> list[str]:
    """Return which databases are meant. An app of the registry is recorded in `default` too, as Django does."""
    label, alias = options["app_label"], options["database"]
    if label and alias == control_tables.ALIAS and not router.allow_migrate(alias, label):
        raise CommandError(f"App {label!r} has no tables in database {alias}; leave --database out.")
    if alias:
        return [alias]
    return [each for each in ALIASES if not label or each == DEFAULT_DB_ALIAS or router.allow_migrate(each, label)]
