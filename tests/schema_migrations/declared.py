"""Tiny migrations for the tests: declared in a line, or written to files for the loader."""

from collections.abc import Mapping
from pathlib import Path

from schema_migrations.loader import KnownMigration
from schema_migrations.migration import Migration, Phase

PRE, POST = Phase.PRE_DEPLOYMENT, Phase.POST_DEPLOYMENT


def known(number: int, name: str, phase: Phase = PRE, **declared: object) -> KnownMigration:
    """Declare a migration; by default it creates and drops a table of its own name."""
    declared = {"up": [f"CREATE TABLE {name} (id bigint)"], "down": [f"DROP TABLE {name}"], **declared}
    return KnownMigration(f"{number:014}_{name}", phase, Migration(**declared))


def folders(root: Path, files: Mapping[str, str]) -> dict[Phase, Path]:
    """Write migration modules, named `pre/<file>` or `post/<file>`, and return their folders."""
    paths = {PRE: root / "pre", POST: root / "post"}
    for path in paths.values():
        path.mkdir(exist_ok=True)
    for name, body in files.items():
        (root / name).write_text(body)
    return paths


def module(**declared: object) -> str:
    """Return the text of a migration module."""
    declared = {"up": ["SELECT 1"], "down": ["SELECT 1"], **declared}
    arguments = ", ".join(f"{name}={value!r}" for name, value in declared.items())
    return f"from schema_migrations.migration import Migration\nmigration = Migration({arguments})\n"
