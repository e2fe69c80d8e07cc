"""`manage.py registry_token`: mint a token as GitLab Rails does, for trying the API out."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from background_migrations.registry_client import InvalidRegistryError, TokenSigner
from registry_project import demo, demo_tokens
from registry_project.management.examples import CommandWithExamples

PARTS = 3
MINUTES = 15  # as long as GitLab.com's tokens live
LONGEST_MINUTES = 24 * 60
EXAMPLES = """\
examples:
  python manage.py registry_token --access 'registry:migrations:*'
  python manage.py registry_token --access registry:background-migrations:read,write --minutes 60
  python manage.py registry_token --access 'registry:statistics:*' --key /etc/gitlab/registry.key

  curl -H "Authorization: Bearer $(python manage.py registry_token --access 'registry:migrations:*')" \\
      http://127.0.0.1:8000/gitlab/v1/admin/db/migrations/status/

Without --key it signs with the demonstration's key, which only the bundled PostgreSQL has. It never makes a key for
another database: there, name the key that GitLab Rails signs with (its setting registry.key)."""


class Command(CommandWithExamples):
    """Prints a token, alone on its line."""

    help = "Mint a token for the REST API and print it."

    examples = EXAMPLES

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What it allows, who signs it, how long it lives."""
        parser.add_argument(
            "--access",
            action="append",
            type=_access,
            default=[],
            metavar="TYPE:NAME:ACTION[,ACTION]",
            help="what the token allows; may be given several times",
        )
        parser.add_argument("--key", type=Path, metavar="FILE", help="RSA key, PEM (the demonstration's)")
        parser.add_argument("--minutes", type=_minutes, default=MINUTES, help=f"how long it lives ({MINUTES})")
        parser.add_argument("--json", action="store_true", help="print an object with the token and its lifetime")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Sign and print."""
        if not (settings.AUTH_TOKEN_ISSUER and settings.AUTH_TOKEN_SERVICE):
            raise CommandError(
                "No token could be valid: the API has no issuer and no service. "
                "Set the variables REGISTRY_AUTH_TOKEN_… (docs/how-to/use-the-api.md)."
            )
        seconds = options["minutes"] * 60
        try:
            signer = TokenSigner(_key(options["key"]), issuer=settings.AUTH_TOKEN_ISSUER)
        except InvalidRegistryError as error:
            raise CommandError(f"{options['key'] or 'The demonstration'}: {error.reason}.") from error
        token = signer.token(options["access"], audience=settings.AUTH_TOKEN_SERVICE, lifetime_seconds=seconds)
        self.stdout.write(json.dumps({"token": token, "seconds": seconds}) if options["json"] else token)


def _key(path: Path | None) -> str:
    if path is None and not demo.stands_in():
        raise CommandError("Name the key to sign with: --key FILE. Only a demonstration has one of its own.")
    try:
        return (path or demo.HOME / demo_tokens.KEY).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"The key cannot be read: {error}") from error


def _access(text: str) -> dict[str, Any]:
    parts = text.split(":")
    if len(parts) != PARTS or not all(parts):
        raise ArgumentTypeError("must read TYPE:NAME:ACTION, such as registry:migrations:*")
    return {"type": parts[0], "name": parts[1], "actions": parts[2].split(",")}


def _minutes(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= LONGEST_MINUTES):
        raise ArgumentTypeError(f"must be a whole number between 1 and {LONGEST_MINUTES}")
    return int(text)
