"""`manage.py background_migrate`: hands over to the app's command line, and words its errors."""

from typing import Any, TextIO, cast

import psycopg
from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError

from background_migrations import cli
from background_migrations.errors import BackgroundMigrationError
from registry_project.gitlab_release import check_release_first
from registry_project.management.examples import CommandWithExamples
from registry_project.management.streams import left_alone
from registry_project.management.wording import in_one_line
from schema_migrations.errors import SchemaMigrationError


class Command(CommandWithExamples):
    """Every refusal is one line on standard error and exit code 1."""

    help = cli.DESCRIPTION

    examples = """examples (each subcommand has a --help of its own):
  python manage.py background_migrate status
  python manage.py background_migrate pause
  python manage.py background_migrate worker --concurrency 4"""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the subcommands."""
        cli.add_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the chosen subcommand."""
        stdout, stderr = cast("TextIO", self.stdout), cast("TextIO", self.stderr)
        try:
            with left_alone(self.stdout, self.stderr):
                check_release_first()
                cli.handle(options, stdout=stdout, stderr=stderr)
        except (BackgroundMigrationError, SchemaMigrationError) as error:
            raise CommandError(str(error)) from error
        except (psycopg.Error, DatabaseError) as error:
            raise CommandError(f"The registry database answered: {in_one_line(error)}") from error
