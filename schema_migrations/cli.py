"""`database migrate`: parses, builds, calls, prints. Every decision is the engine's."""

import argparse
import datetime
import getpass
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections
from psycopg import Connection

from schema_migrations import preflight, recorder, services
from schema_migrations.errors import ForeignSchemaError, NothingAppliedError, SchemaMigrationError
from schema_migrations.journal import Author
from schema_migrations.loader import KnownMigration, load_migrations
from schema_migrations.migration import Phase
from schema_migrations.migrator import Limits, Migrator, Result
from schema_migrations.planner import Step, plan_down, plan_up, select
from schema_migrations.watcher import IndexBuild
from schema_migrations.writer import write_migration

MAXIMUM_APPLICATION_NAME = 63  # PostgreSQL cuts longer ones
DESCRIPTION = "Manage the schema of the registry's metadata database."
EXAMPLES = {
    "up": """examples:
  python manage.py database migrate up                        everything pending
  python manage.py database migrate up --dry-run              show the plan and its SQL, change nothing
  python manage.py database migrate up --skip-post-deployment before the new code runs
  python manage.py database migrate up --limit 1              one pre-deployment migration""",
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
  python manage.py database migrate new add_repositories_created_at_index --post-deployment""",
}
HELP = {
    "up": "apply pending migrations",
    "down": "undo applied migrations",
    "status": "list migrations and when they were applied",
    "version": "print the id of the newest applied migration",
    "new": "write the file of a new migration (for developers)",
}


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


def handle(options: dict[str, Any], *, stdout: TextIO, stderr: TextIO) -> None:
    """Run one subcommand. Raises the app's errors; CommandError ends it with exit code 1."""
    name = options["migrate_command"]
    if name in ("up", "down", "new") and settings.SCHEMA_OWNER == "gitlab":
        raise ForeignSchemaError(name)
    commands = {"up": _up, "down": _down, "status": _status, "version": _version, "new": _new}
    commands[name](options, stdout, stderr)


def _up(options: dict[str, Any], stdout: TextIO, stderr: TextIO) -> None:
    skip = options["skip_post_deployment"] or (
        # The environment is a default only: a limit given by hand wins over it.
        settings.SKIP_POST_DEPLOYMENT_MIGRATIONS and options["post_deploy_limit"] is None
    )
    selection = select(
        limit=options["limit"], post_deploy_limit=options["post_deploy_limit"], skip_post_deployment=skip
    )
    if options["dry_run"]:
        _print_plan(plan_up(_known(), applied=_applied_ids(), selection=selection), options, stdout)
        return
    with _migrator(options, stderr) as migrator:
        result = migrator.up(selection)
    _print_result(result, options, stdout)


def _down(options: dict[str, Any], stdout: TextIO, stderr: TextIO) -> None:
    selection = select(limit=options["limit"], post_deploy_limit=options["post_deploy_limit"])
    if options["dry_run"]:
        _print_plan(plan_down(_known(), applied=_applied_ids(), selection=selection), options, stdout)
        return
    with _migrator(options, stderr) as migrator:
        steps = migrator.plan_down(selection)
        if steps and not options["force"]:
            _confirm(steps, stderr)
        result = migrator.down(selection, confirmed=steps)
    _print_result(result, options, stdout)


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
    elif options["json"]:
        print(json.dumps({"migrations": [_as_json(status) for status in statuses]}, indent=2), file=stdout)
    else:
        _print_table(statuses, stdout)
    if changed := [status.id for status in statuses if status.changed]:
        print(f"Changed since they were applied: {', '.join(changed)}", file=stderr)


def _version(options: dict[str, Any], stdout: TextIO, _stderr: TextIO) -> None:
    with _open_connection() as connection:
        applied = recorder.applied_migrations(connection)
    if not applied:
        raise NothingAppliedError
    print(json.dumps({"version": applied[-1].id}) if options["json"] else applied[-1].id, file=stdout)


def _new(options: dict[str, Any], stdout: TextIO, _stderr: TextIO) -> None:
    phase = Phase.POST_DEPLOYMENT if options["post_deployment"] else Phase.PRE_DEPLOYMENT
    path = write_migration(options["name"], phase=phase, now=datetime.datetime.now(datetime.UTC))
    print(json.dumps({"path": str(path)}) if options["json"] else path, file=stdout)


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


@contextmanager
def _migrator(options: dict[str, Any], stderr: TextIO) -> Iterator[Migrator]:
    actor = f"{getpass.getuser()}@{socket.gethostname()}"
    name = f"database migrate {options['migrate_command']} by {actor}, pid {os.getpid()}"
    with _open_connection(name) as connection:
        yield Migrator(
            connection=connection,
            connect=_open_connection,
            known=_known(),
            author=Author(actor=actor, release=settings.VERSION),
            reporter=_LineReporter(stderr),
            limits=Limits(
                lock_timeout=settings.SCHEMA_LOCK_TIMEOUT_SECONDS,
                statement_timeout=settings.SCHEMA_STATEMENT_TIMEOUT_SECONDS,
                migrator_wait=settings.SCHEMA_MIGRATOR_WAIT_SECONDS,
            ),
        )


class _LineReporter:
    """Writes a line per step to standard error, with its place in the plan."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._total, self._done = stream, 0, 0

    def waiting(self, holder: str) -> None:
        self._line(f"Waiting for another migrator: {holder}")

    def planned(self, steps: Sequence[Step]) -> None:
        self._total = len(steps)

    def finished(self, step: Step, *, seconds: float) -> None:
        self._done += 1
        count = f"{self._done:>{len(str(self._total))}}/{self._total}"
        self._line(f"[{count}] {step.direction.value} {step.known.id} ({seconds:.3f} s)")

    def retrying(self, step: Step, *, blockers: str, pause_seconds: float) -> None:
        self._line(f"{step.known.id} is blocked by {blockers}; trying again in {pause_seconds:.1f} s")

    def building(self, build: IndexBuild) -> None:
        self._line(f"Building index {build.index}: {build.share:.0%}")

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


# --- Asking and printing ------------------------------------------------------------------------------------------


def _confirm(steps: Sequence[Step], stderr: TextIO) -> None:
    print("These migrations will be undone, with the data in what they made:", file=stderr)
    for step in steps:
        print(f"  {step.known.id}", file=stderr)
    print(f"Undo {len(steps)} migrations? [y/N] ", end="", file=stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        raise CommandError("Nobody answered; nothing was undone. Use --force where nobody can be asked.")
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was undone.")


def _print_plan(steps: Sequence[Step], options: dict[str, Any], stdout: TextIO) -> None:
    if options["json"]:
        print(json.dumps({"plan": [_step_as_json(step) for step in steps]}, indent=2), file=stdout)
        return
    for step in steps:
        migration = step.known.migration
        mode = "in a transaction" if migration.transactional else "without a transaction"
        print(f"-- {step.direction.value} {step.known.id} ({step.known.phase.value}, {mode})", file=stdout)
        if step.pulled_in_by:
            print(f"-- needed by {step.pulled_in_by}", file=stdout)
        if names := migration.required_background_migrations:
            print(f"-- requires background migrations: {', '.join(names)}", file=stdout)
        for statement in step.statements:
            print(f"{statement.strip().rstrip(';')};", file=stdout)
        print(file=stdout)
    print(f"-- {len(steps)} migrations; dry run, nothing was changed", file=stdout)


def _print_result(result: Result, options: dict[str, Any], stdout: TextIO) -> None:
    if options["json"]:
        facts = {
            "migrations": [step.known.id for step in result.steps],
            "background_migrations": result.background_completed,
            "seconds": round(result.seconds, 3),
        }
        print(json.dumps(facts), file=stdout)
        return
    if not result.steps:
        print("OK: nothing to do", file=stdout)
        return
    counts = [
        f"{sum(step.known.phase is phase for step in result.steps)} {phase.value} migration(s)" for phase in Phase
    ]
    if options["migrate_command"] == "up":
        counts.append(f"{result.background_completed} background migration(s)")
    verb = "applied" if options["migrate_command"] == "up" else "undid"
    print(f"OK: {verb} {', '.join(counts[:-1])} and {counts[-1]} in {result.seconds:.3f}s", file=stdout)


def _print_table(statuses: Sequence[services.MigrationStatus], stdout: TextIO) -> None:
    rows = [(status.id, _applied_text(status)) for status in statuses]
    widths = [max(len(row[column]) for row in [("MIGRATION", "APPLIED"), *rows]) for column in (0, 1)]
    rule = "  ".join("-" * width for width in widths)
    lines = [
        rule,
        f"{'MIGRATION':<{widths[0]}}  APPLIED",
        rule,
        *(f"{id_:<{widths[0]}}  {text}" for id_, text in rows),
    ]
    print("\n".join([*lines, rule]), file=stdout)


def _applied_text(status: services.MigrationStatus) -> str:
    if not status.known:
        return "unknown migration"
    if not status.recorded:
        return "no"
    return status.applied_at.strftime("%Y-%m-%d %H:%M:%S.%f %z %Z") if status.applied_at else "at an unknown time"


def _as_json(status: services.MigrationStatus) -> dict[str, Any]:
    return {
        "id": status.id,
        "phase": status.phase.value,
        "applied": status.recorded,
        "applied_at": status.applied_at.isoformat() if status.applied_at else None,
        "known": status.known,
        "changed": status.changed,
    }


def _step_as_json(step: Step) -> dict[str, Any]:
    migration = step.known.migration
    return {
        "id": step.known.id,
        "phase": step.known.phase.value,
        "direction": step.direction.value,
        "transactional": migration.transactional,
        "needed_by": step.pulled_in_by,
        "required_background_migrations": list(migration.required_background_migrations),
        "statements": list(step.statements),
    }
