"""Behind a transaction pooler everything works but schema migrations, which say what they need."""

import json
import os
import subprocess
import sys
import time
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.background_migrations.work_functions.registry_rows import add_manifests
from tests.conftest import Database
from tests.e2e.registry import free_port
from tests.programs import require_programs

pytestmark = pytest.mark.e2e

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server.port} user={server.username} password={server.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""

COPYING = "copy_manifests_media_type_id_column_to_media_type_id_convert_to_bigint_column"
STATUSES = "SELECT DISTINCT status FROM batched_background_migrations"
COPIED = "SELECT count(*) FROM manifests WHERE media_type_id_convert_to_bigint = media_type_id"
FINISHED = 2
RECORDS = "SELECT schemaname FROM pg_tables WHERE tablename = 'django_migrations' ORDER BY 1"


@pytest.fixture
def pooled(scratch_copy, tmp_path_factory):
    """The same database through PgBouncer in transaction mode."""
    require_programs("pgbouncer")
    server, port = urlsplit(scratch_copy.url), free_port()
    file = tmp_path_factory.mktemp("pgbouncer") / "pgbouncer.ini"
    file.write_text(CONFIGURATION.format(server=server, port=port))
    unprivileged = ["--user", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(["pgbouncer", "--quiet", *unprivileged, str(file)])
    try:
        yield _answering(Database(f"postgres://anyone@127.0.0.1:{port}{server.path}"))
    finally:
        process.terminate()
        process.wait(timeout=60)


def _answering(database):
    for _ in range(100):
        try:
            database.connect().close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return database
    pytest.fail("pgbouncer does not answer")


def run(database, *arguments):
    return manage(database, "database", *arguments)


def manage(database, *arguments):
    command = [sys.executable, "manage.py", *arguments]
    environment = {**os.environ, "DATABASE_URL": database.url}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["up"], ["down", "--force"]])
def test_migrating_is_refused_and_nothing_changes(pooled, arguments):
    done = run(pooled, "migrate", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "need a direct connection" in done.stderr
    with pooled.connect() as connection:
        assert connection.execute("SELECT count(*) > 60 FROM schema_migrations").fetchone() == (True,)


@pytest.mark.parametrize("arguments", [["status"], ["version"], ["up", "--dry-run"]])
def test_looking_works(pooled, arguments):
    done = run(pooled, "migrate", *arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_works(pooled, registry_tree):
    done = run(pooled, "import", str(registry_tree), "--json")
    assert done.returncode == 0, done.stderr
    with pooled.connect() as connection:
        assert connection.execute("SELECT count(*) FROM tags").fetchone() == (11,)


def test_django_s_migrate_works_and_leaves_nothing_in_a_session(pooled):
    with pooled.connect() as connection:
        connection.execute("DROP SCHEMA registry_admin CASCADE")
    for applied in (2, 0):
        done = manage(pooled, "migrate")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("Applying background_migrations.0001_initial... OK") == applied
    with pooled.connect() as one, pooled.connect() as two, one.transaction(), two.transaction():
        for connection in (one, two):
            assert connection.execute("SHOW search_path").fetchone() == ('"$user", public',)
            assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)
            assert connection.execute(RECORDS).fetchall() == [("public",), ("registry_admin",)]


@pytest.fixture
def old_rows(scratch_copy):
    """Manifests that a background migration has to change."""
    with scratch_copy.connect() as connection:
        add_manifests(connection, 1_000)
        yield connection


WORKING = (
    ["worker", "--once", "--concurrency", "4", "--interval", "0"],
    ["run", "--concurrency", "4"],
)


@pytest.mark.parametrize("arguments", WORKING)
def test_background_migrations_are_worked_off(pooled, old_rows, arguments):
    assert manage(pooled, "background_migrate", "control", COPYING, "--batch-size", "100").returncode == 0
    done = manage(pooled, "background_migrate", *arguments)
    assert done.returncode == 0, done.stderr
    assert old_rows.execute(STATUSES).fetchall() == [(FINISHED,)]
    assert old_rows.execute(COPIED).fetchone() == (1_000,)


def test_background_migrations_are_managed(pooled, old_rows):
    for arguments in (
        ["pause", COPYING],
        ["resume"],
        ["control", COPYING, "--max-parallel-jobs", "2"],
        ["sample", COPYING, "--rows", "10"],
        ["status"],
        ["status", COPYING],
        ["jobs", COPYING],
        ["events", COPYING],
    ):
        done = manage(pooled, "background_migrate", *arguments, "--json")
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert json.loads(done.stdout)
    assert old_rows.execute(COPIED).fetchone() == (0,)
