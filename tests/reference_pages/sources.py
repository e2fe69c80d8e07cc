"""What comments of the code say: those above a line, and those at the end of one."""

import ast
import enum
import inspect
import io
import textwrap
import tokenize
from collections.abc import Mapping


def comments(source: str) -> Mapping[int, str]:
    """Return every comment with its sign, by the number of its line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def described_members(kind: type[enum.Enum]) -> Mapping[enum.Enum, str]:
    """Return the members of an enumeration with the comment at the end of each one's line."""
    source = textwrap.dedent(inspect.getsource(kind))
    found = comments(source)
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    lines = {node.targets[0].id: node.lineno for node in definition.body if isinstance(node, ast.Assign)}
    return {member: found[lines[member.name]].removeprefix("# ") for member in kind}


def first_line(thing: object) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(thing) or "").splitlines()[0]
