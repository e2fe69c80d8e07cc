"""The commands that a reader types in a checkout without any configuration: the demonstration and its server."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from registry_project import demo_tokens
from tests.documentation.fences import PAGES, Fence, fences
from tests.documentation.shell import Shell

FENCES = [fence for page in PAGES for fence in fences(page) if fence.is_run and fence.is_of_the_demonstration]
DEMO = "make demo"
GOING_ON = (DEMO, "python manage.py quickstart")
CONFIGURED = ("DATABASE_URL", "SECRET_KEY", "ALLOWED_HOSTS", "REGISTRY_")


@dataclass
class Demonstration(Shell):
    """A checkout with a bundled server of its own, and the site that `make demo` serves."""

    site: str = "http://127.0.0.1:8000/"

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """The environment, without configuration."""
        return {name: value for name, value in super().variables.items() if not name.startswith(CONFIGURED)}

    @cached_property
    def server(self) -> Path:
        """Where the bundled server has its data and keys."""
        told = json.loads(self.run_script("python manage.py embedded_postgres status --json"))
        return Path(told["data_directory"]).parents[1]

    def put_in(self, text: str) -> str:
        """Put in the site that is served, and its key."""
        text = text.replace("http://127.0.0.1:8000/", self.site)
        return text.replace("/etc/gitlab/registry.key", str(self.server / demo_tokens.KEY)) if "/etc/" in text else text


@pytest.fixture
def demonstration() -> Iterator[Demonstration]:
    with tempfile.TemporaryDirectory(prefix="documented-") as directory:
        found = Demonstration(Path(directory))
        try:
            with found.started(DEMO) as process:
                assert process.stdout is not None
                try:
                    found.site = next(line.split()[1] for line in process.stdout if line.startswith("Serving "))
                    yield found
                finally:
                    os.killpg(process.pid, signal.SIGINT)
        finally:
            found.run_script("python manage.py embedded_postgres stop")
            shutil.rmtree(found.server)


def test_the_commands_of_the_demonstration_work(demonstration: Demonstration):
    assert any(DEMO in fence.commands for fence in FENCES)
    for fence in sorted(FENCES, key=lambda fence: "stop" in fence.text):
        run(demonstration, fence)


def run(demonstration: Demonstration, fence: Fence) -> None:
    """Run a block, without the lines that do what is going on already."""
    if left := [command for command in fence.commands if command not in GOING_ON]:
        demonstration.run_script("\n".join(left))
