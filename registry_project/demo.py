"""The environment that stands in where none is configured: bundled PostgreSQL, keys, plain HTTP."""

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from registry_project import demo_tokens
from registry_project.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, default_home, kept_files

CHECKOUT = Path(__file__).resolve().parent.parent
HOME = default_home(CHECKOUT)
# Names the DATABASE_URL that was set here, so that one set by the user is told apart, in child processes too.
MARKER = "REGISTRY_BUNDLED_DATABASE_URL"
# Nothing listens on port 1, so a command that needs a database after all is refused at once.
UNREACHABLE_URL = "postgres://registry@127.0.0.1:1/registry"
WITHOUT_DATABASE = frozenset(
    {
        "check",
        "collectstatic",
        "compilemessages",
        "diffsettings",
        "embedded_postgres",
        "help",
        "makemessages",
        "makemigrations",
        "startapp",
        "startproject",
        "version",
    }
)
HELP_OPTIONS = frozenset({"-h", "--help", "--version"})
SECRET_KEY_BYTES = 50
DEFAULTS = {"ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]", "REGISTRY_HTTPS": "false"}


class DemoError(Exception):
    """The environment cannot be made; the message says what to do next."""

    code = "demo"


def prepare_environment(arguments: list[str]) -> None:
    """Set what is missing in the environment for one command; leave it alone where DATABASE_URL is set.

    Starts the bundled server unless the command needs no database. Raises DemoError.
    """
    if os.environ.get("DATABASE_URL"):
        return
    try:
        url = _database_url(started=_needs_database(arguments))
        os.environ.setdefault("SECRET_KEY", _secret_key(HOME / "secret_key"))
        if HOME.exists() and not any(name.startswith("REGISTRY_AUTH_TOKEN_") for name in os.environ):
            os.environ.update(demo_tokens.environment(HOME))
    except (EmbeddedPostgresError, OSError) as error:
        raise DemoError(" | ".join(str(error).splitlines())) from error
    os.environ["DATABASE_URL"] = os.environ[MARKER] = url
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def stands_in() -> bool:
    """Whether the environment's DATABASE_URL was set here and not by the user."""
    return MARKER in os.environ and os.environ[MARKER] == os.environ.get("DATABASE_URL")


def bundled_server() -> EmbeddedPostgres:
    """The bundled server of this checkout."""
    return EmbeddedPostgres(HOME)


def _needs_database(arguments: Sequence[str]) -> bool:
    """Whether a command may use the database; what comes after ``--`` is meant for another program."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return bool(own) and own[0] not in WITHOUT_DATABASE and HELP_OPTIONS.isdisjoint(own)


def _database_url(*, started: bool) -> str:
    server = bundled_server()
    found = server.status()
    if started and not found.running:
        found = server.start()
        sys.stderr.write(
            f"Started the bundled PostgreSQL {found.version}, data in {found.data_directory}; "
            "to stop it: manage.py embedded_postgres stop\n"
        )
    return found.url or UNREACHABLE_URL


def _secret_key(path: Path) -> str:
    """The key kept in the server's home, for sessions to outlive a restart; a passing one without a home."""
    if not path.parent.exists():
        return secrets.token_urlsafe(SECRET_KEY_BYTES)
    return kept_files.read_or_create(path, lambda: secrets.token_urlsafe(SECRET_KEY_BYTES))
