"""The environment decides; what is missing or contradictory is an error that names it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCTION = {
    "SECRET_KEY": "k" * 20 + "0123456789-abcdefghijklmnopqrstuvwxyz",
    "DATABASE_URL": "postgres://somebody@127.0.0.1:1/one",
    "ALLOWED_HOSTS": "registry.example.com",
}


def manage(*arguments, **changes):
    """Run manage.py with this environment alone; None takes a variable away."""
    environment = {"PATH": os.environ["PATH"], **PRODUCTION, **changes}
    environment = {name: value for name, value in environment.items() if value is not None}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_production_environment_passes_the_deployment_check():
    done = manage("check", "--deploy", "--fail-level", "WARNING")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_deployment_check_can_fail():
    assert manage("check", "--deploy", "--fail-level", "WARNING", REGISTRY_HTTPS="false").returncode == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SECRET_KEY": None}, "Set the SECRET_KEY environment variable"),
        ({"REGISTRY_SCHEMA_OWNER": "someone"}, "it must be 'self' or 'gitlab'"),
        ({"REGISTRY_SCHEMA_OWNER": "gitlab"}, "name the same database"),
        (
            {"REGISTRY_SCHEMA_OWNER": "gitlab", "REGISTRY_DATABASE_URL": "postgres://other:pass@127.0.0.1:1/one"},
            "name the same database",
        ),
    ],
)
def test_a_bad_environment_is_refused_at_start(changes, message):
    done = manage("check", **changes)
    assert done.returncode == 1
    assert message in done.stderr


def test_gitlab_s_database_beside_another_one_for_django_is_accepted():
    owner = {"REGISTRY_SCHEMA_OWNER": "gitlab", "REGISTRY_DATABASE_URL": "postgres://somebody@127.0.0.1:1/registry"}
    assert manage("check", **owner).returncode == 0


def test_every_variable_is_documented_and_nothing_else():
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', (ROOT / "registry_project" / "settings.py").read_text()))
    documented = set(re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs/how-to/configure.md").read_text(), re.MULTILINE))
    assert documented == read


def test_the_project_has_one_version(settings):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == settings.VERSION
    assert f"## {settings.VERSION}" in (ROOT / "CHANGELOG.md").read_text()
