"""The site as it is served: by granian, in processes of its own, on a database that is given to it."""

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.registry import free_port
from tests.waiting import until

APPLICATION = "registry_project.wsgi:application"
HOST = "127.0.0.1"
MANAGE = Path(__file__).parents[2] / "manage.py"


@dataclass
class Site:
    """A site that listens on a port."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its address, with a slash at the end."""
        return f"http://{HOST}:{self.port}/"

    def send(self, method: str, path: str, *, headers: Mapping[str, str] | None = None) -> Any:
        """Return status, headers and body."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether somebody listens."""
        try:
            return bool(self.send("GET", "/gitlab/v1/")[0] == http.client.UNAUTHORIZED)
        except OSError:
            return False


@contextmanager
def served(
    url: str, environment: Mapping[str, str], *, application: str = APPLICATION, workers: int = 1, threads: int = 1
) -> Iterator[Site]:
    """Serve the site on a database; its output, which is its log, can be read from its process."""
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--no-access-log"]
    command += ["--workers", str(workers), "--blocking-threads", str(threads), application]
    if application == APPLICATION:  # as it ships
        command = [sys.executable, str(MANAGE), "serve", "--port", str(port)]
        command += ["--processes", str(workers), "--threads", str(threads)]
    settings = {
        "DATABASE_URL": url,
        "SECRET_KEY": "only-for-tests",
        "ALLOWED_HOSTS": HOST,
        "REGISTRY_HTTPS": "false",
        **environment,
    }
    process = subprocess.Popen(
        command, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    site = Site(port, process)
    try:
        until(site.answers)
        yield site
    finally:
        process.terminate()
        process.communicate(timeout=60)
