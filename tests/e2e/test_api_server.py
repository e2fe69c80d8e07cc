"""The API as it is served: by granian, over a socket, with a PostgreSQL that goes away and comes back."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from background_migrations.status import Status
from bench.servers import migrated_server, url_of
from registry_project.embedded_postgres import EmbeddedPostgres
from tests.background_migrations.conftest import TABLE, Bench
from tests.background_migrations.worker_process import start as start_worker
from tests.conftest import Database
from tests.e2e.site import Site, served
from tests.e2e.tokens import TokenAuth
from tests.waiting import until

AUTH = TokenAuth()
CLIENT = Path(__file__).parents[2] / "docs" / "how-to" / "api_client.py"
HERE = "/gitlab/v1/background-migrations/"
STATUS_PATH = "/gitlab/v1/admin/db/migrations/status/"
WRITE = {"type": "registry", "name": "background-migrations", "actions": ["*"]}
MIGRATIONS = {"type": "registry", "name": "migrations", "actions": ["*"]}


def settings_of(bundle: Path) -> dict[str, str]:
    """The settings of a site that trusts these certificates."""
    return {
        "REGISTRY_AUTH_TOKEN_REALM": AUTH.realm,
        "REGISTRY_AUTH_TOKEN_SERVICE": AUTH.service,
        "REGISTRY_AUTH_TOKEN_ISSUER": AUTH.issuer,
        "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": str(bundle),
    }


def send(site: Site, method: str, path: str, *access: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    """Send a request with a token that grants this access; without any, none."""
    token = {"Authorization": f"bearer {AUTH.granting(*access)}"} if access else {}
    return site.send(method, path, headers={**token, **(headers or {})})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "bundle.pem"
    path.write_bytes(AUTH.certificate())
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with migrated_server() as server:
        yield server


@pytest.fixture(scope="module")
def site(server, bundle) -> Iterator[Site]:
    with served(url_of(server), settings_of(bundle)) as site:
        yield site


@pytest.fixture
def bench(server) -> Iterator[Bench]:
    database = Database(url_of(server))
    with database.connect() as connection:
        connection.execute("DELETE FROM batched_background_migrations")
        yield Bench(database, connection)


def code_of(body: bytes) -> str:
    return str(json.loads(body)["errors"][0]["code"])


def test_rails_shaped_requests_are_answered(site, bench):
    bench.queue()
    accepts = {"Accept": "application/json", "User-Agent": "GitLab/18.6.0"}
    status, headers, body = send(site, "GET", STATUS_PATH, MIGRATIONS, headers=accepts)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["background_migrations"] == {"active": 1, "paused": 0, "failed": 0, "completed": 0}
    status, _, body = send(site, "POST", f"{HERE}pause/", WRITE, headers={**accepts, "Content-Length": "0"})
    assert (status, json.loads(body)["success"]) == (200, True)
    assert bench.status() == Status.PAUSED
    assert send(site, "GET", "/gitlab/v1/")[0] == 401


def test_without_the_database_the_answer_is_503_and_with_it_again_200(server, site, bundle):
    assert send(site, "GET", STATUS_PATH, MIGRATIONS)[0] == 200
    port_kept = url_of(server)
    server.stop()
    for method, path, access in (("GET", STATUS_PATH, MIGRATIONS), ("POST", f"{HERE}pause/", WRITE)):
        status, headers, body = send(site, method, path, access)
        assert (status, headers["Retry-After"], code_of(body)) == (503, "5", "UNAVAILABLE")
        assert b"127.0.0.1" not in body
    assert send(site, "GET", STATUS_PATH)[0] == 401
    server.start()
    assert url_of(server) == port_kept
    assert send(site, "GET", STATUS_PATH, MIGRATIONS)[0] == 200
    assert send(site, "POST", f"{HERE}pause/", WRITE)[0] == 200


def test_a_session_that_the_server_ended_is_replaced_without_a_failure(site, bench):
    assert send(site, "GET", STATUS_PATH, MIGRATIONS)[0] == 200
    bench.connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
    )
    time.sleep(0.1)  # for the end of the session to arrive
    assert [send(site, "GET", STATUS_PATH, MIGRATIONS)[0] for _ in range(5)] == [200] * 5


def test_simultaneous_pauses_and_resumes_leave_one_of_the_two(site, bench):
    for number in range(20):
        bench.queue(f"count {number}")
    with ThreadPoolExecutor(8) as threads:
        paths = [f"{HERE}{verb}/" for verb in ("pause", "resume")] * 20
        answers = list(threads.map(lambda path: send(site, "POST", path, WRITE)[0], paths))
    assert set(answers) == {200}
    found = {status for (status,) in bench.rows("SELECT status FROM batched_background_migrations")}
    assert found <= {Status.PAUSED, Status.ACTIVE}
    assert send(site, "POST", f"{HERE}pause/", WRITE)[0] == 200
    assert {status for (status,) in bench.rows("SELECT status FROM batched_background_migrations")} == {Status.PAUSED}


def test_a_pause_stops_a_worker_and_a_resume_lets_it_finish(site, bench):
    bench.connection.execute(TABLE)
    bench.fill(5_000)
    migration_id = bench.queue(function="increment_slowly", batch_size=1_000)
    bench.control(migration_id, sub_batch_size=50)
    worker = start_worker(bench.database.url, threads=1, grace=30.0)
    try:
        until(lambda: bench.hits().get(1, 0) > 100)
        assert send(site, "POST", f"{HERE}{migration_id}/pause/", WRITE)[0] == 200
        until(
            lambda: (
                bench.rows("SELECT bool_and(claim IS NULL) FROM registry_admin.background_migration_job_progress")
                == [(True,)]
            )
        )
        done = bench.hits()[1]
        assert done < 5_000
        assert json.loads(send(site, "GET", f"{HERE}{migration_id}/", WRITE)[2])["migration"]["status"] == "paused"
        assert send(site, "POST", f"{HERE}{migration_id}/resume/", WRITE)[0] == 200
        until(lambda: bench.status() == Status.FINISHED)
        assert bench.hits() == {1: 5_000}
    finally:
        worker.terminate()
        worker.wait(timeout=60)


def test_the_client_in_the_documentation_works(site, bench):
    migration_id = bench.queue(name="described")
    found = importlib.util.spec_from_file_location("api_client", CLIENT)
    client = importlib.util.module_from_spec(found)
    sys.modules[found.name] = client
    found.loader.exec_module(client)
    api = client.RegistryApi(site.url, AUTH.granting(MIGRATIONS, WRITE))
    assert api.migration_status().background_migrations["active"] == 1
    assert api.pause(migration_id) == "Paused described."
    assert [(each.name, each.status) for each in api.background_migrations()] == [("described", "paused")]
    assert api.control(migration_id, batch_size=50)["batch_size"] == 50
    assert api.resume() == "Resumed 1 background migration."
    with pytest.raises(client.ApiError, match="409 BBM_INVALID_TRANSITION"):
        api.resume(migration_id)
    environment = {**os.environ, "REGISTRY_TOKEN": api.token}
    printed = subprocess.run(
        [sys.executable, CLIENT, site.url], env=environment, capture_output=True, text=True, check=True
    )
    assert "described" in printed.stdout


def test_an_unusable_bundle_is_an_error_at_the_start(server, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    environment = {"DATABASE_URL": url_of(server), "SECRET_KEY": "only-for-tests", **settings_of(bundle)}
    done = subprocess.run(
        [sys.executable, "-c", "import registry_project.wsgi"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE is " in done.stderr.splitlines()[-1]


def test_no_token_is_ever_logged(server, bundle):
    secret = AUTH.granting(MIGRATIONS)
    with served(url_of(server), {**settings_of(bundle), "LOG_LEVEL": "DEBUG"}) as site:
        for token in (secret, secret[:-9] + "AAAAAAAAA", "a." + secret):
            send(site, "GET", STATUS_PATH, headers={"Authorization": f"Bearer {token}"})
        site.process.terminate()
        log = site.process.communicate(timeout=60)[0].decode()
    refusals = [json.loads(line) for line in log.splitlines() if "token_refused" in line]
    assert [(line["request"], line["code"]) for line in refusals] == [(f"GET {STATUS_PATH}", 401)] * 2
    assert not any(part in log for part in secret.split("."))
