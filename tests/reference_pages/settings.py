"""The page of settings: every read of the environment in registry_project/settings.py, with the comment above it."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry_project import settings
from tests.reference_pages.markdown import code, listed, table
from tests.reference_pages.sources import comments

# What a variable may hold, by the function that reads it.
KINDS = {
    "text": "text",
    "quotable": "printable ASCII",
    "boolean": "`true` or `false`",
    "seconds": "seconds",
    "positive": "a whole number from 1",
    "count": "a whole number from 0",
    "names": "names, separated by commas",
    "log_level": "`DEBUG`, `INFO`, `WARNING`, `ERROR`",
    "time_zone": "a time zone",
    "database": "a database URL",
    "registry_database": "a database URL",
    "database_or": "a database URL",
    "file_text": "a file",
    "writable_file": "a file",
    "networks": "networks, separated by commas",
}
EMPTY_IS_LEGAL = ("names", "file_text", "writable_file")
SECTION = re.compile(r"# --- ([^:]+?)(?::.*?)? -+")
INTRODUCTION = """\
# Settings

All configuration comes from environment variables; an empty one counts as one that is not set. A value that makes no
sense is an error at the start that names the variable. A database URL reads
`postgres://user:password@host:port/name`, with special characters of the password percent-encoded.

Keys of [the registry's own configuration](../how-to/configure.md#the-registrys-own-configuration) can be given as
variables too, such as `REGISTRY_STORAGE_S3_BUCKET`.

[Configure it](../how-to/configure.md) says which of these a production needs. Where `DATABASE_URL` is not set,
`manage.py` runs a demonstration: the [bundled PostgreSQL](../how-to/bundled-postgresql.md), and made-up values for what
has no default.
"""


@dataclass(frozen=True)
class Variable:
    """One read of the environment."""

    name: str
    line: int
    kind: str
    default: str


def page() -> str:
    """Draw the page."""
    source = Path(settings.__file__).read_text()
    found = comments(source)
    sections: dict[str, list[list[str]]] = {}
    for variable in sorted(_variables(ast.parse(source)), key=lambda each: each.line):
        meaning, default = _description(variable, found)
        row = [code(variable.name), variable.kind, default, meaning]
        sections.setdefault(_section(variable.line, found), []).append(row)
    drawn = [
        f"## {title}\n\n{table(['variable', 'value', 'default', 'meaning'], rows)}" for title, rows in sections.items()
    ]
    return "\n".join([INTRODUCTION, *drawn])


def _variables(tree: ast.AST) -> Iterator[Variable]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="env"), attr=function), args=[ast.Constant(str(name)), *_]
            ):
                options = {keyword.arg: keyword.value for keyword in node.keywords}
                yield Variable(name, node.lineno, _kind(function, options), _default(function, options))


def _kind(function: str, options: Mapping[str | None, ast.expr]) -> str:
    if function == "choice":
        return " or ".join(map(code, ast.literal_eval(options["choices"])))
    if function not in KINDS:
        raise ValueError(
            f"say in KINDS of tests/reference_pages/settings.py what a variable holds that env.{function} reads"
        )
    return KINDS[function]


def _default(function: str, options: Mapping[str | None, ast.expr]) -> str:
    """Return the default as the code spells it out; nothing where it is an expression."""
    if "fallbacks" in options:
        return listed(ast.literal_eval(options["fallbacks"])[:1])
    if function in EMPTY_IS_LEGAL:
        return "empty"
    if "default" not in options:
        return "none: required"
    match options["default"]:
        case ast.Constant(bool(value)):
            return code(str(value).lower())
        case ast.Constant(value):
            return code(f"{value:g}" if isinstance(value, float) else value) if value != "" else "empty"
    return ""


def _description(variable: Variable, found: Mapping[int, str]) -> tuple[str, str]:
    """Return meaning and default. Raises ValueError where the comment does not say what the code leaves open."""
    lines: list[str] = []
    line = variable.line - 1
    while found.get(line, "").startswith("#:"):
        lines.insert(0, found[line].removeprefix("#:").strip())
        line -= 1
    defaults = [each.removeprefix("default:").strip() for each in lines if each.startswith("default:")]
    meaning = " ".join(each for each in lines if not each.startswith("default:"))
    default = "".join(defaults) or variable.default
    if not (meaning and default):
        raise ValueError(
            f"registry_project/settings.py, line {variable.line}: say above {variable.name} what it means (`#: …`), "
            "and what its default is (`#: default: …`) where that is an expression"
        )
    return meaning, default


def _section(line: int, found: Mapping[int, str]) -> str:
    titles = {number: match[1] for number, text in found.items() if (match := SECTION.fullmatch(text))}
    return titles[max(number for number in titles if number < line)]
