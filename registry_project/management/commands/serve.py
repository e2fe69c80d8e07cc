"""`manage.py serve`: the site and the API, in as many processes as asked for, until SIGTERM or Ctrl-C."""

import ipaddress
import os
import socket
import tempfile
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from registry_project.management.examples import CommandWithExamples

LARGEST_PORT = 2**16 - 1
STOP_SECONDS = 30  # for requests that are being answered
IPV6 = 6
COUNTS = "PROMETHEUS_MULTIPROC_DIR"


class Command(CommandWithExamples):
    """Runs granian, whose processes count together what /metrics shows; SIGTERM lets them end their requests."""

    help = "Serve the site and the API until SIGTERM or Ctrl-C; requests that are being answered are ended."

    examples = """examples:
  python manage.py serve                                               http://127.0.0.1:8000/
  python manage.py serve --address 0.0.0.0 --port 8080 --processes 4   in a container
  python manage.py serve --threads 8                                   more requests at once, more connections"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to listen, and with how many."""
        parser.add_argument(
            "--address", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (127.0.0.1)"
        )
        parser.add_argument("--port", type=_whole(1, LARGEST_PORT), default=8_000, metavar="PORT", help="port (8000)")
        parser.add_argument("--processes", type=_whole(1, 64), default=2, metavar="N", help="processes (2)")
        parser.add_argument(
            "--threads",
            type=_whole(1, 256),
            default=4,
            metavar="N",
            help="requests that each process answers at once; each holds a connection of each database (4)",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Serve."""
        _refuse_what_cannot_be_bound(options["address"], options["port"])
        connections.close_all()
        with _shared_counts():
            _server(options).serve()


def _refuse_what_cannot_be_bound(address: str, port: int) -> None:
    """Raise CommandError where granian would end with a stack of its own."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == IPV6 else socket.AF_INET
        socket.create_server((address, port), family=family).close()
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no IP address"
        raise CommandError(
            f"Cannot listen on {address} port {port}: {reason}. Choose others with --address and --port."
        ) from error


def _server(options: dict[str, Any]) -> Any:
    return Granian(
        "registry_project.wsgi:application",
        address=options["address"],
        port=options["port"],
        interface=Interfaces.WSGI,
        workers=options["processes"],
        blocking_threads=options["threads"],
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        log_level=LogLevels(settings.LOG_LEVEL.lower()),
        log_dictconfig=_logging(),
    )


@contextmanager
def _shared_counts() -> Iterator[None]:
    """Give the processes a directory in which they count together, empty at each start, if none is given."""
    if os.environ.get(COUNTS):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="registry-metrics-") as directory:
        os.environ[COUNTS] = directory
        yield


def _logging() -> dict[str, Any]:
    """Return how granian logs: as all else does."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": settings.LOG_LINES},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {"_granian": {"handlers": ["console"], "propagate": False}},
    }


def _whole(smallest: int, largest: int) -> Callable[[str], int]:
    """Return what reads a whole number between these, both allowed."""

    def read(text: str) -> int:
        if not (text.isdecimal() and smallest <= int(text) <= largest):
            raise ArgumentTypeError(f"{text!r} is not a whole number from {smallest} to {largest}")
        return int(text)

    return read
