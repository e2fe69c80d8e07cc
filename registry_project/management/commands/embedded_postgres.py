"""`manage.py embedded_postgres`: start, stop or look at the bundled PostgreSQL."""

import json
from argparse import ArgumentParser
from dataclasses import asdict

from django.core.management.base import CommandError

from registry_project import demo
from registry_project.embedded_postgres import EmbeddedPostgresError, ServerStatus
from registry_project.management.examples import CommandWithExamples

EXAMPLES = """\
example:
  python manage.py embedded_postgres start
  python manage.py embedded_postgres status --json

Where DATABASE_URL is not set, every command uses this server and starts it if need be; it runs until it is
stopped. `status` exits with 0 whether or not it runs; the URL that it prints contains the password."""


class Command(CommandWithExamples):
    """Starts, stops or shows the bundled server of this checkout."""

    help = "Start, stop or show the PostgreSQL that is bundled for when DATABASE_URL is not set."

    examples = EXAMPLES

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One action, and how to print what came of it."""
        parser.add_argument("action", choices=("start", "stop", "status"), help="what to do with it")
        parser.add_argument("--json", action="store_true", help="print the server's status as JSON")

    def handle(self, *, action: str, **options: object) -> None:
        """Do the action, then print the server's status."""
        if action != "status" and not demo.stands_in():
            raise CommandError(f"DATABASE_URL is set, so the bundled PostgreSQL is not used; unset it to {action} it.")
        server = demo.bundled_server()
        try:
            if action == "start":
                server.start()
            stopped = action == "stop" and server.stop()
            status = server.status()
        except EmbeddedPostgresError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(_as_json(status) if options["json"] else _as_text(status, stopped=stopped))


def _as_json(status: ServerStatus) -> str:
    return json.dumps(asdict(status), default=str)


def _as_text(status: ServerStatus, *, stopped: bool) -> str:
    if stopped:
        return "stopped"
    return f"running at {status.url}" if status.running else "not running"
