"""The environment decides; what is missing or contradictory is an error that names it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps
from django.db import router

from registry_project.settings import VERSION

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


OTHER = {"REGISTRY_DATABASE_URL": "postgres://somebody@127.0.0.1:1/registry"}
ELSEWHERE = {"REGISTRY_SCHEMA_OWNER": "gitlab", "REGISTRY_VERSION": "v4.32.0-gitlab"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SECRET_KEY": None}, "Set the environment variable SECRET_KEY."),
        ({"REGISTRY_SCHEMA_OWNER": "someone"}, "it must be one of self, gitlab"),
        ({"REGISTRY_HTTPS": "ture"}, "REGISTRY_HTTPS is 'ture'; it must be true or false."),
        ({"REGISTRY_SCHEMA_LOCK_TIMEOUT": "500ms"}, "it must be a number of seconds, 0 or more"),
        ({"REGISTRY_SCHEMA_LOCK_TIMEOUT": "-1"}, "it must be a number of seconds, 0 or more"),
        ({"REGISTRY_SCHEMA_LOCK_TIMEOUT": "nan"}, "it must be a number of seconds, 0 or more"),
        ({"REGISTRY_IMPORT_CONCURRENCY": "0"}, "it must be a whole number, 1 or more"),
        ({"LOG_LEVEL": "LOUD"}, "it must be one of DEBUG"),
        ({"TIME_ZONE": "Mars/Olympus"}, "there is no such time zone"),
        ({"DATABASE_URL": "garbage"}, "DATABASE_URL is not a URL of the form postgres://"),
        ({"DATABASE_URL": "mysql://a@127.0.0.1/a"}, "DATABASE_URL is not a URL of the form postgres://"),
        ({"DATABASE_URL": "sqlite:///a"}, "DATABASE_URL is not a URL of the form postgres://"),
        ({"DATABASE_URL": "postgres://a@127.0.0.1:port/a"}, "DATABASE_URL is not a URL of the form postgres://"),
        ({"DATABASE_URL": "postgres://a@127.0.0.1:99999/a"}, "DATABASE_URL is not a URL of the form postgres://"),
        ({"REGISTRY_DATABASE_URL": "postgres://a@127.0.0.1/"}, "REGISTRY_DATABASE_URL is not a URL"),
        ({"RAILS_DATABASE_URL": "garbage"}, "RAILS_DATABASE_URL is not a URL"),
        ({"REGISTRY_MIGRATIONS_LOG": "/nowhere/at/all.log"}, "it must be a file in a directory that exists"),
        ({"REGISTRY_MIGRATIONS_LOG": "/"}, "it must be a file in a directory that exists"),
        ({"REGISTRY_API_SIGNING_KEY_FILE": "/nowhere"}, "names a file that cannot be read: No such file or directory."),
        ({"REGISTRY_API_TIMEOUT": "soon"}, "it must be a number of seconds"),
        ({"REGISTRY_API_CONCURRENCY": "0"}, "it must be a whole number, 1 or more"),
        ({"REGISTRY_AUTH_TOKEN_ISSUER": "gitlab-issuer"}, "must be set too, or none of REGISTRY_AUTH_TOKEN_REALM"),
        ({"REGISTRY_AUTH_TOKEN_REALM": 'a"b'}, "REGISTRY_AUTH_TOKEN_REALM must be printable ASCII without quotes"),
        ({"REGISTRY_AUTH_TOKEN_SERVICE": "a\nb"}, "REGISTRY_AUTH_TOKEN_SERVICE must be printable ASCII"),
        ({"REGISTRY_API_FAILED_TOKENS_PER_MINUTE": "-1"}, "it must be a whole number, 0 or more"),
        ({**ELSEWHERE, "REGISTRY_VERSION": None}, "Set the environment variable REGISTRY_VERSION."),
        (ELSEWHERE, "name the same database"),
        ({**ELSEWHERE, "REGISTRY_DATABASE_URL": "postgres://other:x@127.0.0.1:1/one"}, "name the same database"),
        ({**ELSEWHERE, "REGISTRY_DATABASE_URL": "postgres://somebody@localhost:1/one"}, "name the same database"),
    ],
)
def test_a_bad_environment_is_one_line_that_names_the_variable(changes, message):
    done = manage("check", **changes)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_secret_may_begin_with_a_dollar_and_is_never_printed():
    done = manage("check", SECRET_KEY="$ecret" * 10)
    assert (done.returncode, done.stderr) == (0, "")


def test_levels_may_be_written_small():
    assert manage("check", LOG_LEVEL="info").returncode == 0


def test_gitlab_s_database_beside_another_one_for_django_is_accepted():
    assert manage("check", **ELSEWHERE, **OTHER).returncode == 0


def setting(expression, **changes):
    """Return what the settings say in this environment."""
    code = f"from registry_project import settings; print({expression})"
    environment = {"PATH": os.environ["PATH"], **PRODUCTION, **changes}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "one"),
        (OTHER, "registry"),
        ({**OTHER, "RAILS_DATABASE_URL": ""}, "registry"),
        ({**OTHER, "RAILS_DATABASE_URL": "postgres://somebody@127.0.0.1:1/gitlab"}, "gitlab"),
    ],
)
def test_rails_database_is_the_registry_s_unless_it_is_named(changes, name):
    assert setting("settings.DATABASES['rails']['NAME']", **changes) == name


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({}, f"v{VERSION}"),
        ({"REGISTRY_VERSION": "4.32.0-gitlab"}, "v4.32.0-gitlab"),
        (ELSEWHERE | OTHER, "v4.32.0-gitlab"),
    ],
)
def test_the_registry_s_version_begins_with_a_v(changes, version):
    assert setting("settings.REGISTRY_VERSION", **changes) == version


def test_django_s_migrations_never_run_on_rails_database():
    labels = [app.label for app in apps.get_app_configs()]
    assert [label for label in labels if router.allow_migrate("rails", label)] == []


def test_the_signing_key_may_lie_in_a_file(tmp_path):
    file = tmp_path / "registry.key"
    file.write_text("the key")
    key = {"REGISTRY_API_SIGNING_KEY_FILE": str(file)}
    assert setting("settings.REGISTRY_API_SIGNING_KEY", **key) == "the key"
    assert setting("settings.REGISTRY_API_SIGNING_KEY", **key, REGISTRY_API_SIGNING_KEY="another") == "another"


def test_a_server_that_vanished_is_noticed_and_a_url_may_say_how_soon():
    slow = {"REGISTRY_DATABASE_URL": "postgres://somebody@127.0.0.1:1/one?keepalives_idle=90"}
    options = "[settings.DATABASES[name]['OPTIONS']['keepalives_idle'] for name in ('default', 'registry')]"
    assert setting(options, **slow) == "[30, 90]"


def test_every_variable_is_documented_and_nothing_else():
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', (ROOT / "registry_project" / "settings.py").read_text()))
    documented = set(re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs/reference/settings.md").read_text(), re.MULTILINE))
    assert documented == read
