"""What an operator sees of the real programs: metrics of several processes, health, logs, reports, orderly ends."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from prometheus_client.mmap_dict import MmapedDict

from bench.servers import migrated_server, url_of
from registry_project.embedded_postgres import EmbeddedPostgres
from tests.background_migrations.cli.conftest import COPIES, COPY
from tests.background_migrations.conftest import Bench
from tests.conftest import Database
from tests.e2e import sentry
from tests.e2e.registry import free_port
from tests.e2e.site import Site, served
from tests.e2e.test_api_server import AUTH, HERE, WRITE, send, settings_of
from tests.programs import require_programs
from tests.waiting import until

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference" / "metrics.md"
READ = {"type": "registry", "name": "background-migrations", "actions": ["read"]}
LIST_ROUTE = "/gitlab/v1/background-migrations/"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with migrated_server() as server:
        yield server


@pytest.fixture(scope="module")
def sink() -> Iterator[sentry.Sink]:
    with sentry.listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def counts(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("counts")


@pytest.fixture(scope="module")
def environment(server, sink, counts, tmp_path_factory) -> dict[str, str]:
    bundle = tmp_path_factory.mktemp("keys") / "bundle.pem"
    bundle.write_bytes(AUTH.certificate())
    return {
        **settings_of(bundle),
        "DATABASE_URL": url_of(server),
        "SENTRY_DSN": sink.dsn,
        "PROMETHEUS_MULTIPROC_DIR": str(counts),
        "LOG_LEVEL": "INFO",
    }


@pytest.fixture(scope="module")
def site(server, environment) -> Iterator[Site]:
    with served(url_of(server), environment, workers=2, threads=2) as site:
        yield site


@pytest.fixture
def bench(server) -> Iterator[Bench]:
    database = Database(url_of(server))
    with database.connect() as connection:
        connection.execute("DELETE FROM batched_background_migrations")
        connection.execute(COPIES)
        yield Bench(database, connection)
        connection.execute("DROP SCHEMA far CASCADE; DELETE FROM batched_background_migrations")


def samples(text: str) -> dict[str, float]:
    """Return each sample, by its name with its labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def scrape(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    check_names(text)
    return samples(text)


def check_names(text: str) -> None:
    """Hold every metric of ours against the reference."""
    described = set(re.findall(r"^\| `(registry_\w+)`", REFERENCE.read_text(), re.MULTILINE))
    found = set(re.findall(r"^# TYPE (registry_\w+) ", text, re.MULTILINE))
    assert found
    assert found <= described


def requests_of(site: Site, code: int, route: str = LIST_ROUTE) -> float:
    name = f'registry_http_requests_total{{code="{code}",method="get",route="{route}"}}'
    return scrape(f"{site.url}metrics").get(name, 0.0)


# --- Metrics of a server ------------------------------------------------------------------------------------------


def test_every_process_tells_what_all_processes_counted(site, bench, counts):
    before = requests_of(site, 200)
    with ThreadPoolExecutor(8) as threads:
        asked = list(threads.map(lambda _: send(site, "GET", HERE, READ)[0], range(60)))
    assert set(asked) == {200}
    assert len(list(counts.glob("counter_*.db"))) == 2  # both have answered
    assert {requests_of(site, 200) for _ in range(10)} == {before + 60}


@pytest.mark.e2e
def test_prometheus_own_tool_reads_what_a_server_tells(site, bench):
    require_programs("promtool", packages=("prometheus",))
    assert send(site, "GET", HERE)[0] == 401
    text = site.send("GET", "/metrics")[2].decode()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    complaints = (done.stdout + done.stderr).splitlines()
    # That a gauge is called `_total` is how GitLab's registry names it.
    assert [line for line in complaints if "registry_database_migrations_total" not in line] == []


def test_all_spellings_of_a_path_are_one_route_and_unknown_ones_none(site, bench):
    before = requests_of(site, 401)
    for path in (HERE, HERE.rstrip("/"), "/v1/gitlab/bbm/status/"):
        assert send(site, "GET", path)[0] == 401
    assert send(site, "GET", "/gitlab/v1/no-such-route")[0] == 404
    assert requests_of(site, 401) == before + 3
    assert not [name for name in scrape(f"{site.url}metrics") if "no-such-route" in name]


def test_what_a_killed_process_counted_stays_and_what_it_was_doing_goes(site, bench, counts):
    before = requests_of(site, 401)
    assert send(site, "GET", HERE)[0] == 401
    outcomes: list[bool] = []
    with psycopg.connect(bench.database.url) as blocker:
        blocker.execute("LOCK TABLE batched_background_migrations")
        waiting = Thread(target=lambda: outcomes.append(_breaks(site)))
        waiting.start()
        gauge = "registry_http_in_flight_requests"
        until(lambda: samples(site.send("GET", "/metrics")[2].decode())[gauge] == 1)
        (busy,) = [int(file.stem.rpartition("_")[2]) for file in counts.glob("gauge_*.db") if _in_flight(file)]
        os.kill(busy, signal.SIGKILL)
        waiting.join()
    assert outcomes == [True]
    until(lambda: samples(site.send("GET", "/metrics")[2].decode())[gauge] == 0)
    assert requests_of(site, 401) == before + 1


def _breaks(site: Site) -> bool:
    try:
        send(site, "GET", HERE, READ)
    except OSError:
        return True
    return False


def _in_flight(file: Path) -> bool:
    return any(value for _, value, _, _ in MmapedDict.read_all_values_from_file(str(file)))


def test_the_database_s_own_figures_are_there(site, bench):
    bench.queue(**COPY, name="half", batch_size=15)
    active = 'registry_bbm_migrations{status="active"}'
    figures = until(lambda: (found := scrape(f"{site.url}metrics")).get(active) == 1 and found, seconds=60)
    assert figures["registry_database_up"] == 1
    assert figures['registry_database_migrations_pending{migration_type="pre_deployment"}'] == 0


# --- A worker, from the request to its jobs -----------------------------------------------------------------------


def test_a_request_s_id_is_in_the_log_of_the_job_that_it_let_run_and_the_worker_s_metrics_tell_of_it(
    site, bench, environment, tmp_path
):
    migration_id = bench.queue(**COPY, status=0, batch_size=10, max_value=30)
    port, heartbeat = free_port(), tmp_path / "worker.alive"
    environment = {**os.environ, **environment, "REGISTRY_BBM_HEARTBEAT_FILE": str(heartbeat)}
    command = [sys.executable, "manage.py", "background_migrate", "worker"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [*command, "--metrics-port", str(port), "--interval", "0"], cwd=ROOT, env=environment, stderr=log
        )
    try:
        until(heartbeat.exists)
        answer = send(site, "POST", f"{HERE}{migration_id}/resume/", WRITE, headers={"X-Request-ID": "from-chatops-1"})
        assert answer[0] == 200
        until(lambda: bench.status() == 2)
        figures = scrape(f"http://127.0.0.1:{port}/metrics")
        check = manage(environment, "background_migrate", "worker", "--check")
        assert check.returncode == 0, check.stderr
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0
    of_job = f'migration_id="{migration_id}",migration_name="{COPY["function"]}"'
    assert figures[f"registry_bbm_migrated_tuples_total{{{of_job}}}"] == 30
    assert figures[f'registry_bbm_job_outcomes_total{{{of_job},outcome="finished"}}'] == 3
    assert figures[f"registry_bbm_job_duration_seconds_count{{{of_job}}}"] == 3
    assert not heartbeat.exists()
    check = manage(environment, "background_migrate", "worker", "--check")
    assert (check.returncode, len(check.stderr.splitlines())) == (1, 1), check.stderr
    lines = map(_as_json, (tmp_path / "log").read_text().splitlines())
    jobs = [line for line in lines if line.get("msg") == "job finished"]
    assert {(line["correlation_id"], line["component"], line["bbm_name"]) for line in jobs} == {
        ("from-chatops-1", "registry.bbm.Worker", "count")
    }
    assert len(jobs) == 3


def _as_json(line: str) -> dict:
    return json.loads(line) if line.startswith("{") else {}


# --- Reports ------------------------------------------------------------------------------------------------------


def manage(environment, *words):
    command = [sys.executable, "manage.py", *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_a_migration_that_turns_failed_is_reported_once(bench, environment, sink):
    bench.connection.execute("ALTER TABLE far.copies ADD CHECK (media_type_id_convert_to_bigint <> 15)")
    bench.queue("doomed", **COPY, batch_size=10, max_value=30)
    done = manage(environment, "background_migrate", "run", "-r", "1")
    assert done.returncode == 1
    (event,) = sink.about("doomed")
    assert event["logentry"]["message"] == "background migration failed"
    assert (event["level"], event["tags"]["bbm_name"]) == ("error", "doomed")
    assert event["tags"]["component"] == "registry.bbm.SyncWorker"
    assert len(event["tags"]["correlation_id"]) == 32


def test_an_import_that_fails_is_reported_once(environment, sink, registry_tree):
    link = next(registry_tree.rglob("_manifests/tags/*/current/link"))
    digest = link.read_text().partition(":")[2]
    (registry_tree / "docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data").write_text("no manifest")
    done = manage(environment, "database", "import", registry_tree, "--strict")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    (event,) = sink.about("import failed")
    assert digest in event["extra"]["error"]
    assert (event["level"], event["tags"]["dry_run"]) == ("error", "False")


def test_a_command_that_breaks_is_reported_once(environment, sink):
    done = manage(environment, "shell", "-c", "raise LookupError('a broken command, password=abc123')")
    assert done.returncode == 1
    (event,) = sink.about("a broken command")
    assert event["exception"]["values"][-1]["type"] == "LookupError"
    assert "abc123" not in json.dumps(event["exception"]["values"][-1]["value"])


def test_what_nobody_foresaw_is_reported_once_without_what_is_secret(site, bench, sink, environment):
    bench.queue("renamed")
    bench.connection.execute("ALTER TABLE batched_background_migrations RENAME batch_size TO size_of_batch")
    try:
        headers = {"X-Request-ID": "to-sentry", "Cookie": "sessionid=abc123"}
        assert send(site, "GET", f"{HERE}?key=xyzzy123", READ, headers=headers)[0] == 500
    finally:
        bench.connection.execute("ALTER TABLE batched_background_migrations RENAME size_of_batch TO batch_size")
    (event,) = sink.about("to-sentry")
    assert event["exception"]["values"][-1]["type"] == "UndefinedColumn"
    text = json.dumps(event)
    password = url_of_password(environment["DATABASE_URL"])
    assert event["request"]["url"].endswith(HERE)
    for secret in (password, "abc123", "xyzzy123", "eyJ", "only-for-tests"):
        assert secret not in text
    assert '"vars"' not in text


def url_of_password(url: str) -> str:
    found = re.search(r"://[^:]+:([^@]+)@", url)
    assert found
    return found[1]


# --- Orderly ends -------------------------------------------------------------------------------------------------


def test_a_server_that_is_told_to_stop_ends_the_requests_that_it_has(server, environment, bench):
    with served(url_of(server), {**environment, "PROMETHEUS_MULTIPROC_DIR": ""}) as site:
        answers: list[int] = []
        with psycopg.connect(bench.database.url) as blocker:
            blocker.execute("LOCK TABLE batched_background_migrations")
            asking = Thread(target=lambda: answers.append(send(site, "GET", HERE, READ)[0]))
            asking.start()
            waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'batched_background_migrations'::regclass"
            until(lambda: bench.rows(waits))
            site.process.terminate()
            assert any(b"Stopping worker" in line for line in iter(site.process.stdout.readline, b""))
        asking.join()
        assert answers == [200]
        assert site.process.wait(timeout=60) == 0


def test_a_server_is_not_ready_while_its_database_is_away(server, site):
    assert site.send("GET", "/readyz")[0] == 200
    server.stop()
    status, _, body = site.send("GET", "/readyz")
    assert (status, json.loads(body)) == (
        503,
        {"status": "unavailable", "database": "it does not answer", "registry database": "it does not answer"},
    )
    assert site.send("GET", "/healthz")[0] == 200
    until(lambda: scrape(f"{site.url}metrics")["registry_database_up"] == 0, seconds=60)
    server.start()
    until(lambda: site.send("GET", "/readyz")[0] == 200)
