"""Log lines: JSON for programs, a form of its own for what background migrations decide, and never a secret."""

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog

from registry_project.logs import JsonLines, Lines

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


# --- The service's own log ---------------------------------------------------------------------------------------

PASSWORD = 'p"ss wörd/é@x'
SIGNING_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA0\n-----END RSA PRIVATE KEY-----\n"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyb290In0.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZw"
# However a secret gets into an event, whoever logs it: a value, a text around it, an error, another library's record.
LEAK = f"""
import logging, django, structlog
django.setup()
log, other = structlog.get_logger("ours"), logging.getLogger("another.library")
log.warning("connecting", url="postgres://registry:{PASSWORD!s}@db/registry", http={{"Authorization": "Bearer {JWT}"}})
log.warning("password={PASSWORD!s}", key={SIGNING_KEY!r})
log.warning("connecting", conninfo="host=db password=opensesame1 user=x", token="abc123")
log.warning('{{"access_token": "abc123", "PRIVATE-TOKEN": "glpat-abc123"}}')
other.warning("GET /x?private_token=%s, Cookie: sessionid=%s", "glpat-abc123", "abc123", extra={{"jwt": "{JWT}"}})
try:
    raise ValueError("bad DSN postgres://registry:abc123@db/x and Bearer abc123abc123")
except ValueError as error:
    log.error("failed", exc_info=error)
    other.exception("failed too")
    logging.getLogger("migrations").error("failed: token=%s", "abc123", exc_info=error)
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_reaches_a_log_whoever_logs_it_and_however(form):
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "registry_project.settings",
        "REGISTRY_LOG_FORMAT": form,
        "DATABASE_URL": f"postgres://registry:{quote(PASSWORD, safe='')}@127.0.0.1:1/registry",
        "REGISTRY_API_SIGNING_KEY": SIGNING_KEY,
    }
    done = subprocess.run(
        [sys.executable, "-c", LEAK.replace(PASSWORD, PASSWORD.replace('"', '\\"'))],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count("[redacted]") >= 12
    secrets = (PASSWORD, json.dumps(PASSWORD)[1:-1], "abc123", "opensesame1", "MIIEowIBAAKCAQEA0", *JWT.split("."))
    for secret in secrets:
        assert secret not in done.stderr, (secret, done.stderr)
    for kept in ("connecting", "host=db", "user=x", "registry:[redacted]@db/registry", "bad DSN", "ValueError"):
        assert kept in done.stderr


def written(log):
    """Return the JSON line of what `log` logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines(form="json"))
    logger = logging.getLogger("tests.lines")
    logger.addHandler(handler)
    try:
        log(structlog.get_logger("tests.lines"))
    finally:
        logger.removeHandler(handler)
    (line,) = stream.getvalue().splitlines()
    return json.loads(line)


def test_a_line_begins_with_time_level_message_and_correlation_id():
    with structlog.contextvars.bound_contextvars(correlation_id="abc"):
        line = written(lambda log: log.warning("job failed", rows=3, component="registry.bbm.Worker"))
    assert list(line) == ["time", "level", "msg", "correlation_id", "component", "rows", "logger"]
    assert (line["level"], line["msg"], line["correlation_id"]) == ("warning", "job failed", "abc")


def test_an_error_is_one_line_with_its_traceback_once():
    def fail(log):
        try:
            raise LookupError("two\nlines")
        except LookupError:
            log.exception("failed")

    line = written(fail)
    assert line["exception"].count("Traceback") == 1
    assert line["exception"].endswith("LookupError: two\nlines")
