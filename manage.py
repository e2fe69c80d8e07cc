#!/usr/bin/env python
"""Django's entry point. Where DATABASE_URL is not set, the bundled PostgreSQL stands in (registry_project.demo)."""

import os
import signal
import sys
from typing import NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from structlog.contextvars import bind_contextvars

from registry_project import demo, registry_config
from registry_project.logs import new_correlation_id

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same orderly end as Ctrl-C, so that no statement and no lock is left behind in the server."""


def main() -> int:
    """Run one command; Ctrl-C and SIGTERM end it with exit codes 130 and 143 and without a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry_project.settings")
    signal.signal(signal.SIGTERM, _terminate)
    bind_contextvars(correlation_id=new_correlation_id())
    _mend_streams()
    try:
        sys.argv[1:], config = registry_config.take_option(sys.argv[1:])
        if config:
            os.environ[registry_config.PATH_VARIABLE] = config
        demo.prepare_environment(sys.argv[1:])
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except (demo.DemoError, ImproperlyConfigured) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:
        # Whoever reads has enough; what is still buffered must not fail again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if "--traceback" in sys.argv:
            raise
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt as interrupt:
        sys.stderr.write("\nInterrupted.\n")
        return EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
    return 0


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise Terminated


def _mend_streams() -> None:
    """Stand in for closed streams, and spell out what an ASCII terminal cannot show."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


if __name__ == "__main__":
    sys.exit(main())
