"""The environment that stands in where none is configured, and the command over the bundled server."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psycopg
import pytest

from registry_project import demo
from registry_project.embedded_postgres import EmbeddedPostgres, default_home

TOKENS = [f"REGISTRY_AUTH_TOKEN_{name}" for name in ("REALM", "SERVICE", "ISSUER", "ROOTCERTBUNDLE")]
VARIABLES = ("DATABASE_URL", "SECRET_KEY", "ALLOWED_HOSTS", "REGISTRY_HTTPS", demo.MARKER, *TOKENS)
NOT_COPIED = shutil.ignore_patterns(".*", "var", "__pycache__", "docs", "tests", "bench")
OWN_URL = "postgres://somebody@127.0.0.1:1/own"


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A new directory that every account may enter, which pytest's own is not."""
    directory = Path(tempfile.mkdtemp(prefix="registry-demo-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def home(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The bundled server's home, moved; the environment has nothing set and is put back."""
    path = reachable / "home"
    monkeypatch.setattr(demo, "HOME", path)
    with mock.patch.dict(os.environ):
        for name in VARIABLES:
            os.environ.pop(name, None)
        yield path
    EmbeddedPostgres(path).stop()


@pytest.fixture
def checkout(reachable: Path) -> Iterator[Path]:
    """A copy of this checkout, which thereby has a bundled server of its own."""
    path = reachable / "checkout"
    shutil.copytree(demo.CHECKOUT, path, ignore=NOT_COPIED)
    yield path
    EmbeddedPostgres(default_home(path)).stop()
    shutil.rmtree(default_home(path), ignore_errors=True)


def manage(checkout: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=checkout,
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_configured_environment_is_left_as_it_is(home: Path) -> None:
    os.environ["DATABASE_URL"] = OWN_URL
    before = dict(os.environ)
    demo.prepare_environment(["migrate"])
    assert dict(os.environ) == before
    assert not demo.stands_in()
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["help"],
        ["--version"],
        ["check"],
        ["embedded_postgres", "status"],
        ["migrate", "--help"],
        ["migrate", "-h"],
    ],
)
def test_a_command_without_a_database_starts_nothing(home: Path, arguments: list[str]) -> None:
    demo.prepare_environment(arguments)
    assert os.environ["DATABASE_URL"] == demo.UNREACHABLE_URL
    assert len(os.environ["SECRET_KEY"]) > 50
    assert demo.stands_in()
    assert not home.exists()


def test_a_command_with_a_database_starts_the_server_and_says_so_once(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.prepare_environment(["migrate"])
    first = {name: os.environ.pop(name) for name in VARIABLES}
    assert capsys.readouterr().err.startswith("Started the bundled PostgreSQL 18.")

    demo.prepare_environment(["help"])
    assert {name: os.environ[name] for name in VARIABLES} == first
    assert capsys.readouterr().err == ""

    assert first["ALLOWED_HOSTS"] == "localhost,127.0.0.1,[::1]"
    assert first["REGISTRY_HTTPS"] == "false"
    assert stat.S_IMODE((home / "secret_key").stat().st_mode) == 0o600
    with psycopg.connect(first["DATABASE_URL"]) as connection:
        assert connection.info.dbname == "registry"


def test_what_the_user_set_is_kept(home: Path) -> None:
    home.mkdir()
    os.environ.update(SECRET_KEY="given", ALLOWED_HOSTS="example.test", REGISTRY_AUTH_TOKEN_ISSUER="given")
    demo.prepare_environment(["check"])
    assert [os.environ.get(name) for name in TOKENS] == [None, None, "given", None]
    assert os.environ["SECRET_KEY"] == "given"
    assert os.environ["ALLOWED_HOSTS"] == "example.test"


def test_help_asked_of_another_program_is_not_help_asked_of_us() -> None:
    assert demo._needs_database(["dbshell", "--", "--help"])


def test_a_server_that_cannot_start_is_one_line(home: Path) -> None:
    home.write_text("in the way")
    with pytest.raises(demo.DemoError) as failure:
        demo.prepare_environment(["migrate"])
    assert str(home) in str(failure.value)
    assert "\n" not in str(failure.value)
    home.unlink()


def test_the_command_starts_shows_and_stops_the_server(checkout: Path) -> None:
    started = manage(checkout, "embedded_postgres", "start")
    assert started.returncode == 0, started.stderr
    assert started.stdout.startswith("running at postgres://registry:")

    status = json.loads(manage(checkout, "embedded_postgres", "status", "--json").stdout)
    assert list(status) == ["running", "url", "version", "data_directory"]
    assert status["running"] is True
    assert started.stdout == f"running at {status['url']}\n"
    psycopg.connect(status["url"]).close()

    assert manage(checkout, "embedded_postgres", "stop").stdout == "stopped\n"
    stopped = manage(checkout, "embedded_postgres", "status")
    assert (stopped.returncode, stopped.stdout) == (0, "not running\n")


@pytest.mark.parametrize("action", ["start", "stop"])
def test_the_command_refuses_where_the_user_set_a_database(checkout: Path, action: str) -> None:
    refused = manage(checkout, "embedded_postgres", action, DATABASE_URL=OWN_URL, SECRET_KEY="x")
    assert refused.returncode == 1
    assert refused.stderr.startswith("CommandError: DATABASE_URL is set")
    assert refused.stderr.count("\n") == 1
    assert not default_home(checkout).exists()
