"""`manage.py database`: one command tree over the apps' command lines, and the one place that words their errors.

It hands one app what it needs of another: neither knows the other.
"""

from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from functools import partial
from typing import Any, TextIO, cast

import psycopg
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connections

from background_migrations import running, sync_runner, wiring
from background_migrations.errors import BackgroundMigrationError
from background_migrations.sessions import REGISTRY
from background_migrations.writer import draft_background_migration
from metadata_import import cli as import_cli
from metadata_import.errors import MetadataImportError
from registry_project.control_tables import ensure_control_tables
from registry_project.management.examples import CommandWithExamples
from registry_project.management.streams import left_alone
from registry_project.management.wording import in_one_line
from schema_migrations import cli as migrate_cli
from schema_migrations import services as schema_services
from schema_migrations.errors import SchemaMigrationError

INSTALLATION_ATTEMPTS = 5
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
        with left_alone(self.stdout, self.stderr):
            self._dispatch(options, stdout, stderr)

    def _dispatch(self, options: dict[str, Any], stdout: TextIO, stderr: TextIO) -> None:
        try:
            if options["database_command"] == "migrate":
                migrate_cli.handle(
                    options,
                    stdout=stdout,
                    stderr=stderr,
                    finish_background=partial(_finish_background_migrations, stderr=stderr),
                    draft_background=draft_background_migration,
                )
            else:
                ensure_control_tables()
                import_cli.handle(options, stdout=stdout, stderr=stderr, pending_migrations=_count_pending_migrations)
        except (SchemaMigrationError, BackgroundMigrationError, MetadataImportError) as error:
            raise CommandError(str(error)) from error
        except (psycopg.Error, DatabaseError) as error:
            resumes = options["database_command"] == "import" and not (options["dry_run"] or options["verify"])
            advice = " What was done is kept: run the same command again, and it goes on." if resumes else ""
            raise CommandError(f"The registry database answered: {in_one_line(error)}{advice}") from error


# --- What the import needs of the schema migrations -------------------------------------------------------------------


def _count_pending_migrations() -> int:
    connections["registry"].ensure_connection()
    return schema_services.count_pending(
        connections["registry"].connection, own_database=settings.SCHEMA_OWNER == "self"
    )


# --- What the schema migrations need of the background migrations -----------------------------------------------------


def _finish_background_migrations(
    names: Sequence[str] | None, *, run: bool, stderr: TextIO
) -> tuple[int, Sequence[str]]:
    """Return how many of these (None: of all) were finished now, and which are not; with `run`, run the active ones."""
    with wiring.connectors("database migrate up, background")[REGISTRY]() as connection:
        waiting = sync_runner.unfinished_names(connection, names)
        if not (run and waiting):
            return 0, waiting
        ensure_control_tables()
        print(f"Finishing {len(waiting)} background migration(s)", file=stderr, flush=True)
        result = running.finish_now(
            waiting, max_attempts=INSTALLATION_ATTEMPTS, purpose="database migrate up", stderr=stderr
        )
    for name, reason in result.unfinished.items():
        print(f"{name} is not finished: {reason}. See: background_migrate events {name}", file=stderr)
    return len(result.finished), [name for name in waiting if name not in result.finished]
