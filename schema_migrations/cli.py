"""`database migrate`: parses, builds, calls, prints. Every decision is the engine's."""

import argparse
import datetime
import getpass
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Protocol, TextIO

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections
from psycopg import Connection

from schema_migrations import preflight, recorder, services
from schema_migrations.errors import ForeignSchemaError, NothingAppliedError, SchemaMigrationError
from schema_migrations.journal import Author
from schema_migrations.loader import KnownMigration, load_migrations
from schema_migrations.migration import Phase
from schema_migrations.migrator import BackgroundOutcome, FinishBackgroundMigrations, Migrator
from schema_migrations.planner import Direction, Step, plan_down, plan_up, select
from schema_migrations.printing import ProgressReporter, print_plan, print_result, print_statuses
from schema_migrations.runner import Limits
from schema_migrations.writer import Draft, write_migration, write_queueing_migration

MAXIMUM_APPLICATION_NAME = 63  # PostgreSQL cuts longer ones
TABLE, COLUMN = "public.repositories", "id"
DESCRIPTION = "Manage the schema of the registry's metadata database."
EXAMPLES = {
    "up": """examples:
  python manage.py database migrate up                          everything pending
  python manage.py database migrate up --dry-run                show the plan and its SQL, change nothing
  python manage.py database migrate up --skip-post-deployment   before the new code runs
  python manage.py database migrate up --limit 1                one pre-deployment migration""",
    "down": """examples:
  python manage.py database migrate down --limit 1            undo the newest pre-deployment migration
  python manage.py database migrate down --post-deploy-limit 1 --force""",
    "status": """examples:
  python manage.py database migrate status
  python manage.py database migrate status --up-to-date       true or false, exit code 0 or 1""",
    "version": """example:
  python manage.py database migrate version""",
    "new": """examples:
  python manage.py database migrate new add_repositories_size_column
  python manage.py database migrate new add_repositories_created_at_index --post-deployment
  python manage.py database migrate new backfill_tags_size --background --table public.tags --column id""",
}
HELP = {
    "up": "apply pending migrations",
    "down": "undo applied migrations",
    "status": "list migrations and when they were applied",
    "version": "print the id of the newest applied migration",
    "new": "write the file of a new migration (for developers)",
}


class FinishBackground(Protocol):
    """Returns how many background migrations it completed, and which of these (None: of all) are not finished.

    Without `run` it only looks.
    """

    def __call__(self, names: Sequence[str] | None, *, run: bool) -> tuple[int, Sequence[str]]: ...


class DraftBackground(Protocol):
    """Drafts a background migration over a table, in batches by a column."""

    def __call__(self, name: str, *, table: str, column: str) -> Draft: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `database migrate` with their options."""
    subparsers = parser.add_subparsers(dest="migrate_command", required=True, metavar="up|down|status|version|new")
    commands = {
        name: subparsers.add_parser(
            name,
            help=HELP[name],
            description=HELP[name].capitalize() + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, epilog in EXAMPLES.items()
    }
    for name in ("up", "down"):
        _add_limits(commands[name])
    for name in ("up", "status"):
        commands[name].add_argument(
            "-s",
            "--skip-post-deployment",
            action="store_true",
            help="leave post-deployment migrations out (environment: SKIP_POST_DEPLOYMENT_MIGRATIONS)",
        )
    commands["down"].add_argument("-f", "--force", action="store_true", help="do not ask")
    commands["status"].add_argument("-u", "--up-to-date", action="store_true", help="print true or false, exit 0 or 1")
    commands["new"].add_argument("name", help="lower-case words joined by _, such as add_tags_size_column")
    commands["new"].add_argument("--post-deployment", action="store_true", help="for after the new code runs")
    commands["new"].add_argument(
        "--background", action="store_true", help="queue a background migration; write its work function and test too"
    )
    commands["new"].add_argument("--table", metavar="SCHEMA.TABLE", help=f"what it goes through ({TABLE})")
    commands["new"].add_argument("--column", help=f"whole numbers that its batches are cut by ({COLUMN})")
    for command in commands.values():
        command.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        command.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS, default=argparse.SUPPRESS)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n",
        "--limit",
        type=int,
        metavar="N",
        help="at most N pre-deployment migrations; alone: no post-deployment",
    )
    parser.add_argument(
        "-p",
        "--post-deploy-limit",
        type=int,
        metavar="N",
        help="at most N post-deployment ones; alone: no others",
    )
    parser.add_argument("-d", "--dry-run", action="store_true", help="print the plan with its SQL, change nothing")


def handle(
    options: dict[str, Any],
    *,
    stdout: TextIO,
    stderr: TextIO,
    finish_background: FinishBackground,
    draft_background: DraftBackground,
) -> None:
    """Run one subcommand. Raises the app's errors; CommandError ends it with exit code 1."""
    name = options["migrate_command"]
    if name in ("up", "down", "new") and settings.SCHEMA_OWNER == "gitlab":
        raise ForeignSchemaError(name)
    commands: dict[str, Callable[[dict[str, Any], TextIO, TextIO], None]] = {
        "up": partial(_up, finish_background=finish_background),
        "down": _down,
        "status": _status,
        "version": _version,
        "new": partial(_new, draft_background=draft_background),
    }
    commands[name](options, stdout, stderr)


def _up(options: dict[str, Any], stdout: TextIO, stderr: TextIO, *, finish_background: FinishBackground) -> None:
    skip = options["skip_post_deployment"] or (
        # The environment is a default only: a limit given by hand wins over it.
        settings.SKIP_POST_DEPLOYMENT_MIGRATIONS and options["post_deploy_limit"] is None
    )
    selection = select(
        limit=options["limit"], post_deploy_limit=options["post_deploy_limit"], skip_post_deployment=skip
    )
    if options["dry_run"]:
        steps = plan_up(_known(), applied=_applied_ids(), selection=selection)
        print_plan(steps, as_json=options["json"], stdout=stdout)
        return
    with _migrator(options, stderr, finish_background=finish_background) as migrator:
        result = migrator.up(selection)
        _warn_of_changes(services.migration_statuses(migrator.connection, known=migrator.known), stderr)
    print_result(result, direction=Direction.UP, as_json=options["json"], stdout=stdout)


def _down(options: dict[str, Any], stdout: TextIO, stderr: TextIO) -> None:
    selection = select(limit=options["limit"], post_deploy_limit=options["post_deploy_limit"])
    if options["dry_run"]:
        steps = plan_down(_known(), applied=_applied_ids(), selection=selection)
        print_plan(steps, as_json=options["json"], stdout=stdout)
        return
    with _migrator(options, stderr) as migrator:
        steps = migrator.plan_down(selection)
        if steps and not options["force"]:
            _confirm(steps, stderr)
        result = migrator.down(selection, confirmed=steps)
    print_result(result, direction=Direction.DOWN, as_json=options["json"], stdout=stdout)


def _status(options: dict[str, Any], stdout: TextIO, stderr: TextIO) -> None:
    skip = options["skip_post_deployment"] or settings.SKIP_POST_DEPLOYMENT_MIGRATIONS
    with _open_connection() as connection:
        statuses = [
            status
            for status in services.migration_statuses(connection, known=_known())
            if not (skip and status.phase is Phase.POST_DEPLOYMENT)
        ]
    if options["up_to_date"]:
        up_to_date = not any(status.pending for status in statuses)
        print(json.dumps({"up_to_date": up_to_date} if options["json"] else up_to_date), file=stdout)
        if not up_to_date:
            sys.exit(1)
    else:
        print_statuses(statuses, as_json=options["json"], stdout=stdout)
    _warn_of_changes(statuses, stderr)


def _warn_of_changes(statuses: Sequence[services.MigrationStatus], stderr: TextIO) -> None:
    if changed := [status.id for status in statuses if status.changed]:
        print(f"Changed since they were applied: {', '.join(changed)}", file=stderr)


def _version(options: dict[str, Any], stdout: TextIO, _stderr: TextIO) -> None:
    with _open_connection() as connection:
        applied = recorder.applied_migrations(connection)
    if not applied:
        raise NothingAppliedError
    print(json.dumps({"version": applied[-1].id}) if options["json"] else applied[-1].id, file=stdout)


def _new(options: dict[str, Any], stdout: TextIO, _stderr: TextIO, *, draft_background: DraftBackground) -> None:
    name, now = options["name"], datetime.datetime.now(datetime.UTC)
    phase = Phase.POST_DEPLOYMENT if options["post_deployment"] else Phase.PRE_DEPLOYMENT
    target = {"table": options["table"], "column": options["column"]}
    given = {option: value for option, value in target.items() if value is not None}
    if given and not options["background"]:
        raise CommandError("--table and --column are for a background migration; give --background too.")
    try:
        if options["background"]:
            draft = partial(draft_background, **{"table": TABLE, "column": COLUMN, **given})
            paths = write_queueing_migration(name, phase=phase, now=now, draft=draft)
        else:
            paths = [write_migration(name, phase=phase, now=now)]
    except OSError as error:
        raise CommandError(f"Nothing was written: {error}") from error
    texts = [str(path) for path in paths]
    print(json.dumps({"path": texts[-1], "paths": texts}) if options["json"] else "\n".join(texts), file=stdout)


# --- Building -----------------------------------------------------------------------------------------------------


def _known() -> tuple[KnownMigration, ...]:
    return load_migrations(own_database=settings.SCHEMA_OWNER == "self")


def _open_connection(name: str = "database migrate") -> Connection:
    """Open a connection that no request shares; whoever opens it closes it. Raises when the server is too old."""
    wrapper = connections["registry"].copy()
    wrapper.settings_dict["OPTIONS"]["application_name"] = name[:MAXIMUM_APPLICATION_NAME]
    wrapper.ensure_connection()
    connection: Connection = wrapper.connection
    try:
        preflight.check_version(connection)
    except SchemaMigrationError:
        connection.close()
        raise
    return connection


def _applied_ids() -> set[str]:
    with _open_connection() as connection:
        return {each.id for each in recorder.applied_migrations(connection)}


def _user() -> str:
    """Return who runs this; in a container the account may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@contextmanager
def _migrator(
    options: dict[str, Any], stderr: TextIO, *, finish_background: FinishBackground | None = None
) -> Iterator[Migrator]:
    actor = f"{_user()}@{socket.gethostname()}"
    name = f"database migrate {options['migrate_command']} by {actor}, pid {os.getpid()}"
    with _open_connection(name) as connection, closing(ProgressReporter(stderr)) as reporter:
        yield Migrator(
            connection=connection,
            connect=_open_connection,
            known=_known(),
            author=Author(actor=actor, release=settings.VERSION),
            reporter=reporter,
            limits=Limits(
                lock_timeout=settings.SCHEMA_LOCK_TIMEOUT_SECONDS,
                statement_timeout=settings.SCHEMA_STATEMENT_TIMEOUT_SECONDS,
                migrator_wait=settings.SCHEMA_MIGRATOR_WAIT_SECONDS,
            ),
            finish_background=_beside(reporter, finish_background) if finish_background else None,
        )


def _beside(reporter: ProgressReporter, finish_background: FinishBackground) -> FinishBackgroundMigrations:
    """Return it as the migrator wants it, with the terminal for itself while it works."""

    def finish(names: Sequence[str] | None, *, run: bool) -> BackgroundOutcome:
        with reporter.aside():
            completed, unfinished = finish_background(names, run=run)
        return BackgroundOutcome(completed, tuple(unfinished))

    return finish


# --- Asking --------------------------------------------------------------------------------------------------------


def _confirm(steps: Sequence[Step], stderr: TextIO) -> None:
    print("These migrations will be undone, with the data in what they made:", file=stderr)
    for step in steps:
        print(f"  {step.known.id}", file=stderr)
    print(f"Undo {len(steps)} migrations? [y/N] ", end="", file=stderr, flush=True)
    answer = sys.stdin.readline() if sys.stdin else ""
    if not answer:
        raise CommandError("Nobody answered; nothing was undone. Use --force where nobody can be asked.")
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was undone.")
