#!/usr/bin/env python
"""Django's entry point. Where DATABASE_URL is not set, the bundled PostgreSQL stands in (registry_project.demo)."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from registry_project import demo

EXIT_INTERRUPTED = 130


def main() -> int:
    """Run one command; Ctrl-C ends it with exit code 130 and without a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "registry_project.settings")
    try:
        demo.prepare_environment(sys.argv[1:])
        execute_from_command_line(sys.argv)
    except (demo.DemoError, ImproperlyConfigured) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
