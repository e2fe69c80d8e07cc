"""The page of commands: what the parsers of our own commands know, which is what their --help prints.

The text of --help itself differs from one Python to the next.
"""

import argparse
import re
from collections.abc import Iterator

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from tests.reference_pages.markdown import code, listed, sentence, table

OUR_APPS = ("registry_project", "schema_migrations", "background_migrations", "metadata_import")
EXPLAINED = re.compile(r"(python manage\.py .*?)\s{2,}(.*)")
DEEP = " " * 20
HEADING = re.compile(r"examples?( \(.*\))?:")
INTRODUCTION = """\
# Commands

Each command and subcommand has `--help`, which says the same. Options of every command:
{common}. [Exit codes](error-codes.md#exit-codes) are the same everywhere.
"""


def page() -> str:
    """Draw the page."""
    common = {option for action in _common_actions() for option in action.option_strings}
    shown = listed(option for action in _common_actions() for option in action.option_strings[-1:])
    sections = [INTRODUCTION.format(common=shown)]
    for name in our_commands():
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        sections += [_section(words, found, common) for words, found in _tree([name], parser)]
    return "\n".join(sections)


def our_commands() -> list[str]:
    """Return the names of the commands that this project brings."""
    return sorted(name for name, app in get_commands().items() if app in OUR_APPS)


def _common_actions() -> list[argparse.Action]:
    actions: list[argparse.Action] = BaseCommand().create_parser("manage.py", "any")._actions
    return [action for action in actions if action.help != argparse.SUPPRESS]


def _tree(words: list[str], parser: argparse.ArgumentParser) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from _tree([*words, name], child)


def _section(words: list[str], parser: argparse.ArgumentParser, common: set[str]) -> str:
    """Draw one command: what it does, what it takes, examples."""
    parts = [f"{'#' * (len(words) + 1)} {' '.join(words)}\n", f"{sentence(parser.description or '')}\n"]
    rows = [
        [_invocation(action), sentence(action.help or "")]
        for action in parser._actions
        if not (common.intersection(action.option_strings) or action.help == argparse.SUPPRESS or _is_tree(action))
    ]
    if rows:
        parts.append(table(["argument", "meaning"], rows))
    return "\n".join([*parts, *_epilog(parser.epilog or "")])


def _is_tree(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)


def _invocation(action: argparse.Action) -> str:
    if not action.option_strings:
        return code(action.metavar or (" ".join(map(str, action.choices)) if action.choices else action.dest))
    takes_value = action.nargs != 0
    value = (
        f" {action.metavar or '|'.join(map(str, action.choices or ())) or action.dest.upper()}" if takes_value else ""
    )
    return listed(f"{option}{value}" for option in action.option_strings)


def _epilog(text: str) -> Iterator[str]:
    """Yield the examples, which are indented, as a block that can be run; and what else is said as paragraphs."""
    lines = [line for line in text.splitlines() if not HEADING.fullmatch(line)]
    examples: list[str] = []
    for line in [line for line in lines if line.startswith("  ")]:
        if line.startswith(DEEP):  # an explanation that stands below its example
            examples[-1] += f"  # {line.strip()}"
        else:
            examples.append(EXPLAINED.sub(r"\1  # \2", line.removeprefix("  ")))
    if examples:
        yield "```sh\n{}\n```\n".format("\n".join(examples))
    yield "\n".join(line for line in lines if not line.startswith("  ")).strip() + "\n"
