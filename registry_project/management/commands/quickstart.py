"""`manage.py quickstart`: from an empty checkout to a migrated, imported registry database and a site to look at it."""

import fcntl
import io
import json
import secrets
import shlex
import shutil
import socket
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from granian import Granian
from granian.constants import Interfaces
from rich import box
from rich.console import Console
from rich.table import Table

from metadata_import import services as import_services
from registry_project import demo, demo_work
from registry_project.embedded_postgres import kept_files
from registry_project.management.examples import CommandWithExamples

EXAMPLES = """\
examples:
  python manage.py quickstart           set up, import, then serve the site until Ctrl-C
  python manage.py quickstart --once    set up and import, print the summary, end

It works on the bundled PostgreSQL alone. A second run finds everything done."""
ADDRESS = "127.0.0.1"
PORT = 8000
KILL_TIMEOUT_SECONDS = 10
PORTS = 65_536
USER = "demo"
PASSWORD_BYTES = 12
ARCHIVE = demo.CHECKOUT / "tests" / "data" / "registry_tree.zip"
TREE = demo.CHECKOUT / "var" / "demo-registry"


class Command(CommandWithExamples):
    """Sets up a demonstration on the bundled PostgreSQL, from nothing or from whatever an earlier run left."""

    help = "Set up the bundled PostgreSQL, migrate it, import a small registry and serve the site."

    examples = EXAMPLES

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Whether to serve, where, and how to print."""
        parser.add_argument("--once", action="store_true", help="end after the summary instead of serving")
        parser.add_argument("--port", type=_port, default=PORT, help=f"port of the site ({PORT}, or a free one)")
        parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do each step, say what it did and how long it took, then serve."""
        if not demo.stands_in():
            raise CommandError(
                "quickstart fills the bundled PostgreSQL, and DATABASE_URL names another one. Unset it for the demo; "
                "for your own database run: python manage.py migrate && python manage.py database migrate up"
            )
        try:
            with _alone():
                summary = self._set_up()
        except OSError as error:
            raise CommandError(f"The demonstration cannot be set up: {error}") from error
        self._print_summary(summary, as_json=options["json"])
        if not options["once"]:
            self._serve(_free_port(options["port"]))

    def _set_up(self) -> dict[str, Any]:
        began = time.monotonic()
        steps = [
            self._step("Django's own tables", _migrate_django),
            self._step("registry schema", _migrate_registry),
            self._step("import of a small registry", _import_tree),
        ]
        tables = import_services.count_rows(connections["registry"])
        return {"steps": steps, "tables": tables, "seconds": round(time.monotonic() - began, 3)}

    def _step(self, name: str, run: Callable[[], str]) -> dict[str, Any]:
        began = time.monotonic()
        if self.stderr.isatty():
            self.stderr.write(f"{name} …")
        done = run()
        return {"step": name, "done": done, "seconds": round(time.monotonic() - began, 3)}

    def _print_summary(self, summary: dict[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(summary))
            return
        lines = box.SIMPLE_HEAD if self.stdout.isatty() else None
        steps = Table("step", "what was done", "seconds", box=lines)
        for step in summary["steps"]:
            steps.add_row(step["step"], step["done"], f"{step['seconds']:.2f}")
        tables = Table("table", "rows", box=lines)
        for name, rows in summary["tables"].items():
            tables.add_row(name, f"{rows:,}")
        text = io.StringIO()
        Console(file=text, width=120).print(steps, tables)
        self.stdout.write(f"{text.getvalue()}Done in {summary['seconds']:.1f} s.")

    def _serve(self, port: int) -> None:
        password = _demo_password()
        site = f"http://{ADDRESS}:{port}/"
        self.stdout.write(f"Serving {site} (user {USER}, password {password}); Ctrl-C ends it.")
        self.stdout.write(f"The API is described at {site}docs/; ask it, in another terminal:\n{_curl(site)}")
        self.stdout.flush()
        connections.close_all()
        # Granian handles the signals: Ctrl-C and SIGTERM end it, and so this command.
        with demo_work.going_on():
            Granian(
                "registry_project.wsgi:application",
                address=ADDRESS,
                port=port,
                interface=Interfaces.WSGI,
                log_enabled=False,
                # Ctrl-C reaches it and its process at once, and the second signal that this one gets may stun it.
                workers_kill_timeout=KILL_TIMEOUT_SECONDS,
            ).serve()


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < PORTS):
        raise ArgumentTypeError(f"must be a number below {PORTS}")
    return int(text)


@contextmanager
def _alone() -> Iterator[None]:
    """Let two demonstrations of one checkout be set up one after the other."""
    with (demo.HOME / "quickstart.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _migrate_django() -> str:
    out = io.StringIO()
    call_command("migrate", stdout=out, no_color=True)
    applied = out.getvalue().count("... OK")
    return f"{applied} migrations applied" if applied else "up to date"


def _migrate_registry() -> str:
    out = io.StringIO()
    call_command("database", "migrate", "up", "--json", stdout=out, stderr=io.StringIO())
    done = json.loads(out.getvalue())
    if not done["migrations"]:
        return "up to date"
    return (
        f"{len(done['migrations'])} schema migrations applied, "
        f"{done['background_migrations']} background migrations finished"
    )


def _import_tree() -> str:
    if import_services.count_rows(connections["registry"])["tags"]:
        return "imported by an earlier run"
    unpack_tree(TREE)
    out = io.StringIO()
    call_command("database", "import", str(TREE), "--json", stdout=out, stderr=io.StringIO())
    counts = json.loads(out.getvalue())["counts"]
    return f"{counts['repositories']} repositories, {counts['tags']} tags, from {TREE}"


def unpack_tree(target: Path) -> None:
    """Put a fresh copy of the small registry's storage tree in place of whatever is at the target."""
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        fresh = Path(directory) / "tree"
        shutil.unpack_archive(ARCHIVE, fresh)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)


def _demo_password() -> str:
    """Return the password of the demo's administrator, who is made here at the first call."""
    password = kept_files.read_or_create(demo.HOME / "site_password", lambda: secrets.token_urlsafe(PASSWORD_BYTES))
    users = get_user_model().objects
    user = users.filter(username=USER).first()
    if user is None:
        users.create_superuser(USER, password=password)
    elif not user.check_password(password):
        user.set_password(password)
        user.save()
    return password


def _curl(site: str) -> str:
    """Return a command line that asks the API with a fresh token."""
    manage = shlex.join([sys.executable, str(demo.CHECKOUT / "manage.py")])
    token = f"$({manage} registry_token --access 'registry:migrations:*')"
    return f'  curl -H "Authorization: Bearer {token}" {site}gitlab/v1/admin/db/migrations/status/'


def _free_port(wanted: int) -> int:
    """Return the wanted port, or any free one where somebody listens there."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((ADDRESS, port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise CommandError(f"No TCP port is free on {ADDRESS}.")
