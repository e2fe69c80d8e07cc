"""`manage.py background_migrate`: hands over to the command line of this app, and words its errors."""

from argparse import RawDescriptionHelpFormatter
from typing import Any, TextIO, cast

import psycopg
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter, OutputWrapper
from django.db import Error as DatabaseError

from background_migrations import cli
from background_migrations.errors import BackgroundMigrationError

EXAMPLES = """examples (each subcommand has a --help of its own):
  python manage.py background_migrate status
  python manage.py background_migrate pause
  python manage.py background_migrate worker --concurrency 4"""


class _Formatter(RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Keeps the line breaks of the examples."""


class Command(BaseCommand):
    """Every refusal is one line on standard error and exit code 1."""

    help = cli.DESCRIPTION

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Return the parser with the examples below its options."""
        parser = super().create_parser(prog_name, subcommand, epilog=EXAMPLES, **options)
        parser.formatter_class = _Formatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the subcommands."""
        cli.add_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the chosen subcommand."""
        for stream in (self.stdout, self.stderr):
            _leave_alone(stream)
        stdout, stderr = cast("TextIO", self.stdout), cast("TextIO", self.stderr)
        try:
            cli.handle(options, stdout=stdout, stderr=stderr)
        except BackgroundMigrationError as error:
            raise CommandError(str(error)) from error
        except (psycopg.Error, DatabaseError) as error:
            raise CommandError(f"The registry database answered: {' '.join(str(error).split())}") from error


def _leave_alone(stream: OutputWrapper) -> None:
    """Keep Django from colouring what is written and from ending each piece of it with a line break."""
    stream.ending, stream.style_func = "", None
