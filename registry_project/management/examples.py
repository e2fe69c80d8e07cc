"""A management command whose --help ends with examples."""

from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter


class _ExamplesFormatter(RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Keeps the line breaks of the examples."""


class CommandWithExamples(BaseCommand):
    """Shows `examples` below the options, line by line."""

    examples = ""
    # They would load every view and page of the site, a fifth of a second; `manage.py check` makes them.
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """Return the parser with the examples below its options."""
        parser = super().create_parser(prog_name, subcommand, epilog=self.examples, **options)
        parser.formatter_class = _ExamplesFormatter
        parser.add_argument(
            "--config",
            metavar="FILE",
            help="the registry's own config.yml, for its database: and storage: (environment: "
            "REGISTRY_CONFIGURATION_PATH); anywhere on the command line",
        )
        return parser
