"""The page of error codes: every code that a person or a program may meet, and what it means."""

import inspect
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Protocol

import background_migrations.errors
import manage
import metadata_import.errors
import registry_project.errors
import schema_migrations.errors
from background_migrations import registry_client
from background_migrations.status import FailureErrorCode
from metadata_import import refusals
from metadata_import.records import FAULTS, TOLERATED, SkipReason
from registry_project.api.exceptions import ANSWERS, ANYTHING_ELSE
from tests.reference_pages.markdown import code, section, sentence, table
from tests.reference_pages.sources import described_members, first_line

INTRODUCTION = """\
# Error codes

Codes and numbers are stable; messages are for people and may change.
"""
OF_FAILURES = "The column `failure_error_code` of both tables, and `error_code` in the API."
OF_SKIPS = """\
The reasons in its report and in `registry_admin.import_skips`. What *may be sound* keeps the storage from being marked
as managed by a database, and makes the exit code 1. What *stops a strict import* is where `--strict` ends, as GitLab's
own import does.
"""
OF_ERRORS = "What a message is about, by the code that its class of error has in the source."
FAMILIES = {
    "`database migrate`": [schema_migrations.errors],
    "`background_migrate`": [background_migrations.errors, registry_client],
    "`database import`": [metadata_import.errors, refusals],
    "`migrate`": [registry_project.errors],
}
EXIT_CODES = {
    0: "It did what was asked; a worker that SIGTERM ended too.",
    1: "It was refused or failed, in one line on standard error; or it was a question, and the answer is no.",
    2: "The command line makes no sense.",
    manage.EXIT_INTERRUPTED: "Ctrl-C.",
    manage.EXIT_TERMINATED: "SIGTERM, to anything but `background_migrate worker` and `run`.",
}


class Coded(Protocol):
    """An error class with a code of its own."""

    code: str


def page() -> str:
    """Draw the page."""
    failures = [
        [code(each.value), code(each.name.lower()), sentence(text)]
        for each, text in described_members(FailureErrorCode).items()
    ]
    skips = [[code(each), _standing(each), sentence(text)] for each, text in described_members(SkipReason).items()]
    answers = {(each.status, each.code, each.message) for each in (*ANSWERS.values(), ANYTHING_ELSE)}
    exits = [[code(number), text] for number, text in EXIT_CODES.items()]
    refusals = [[status, code(name), sentence(text)] for status, name, text in sorted(answers)]
    return "\n".join(
        [
            INTRODUCTION,
            section("Exit codes", table(["code", "meaning"], exits)),
            section("REST API", table(["status", "code", "meaning"], refusals)),
            section("Background migrations and their jobs", OF_FAILURES, table(["number", "name", "when"], failures)),
            section("Items that an import left out", OF_SKIPS, table(["reason", "", "when"], skips)),
            section("Refusals and failures of commands", OF_ERRORS),
            *(_family(title, modules) for title, modules in FAMILIES.items()),
        ]
    )


def _standing(reason: object) -> str:
    assert isinstance(reason, SkipReason)
    said = [reason in FAULTS and "may be sound", reason not in TOLERATED and "stops a strict import"]
    return ", ".join(filter(None, said))


def _family(title: str, modules: Sequence[ModuleType]) -> str:
    rows = [[code(error.code), first_line(error)] for module in modules for error in _errors(module)]
    return f"### {title}\n\n{table(['code', 'meaning'], sorted(rows))}"


def _errors(module: ModuleType) -> Iterator[type[Coded]]:
    """Yield the classes of errors that a module defines, all but the base of the app's."""
    for _, thing in inspect.getmembers(module, inspect.isclass):
        if thing.__module__ == module.__name__ and issubclass(thing, Exception) and Exception not in thing.__bases__:
            yield thing
