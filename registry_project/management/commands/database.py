"""`manage.py database`: one command tree over the apps' command lines, and the one place that words their errors."""

from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

import psycopg
from django.conf import settings
from django.core.management.base import CommandError, CommandParser, OutputWrapper
from django.db import Error as DatabaseError
from django.db import connections

from metadata_import import cli as import_cli
from metadata_import.errors import MetadataImportError
from registry_project.management.examples import CommandWithExamples
from schema_migrations import cli as migrate_cli
from schema_migrations import services as schema_services
from schema_migrations.errors import SchemaMigrationError

EXAMPLES = """examples (each subcommand has a --help of its own):
  python manage.py database migrate up --dry-run
  python manage.py database migrate status
  python manage.py database import /var/lib/registry --dry-run"""


class Command(CommandWithExamples):
    """Dispatches to `migrate` and `import`; every refusal is one line on standard error and exit code 1."""

    help = "Manage the registry's metadata database: its schema, and the import of a storage tree into it."

    examples = EXAMPLES

    def add_arguments(self, parser: CommandParser) -> None:
        """Hand each app its own part of the command tree."""
        subparsers = parser.add_subparsers(dest="database_command", required=True, metavar="migrate|import")
        migrate = subparsers.add_parser(
            "migrate",
            help=migrate_cli.DESCRIPTION,
            description=migrate_cli.DESCRIPTION,
            epilog=EXAMPLES,
            formatter_class=RawDescriptionHelpFormatter,
        )
        migrate_cli.add_arguments(migrate)
        import_cli.add_arguments(subparsers.add_parser("import", help=import_cli.DESCRIPTION))

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the chosen subcommand."""
        stdout, stderr = cast("TextIO", self.stdout), cast("TextIO", self.stderr)
        with _left_alone(self.stdout), _left_alone(self.stderr):
            self._dispatch(options, stdout, stderr)

    def _dispatch(self, options: dict[str, Any], stdout: TextIO, stderr: TextIO) -> None:
        try:
            if options["database_command"] == "migrate":
                migrate_cli.handle(options, stdout=stdout, stderr=stderr)
            else:
                import_cli.handle(options, stdout=stdout, stderr=stderr, pending_migrations=_count_pending_migrations)
        except (SchemaMigrationError, MetadataImportError) as error:
            raise CommandError(str(error)) from error
        except (psycopg.Error, DatabaseError) as error:
            raise CommandError(f"The registry database answered: {' '.join(str(error).split())}") from error


@contextmanager
def _left_alone(stream: OutputWrapper) -> Iterator[None]:
    """Keep Django from colouring what is written and from ending each piece of it with a line break."""
    ending, style_func = stream.ending, stream.style_func
    stream.ending, stream.style_func = "", None
    try:
        yield
    finally:
        stream.ending, stream.style_func = ending, style_func


def _count_pending_migrations() -> int:
    connections["registry"].ensure_connection()
    return schema_services.count_pending(
        connections["registry"].connection, own_database=settings.SCHEMA_OWNER == "self"
    )
