"""`manage.py quickstart` in a checkout of its own: from nothing, again, and after an interruption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from tests.waiting import until

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "var", "__pycache__", ".*_cache")


@pytest.fixture(scope="module")
def checkout():
    """A copy of the project, with a bundled server of its own."""
    with tempfile.TemporaryDirectory(prefix="quickstart-") as directory:
        copy = Path(directory) / "checkout"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        try:
            yield copy
        finally:
            home = Path(json.loads(manage(copy, "embedded_postgres", "status", "--json").stdout)["data_directory"])
            manage(copy, "embedded_postgres", "stop")
            shutil.rmtree(home.parents[1])


def environment():
    kept = ("DATABASE_URL", "SECRET_KEY", "REGISTRY_HTTPS", "ALLOWED_HOSTS")
    return {name: value for name, value in os.environ.items() if name not in kept}


def command(*arguments):
    return [sys.executable, "manage.py", *arguments]


def manage(checkout, *arguments, **changes):
    env = {**environment(), **changes}
    return subprocess.run(command(*arguments), cwd=checkout, env=env, capture_output=True, text=True, check=False)


TABLES = {"repositories": 5, "manifests": 12, "blobs": 23, "tags": 11}


def test_first_run_second_run_and_serving(checkout):
    first = manage(checkout, "quickstart", "--once", "--json")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert summary["tables"] == TABLES
    applied = "72 schema migrations applied, 65 background migrations finished"
    assert [step["done"] for step in summary["steps"]][1] == applied

    second = json.loads(manage(checkout, "quickstart", "--once", "--json").stdout)
    assert second["tables"] == TABLES
    assert [step["done"] for step in second["steps"]] == ["up to date", "up to date", "imported by an earlier run"]

    assert re.search(r"^ *tags +11 *$", manage(checkout, "quickstart", "--once").stdout, re.MULTILINE)


def _request_of(curl: str) -> urllib.request.Request:
    """Return the request that a printed command line sends; curl itself need not be there."""
    run = f"curl() {{ printf '%s\\n' \"$@\"; }}; {curl.strip()}"
    done = subprocess.run(["sh", "-c", run], env=environment(), capture_output=True, text=True, check=True)
    _, header, url = done.stdout.splitlines()
    name, _, value = header.partition(": ")
    return urllib.request.Request(url, headers={name: value})


def test_the_site_answers_until_ctrl_c(checkout):
    with subprocess.Popen(
        command("quickstart", "--port", "0"), cwd=checkout, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            address = next(line.split()[1] for line in process.stdout if line.startswith("Serving "))
            curl = next(line for line in process.stdout if line.lstrip().startswith("curl "))
            with _when_open(address) as answer:
                assert answer.url.endswith("/admin/login/?next=/admin/")
            with urllib.request.urlopen(f"{address}static/admin/css/base.css") as answer:
                assert answer.status == 200
            with urllib.request.urlopen(_request_of(curl)) as answer:
                assert json.load(answer)["schema_migrations"]["applied"] == 72
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def _when_open(address):
    def look():
        with suppress(urllib.error.URLError):
            return urllib.request.urlopen(address)

    return until(look)


def test_an_interrupted_demonstration_is_taken_up_again(checkout):
    assert manage(checkout, "quickstart", "--once").returncode == 0
    assert manage(checkout, "database", "migrate", "down", "--force").returncode == 0
    (checkout / "var" / "demo-registry" / "docker" / "registry" / "v2" / "stray").write_text("")
    again = manage(checkout, "quickstart", "--once", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["tables"] == TABLES


def test_two_at_once_are_set_up_one_after_the_other(checkout):
    assert manage(checkout, "database", "migrate", "down", "--force").returncode == 0
    both = [
        subprocess.Popen(
            command("quickstart", "--once", "--json"),
            cwd=checkout,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    summaries = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [summary["tables"] for summary in summaries] == [TABLES, TABLES]


@pytest.mark.parametrize("port", ["99999", "-1", "web"])
def test_a_bad_port_is_refused(checkout, port):
    done = manage(checkout, "quickstart", "--once", "--port", port)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_database_of_the_user_s_is_left_alone(checkout):
    done = manage(checkout, "quickstart", "--once", DATABASE_URL="postgres://a@127.0.0.1:1/a", SECRET_KEY="x" * 50)
    assert done.returncode == 1
    assert "Unset it for the demo" in done.stderr
