"""What Django's commands over migrations need to work on `default` and on `registry` in one run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.core.management.base import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS
from django.db import Error as DatabaseError

from registry_project import control_tables
from registry_project.errors import MigrateError
from registry_project.management.examples import CommandWithExamples
from registry_project.management.wording import in_one_line
from schema_migrations.errors import SchemaMigrationError

ALIASES = (DEFAULT_DB_ALIAS, control_tables.ALIAS)


class EachDatabaseCommand(CommandWithExamples):
    """To be put before one of Django's commands: `--database` chooses one of two, both without it."""

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Return a parser in which our --database takes the place of Django's."""
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **options)

    def add_arguments(self, parser: CommandParser) -> None:
        """Django's arguments, with another --database."""
        super().add_arguments(parser)
        parser.add_argument("--database", choices=ALIASES, help="this one alone; without it: both, default first")

    def write_heading(self, alias: str) -> None:
        """Say which database the lines that follow are about."""
        place = f"{alias}, schema {control_tables.SCHEMA}" if alias == control_tables.ALIAS else alias
        self.stdout.write(self.style.MIGRATE_HEADING(f"Database {place}:"))


@contextmanager
def errors_in_one_line(alias: str) -> Iterator[None]:
    """Turn what a database or its driver says into the one line that a command ends with."""
    try:
        yield
    except (MigrateError, SchemaMigrationError, psycopg.Error, DatabaseError) as error:
        undone = " Nothing was changed there." if alias == control_tables.ALIAS else ""
        raise CommandError(f"Database {alias}: {in_one_line(error, alias=alias)}{undone}") from error
