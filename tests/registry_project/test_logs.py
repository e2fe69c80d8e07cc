"""What background migrations decide is one JSON line per row, on standard error or in a file of its own."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry_project.logs import JsonLines

ROOT = Path(__file__).parents[2]
FACTS = {
    "migrator": "ResetStatusOnContainerRepositories",
    "has_tags": True,
    "container_repository_id": 212,
    "container_repository_path": "group/project/image",
}
LINE = (
    '{"severity":"INFO","time":"2022-11-25T14:15:25.965Z","correlation_id":null,'
    '"migrator":"ResetStatusOnContainerRepositories","has_tags":true,"container_repository_id":212,'
    '"container_repository_path":"group/project/image"}'
)
LOG_ONE_ROW = f"import logging; logging.getLogger('migrations').info('', extra={FACTS!r})"


def formatted(message="", *, level=logging.INFO, exc_info=None, **facts):
    record = logging.makeLogRecord(
        {"msg": message, "levelno": level, "levelname": logging.getLevelName(level), **facts}
    )
    record.created, record.exc_info = 1_669_385_725.965, exc_info
    return JsonLines().format(record)


def test_a_line_holds_the_facts_in_gitlab_s_order_and_nothing_else():
    assert formatted(**FACTS) == LINE


def test_whole_seconds_have_milliseconds_too():
    record = logging.makeLogRecord({"msg": "", "created": 0.0})
    assert json.loads(JsonLines().format(record))["time"] == "1970-01-01T00:00:00.000Z"


def test_what_is_hostile_in_a_path_cannot_begin_another_line():
    path = 'a\nb"\u2028c'
    line = formatted(**{**FACTS, "container_repository_path": path})
    assert len(line.splitlines()) == 1
    assert json.loads(line)["container_repository_path"] == path


def test_a_message_a_correlation_id_and_an_error_are_written_where_there_are_some():
    try:
        raise LookupError("gone")
    except LookupError:
        line = json.loads(
            formatted("%d rows", args=(3,), level=logging.WARNING, correlation_id="x", exc_info=sys.exc_info())
        )
    assert list(line) == ["severity", "time", "correlation_id", "message", "exception"]
    assert (line["severity"], line["correlation_id"], line["message"]) == ("WARNING", "x", "3 rows")
    assert line["exception"].endswith("LookupError: gone")


def log_one_row(**changes):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "registry_project.settings", **changes}
    environment.pop("LOG_LEVEL", None)
    command = [sys.executable, "-c", f"import django; django.setup(); {LOG_ONE_ROW}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


@pytest.fixture
def elsewhere(tmp_path):
    """A file in a directory that exists."""
    return tmp_path / "migrations.log"


def test_rows_are_logged_to_standard_error_at_the_default_level():
    done = log_one_row()
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert {name: json.loads(line)[name] for name in FACTS} == FACTS


def test_rows_are_appended_to_a_file_of_their_own(elsewhere):
    assert log_one_row(REGISTRY_MIGRATIONS_LOG=str(elsewhere)).stderr == ""
    log_one_row(REGISTRY_MIGRATIONS_LOG=str(elsewhere))
    assert [json.loads(line)["has_tags"] for line in elsewhere.read_text().splitlines()] == [True, True]


def test_the_file_is_not_made_before_there_is_a_row(elsewhere):
    environment = {**os.environ, "REGISTRY_MIGRATIONS_LOG": str(elsewhere)}
    subprocess.run([sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert not elsewhere.exists()
