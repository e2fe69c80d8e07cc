"""How the generated pages look: tables and code."""

import html
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; a cell may hold Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n"


def code(text: object) -> str:
    """Return text as code within a line."""
    if "|" in str(text):  # which would end the cell of a table
        return f"<code>{html.escape(str(text)).replace('|', '&#124;')}</code>"
    return f"`{text}`"


def listed(texts: Iterable[object]) -> str:
    """Return pieces of code, one after the other."""
    return ", ".join(map(code, texts))


def sentence(text: str) -> str:
    """Return a clause with a capital at its beginning, unless that is a name, and a stop at its end."""
    first = text.split(maxsplit=1)[0] if text else ""
    capital = text[:1].upper() if first.rstrip(",;").replace("-", "").isalpha() else text[:1]
    return text and f"{capital}{text[1:].rstrip('.')}."


def section(title: str, *parts: str) -> str:
    """Return a section of paragraphs and tables below a heading of the second level."""
    return "\n".join([f"## {title}\n", *(f"{part.strip()}\n" for part in parts)])


def _cell(cell: object) -> str:
    return " ".join(str(cell).split())
