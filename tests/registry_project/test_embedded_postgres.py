"""The bundled PostgreSQL: real servers in homes of their own, really killed."""

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from registry_project.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, postmaster, unprivileged
from registry_project.embedded_postgres import server as server_module

CHECKOUT = Path(__file__).resolve().parents[2]
START = """
import sys
from pathlib import Path
from registry_project.embedded_postgres import EmbeddedPostgres
print("begin", flush=True)
print(EmbeddedPostgres(Path(sys.argv[1]), durable=False).start().url, flush=True)
"""
BUSY = """
DO $$ DECLARE began timestamptz := clock_timestamp();
BEGIN WHILE clock_timestamp() < began + interval '1.5 seconds' LOOP END LOOP; END $$
"""


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A new directory that every account may enter, which pytest's own is not."""
    directory = Path(tempfile.mkdtemp(prefix="embedded-postgres-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def home(reachable: Path) -> Iterator[Path]:
    path = reachable / "home"
    yield path
    EmbeddedPostgres(path).stop()


@pytest.fixture(scope="module")
def made_home() -> Iterator[Path]:
    """A home that was used before, to be copied: a first start takes most of a second."""
    directory = Path(tempfile.mkdtemp(prefix="embedded-postgres-", dir="/tmp"))
    directory.chmod(0o755)
    server = EmbeddedPostgres(directory / "home", durable=False)
    server.start()
    server.stop()
    yield directory / "home"
    shutil.rmtree(directory)


@pytest.fixture
def server(home: Path, made_home: Path) -> EmbeddedPostgres:
    """A server that was started and stopped before."""
    # Unlike shutil's, this copy keeps the owners.
    subprocess.run(["cp", "-a", made_home, home], check=True)
    return EmbeddedPostgres(home, durable=False)


@pytest.fixture
def new_server(home: Path) -> EmbeddedPostgres:
    """A server that has nothing yet."""
    return EmbeddedPostgres(home, durable=False)


def url(server: EmbeddedPostgres) -> str:
    found = server.status().url
    assert found
    return found


def ask(server: EmbeddedPostgres, query: str) -> str:
    with psycopg.connect(url(server), autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return str(row[0]) if row else ""


def do(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(url(server), autocommit=True) as connection:
        connection.execute(statement.encode())


def kill(server: EmbeddedPostgres) -> None:
    found = postmaster.find(server.status().data_directory)
    assert found
    os.kill(found.pid, signal.SIGKILL)
    while postmaster.find(server.status().data_directory):
        time.sleep(0.01)


def starter(home: Path) -> "subprocess.Popen[str]":
    """A process of its own that starts the server; it has said that it begins."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(home)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "begin\n"
    return process


def test_start_attach_stop_start_keep_the_url_and_the_data(new_server: EmbeddedPostgres, home: Path) -> None:
    started = new_server.start()
    assert started.running
    assert started.version
    assert started.version.startswith("18.")
    assert EmbeddedPostgres(home).start() == started
    assert new_server.status() == started

    do(new_server, "CREATE TABLE kept AS SELECT 1 AS id")
    assert new_server.stop() is True
    assert new_server.status().running is False
    assert new_server.status().url is None
    assert new_server.stop() is False

    assert new_server.start() == started
    assert ask(new_server, "SELECT count(*) FROM kept") == "1"


def test_status_and_stop_of_nothing_create_nothing(new_server: EmbeddedPostgres, home: Path) -> None:
    assert new_server.stop() is False
    assert new_server.status().running is False
    assert new_server.status().data_directory.is_relative_to(home)
    assert not home.exists()


def test_the_server_is_set_up_as_promised(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    expected = {
        "data_checksums": "on",
        "fsync": "on",
        "listen_addresses": "127.0.0.1",
        "server_encoding": "UTF8",
        "shared_preload_libraries": "pg_stat_statements",
        "unix_socket_directories": "",
    }
    assert {name: ask(server, f"SHOW {name}") for name in expected} == expected
    assert ask(server, "SELECT datcollate FROM pg_database WHERE datname = current_database()") == "C.UTF-8"
    assert ask(server, "SELECT current_user || '@' || current_database()") == "registry@registry"


def test_a_server_that_is_not_durable_still_asks_for_the_password(server: EmbeddedPostgres, home: Path) -> None:
    parts = urlsplit(server.start().url or "")
    assert stat.S_IMODE((home / "password").stat().st_mode) == 0o600
    assert parts.hostname == "127.0.0.1"
    for password in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                host=parts.hostname,
                port=parts.port,
                user=parts.username,
                dbname="registry",
                password=password,
            )
    assert ask(server, "SHOW fsync") == "off"


def test_a_path_of_150_characters_works(reachable: Path) -> None:
    home = reachable / ("x" * (150 - len(str(reachable)) - 1))
    assert len(str(home)) == 150
    server = EmbeddedPostgres(home, durable=False)
    try:
        server.start()
        assert ask(server, "SELECT 1") == "1"
    finally:
        assert server.stop()


def test_a_path_that_a_shell_would_read_otherwise_is_refused(reachable: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="quote"):
        EmbeddedPostgres(reachable / "$(touch x)").start()
    assert list(reachable.iterdir()) == []


def test_data_survives_the_kill_of_the_server(home: Path) -> None:
    server = EmbeddedPostgres(home)
    before = server.start()
    do(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
    kill(server)
    assert server.start() == before
    assert ask(server, "SELECT count(*) FROM kept") == "1000"


def test_a_start_waits_for_the_sessions_that_outlive_a_killed_server(server: EmbeddedPostgres) -> None:
    server.start()
    connection = psycopg.connect(url(server), autocommit=True)
    busy = threading.Thread(target=_ignore_the_end, args=(connection,))
    busy.start()
    time.sleep(0.3)
    began = time.monotonic()
    kill(server)
    server.start()
    assert time.monotonic() - began > 0.8
    busy.join()
    connection.close()
    assert ask(server, "SELECT 1") == "1"


def _ignore_the_end(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    try:
        connection.execute(BUSY)
    except psycopg.OperationalError:
        return


def test_a_pid_file_that_names_another_process_or_none_does_not_keep_the_server_out(
    server: EmbeddedPostgres,
) -> None:
    data = server.start().data_directory
    lines = (data / "postmaster.pid").read_text().splitlines()
    server.stop()
    owner = data.stat()
    as_root = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    other = subprocess.Popen(["sleep", "60"], cwd="/", **as_root)
    try:
        (data / "postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        assert server.status().running is False
        assert server.stop() is False
        assert server.start().running
        assert other.poll() is None
        kill(server)
        (data / "postmaster.pid").write_bytes(b"\0" * 64)
        assert server.status().running is False
        assert server.start().running
    finally:
        other.kill()
        other.wait()


def test_of_two_starts_at_once_one_starts_and_the_other_attaches(new_server: EmbeddedPostgres, home: Path) -> None:
    starters = [starter(home) for _ in range(2)]
    urls = {process.communicate(timeout=60)[0].strip() for process in starters}
    assert (home / "port").read_text() == str(urlsplit(url(new_server)).port)
    assert [process.returncode for process in starters] == [0, 0]
    # Both starters are gone: the server outlives them, in a session that Ctrl-C does not reach.
    assert urls == {url(new_server)}
    found = postmaster.find(new_server.status().data_directory)
    assert found
    assert os.getsid(found.pid) not in {os.getsid(0), *(process.pid for process in starters)}
    assert ask(new_server, "SELECT 1") == "1"


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.2, 0.35])
def test_a_first_start_killed_at_any_moment_is_made_good(
    new_server: EmbeddedPostgres, home: Path, seconds: float
) -> None:
    process = starter(home)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    new_server.start()
    assert ask(new_server, "SELECT current_database()") == "registry"


def test_what_an_unfinished_start_left_is_removed_and_complete_data_is_not(
    server: EmbeddedPostgres, home: Path
) -> None:
    server.start()
    do(server, "CREATE TABLE kept AS SELECT 1 AS id")
    server.stop()
    leftover = home / "server" / "unfinished.1"
    shutil.copytree(home / "server" / "data", leftover / "data")
    shutil.rmtree(leftover / "data" / "global")
    server.start()
    assert ask(server, "SELECT count(*) FROM kept") == "1"
    assert not leftover.exists()


def test_another_port_is_chosen_and_kept_where_somebody_took_the_old_one(server: EmbeddedPostgres) -> None:
    old = urlsplit(server.start().url or "").port
    server.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", old))
        taken.listen()
        new = urlsplit(server.start().url or "").port
        assert new != old
        server.stop()
    assert urlsplit(server.start().url or "").port == new


def test_data_of_another_version_or_without_its_password_is_refused_and_left_alone(
    server: EmbeddedPostgres, home: Path
) -> None:
    data = server.start().data_directory
    server.stop()
    (data / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 17, and the bundled one is 18"):
        server.start()
    assert (data / "global").exists()

    (data / "PG_VERSION").write_text("18\n")
    (home / "password").unlink()
    with pytest.raises(EmbeddedPostgresError, match="password is gone"):
        server.start()
    assert (data / "global").exists()


def test_a_failed_start_shows_the_end_of_the_log_and_where_it_is(server: EmbeddedPostgres) -> None:
    data = server.start().data_directory
    server.stop()
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError) as failure:
        server.start()
    assert "no_such_setting" in str(failure.value)
    assert str(data.parent / "server.log") in str(failure.value)


def test_waiting_for_another_process_has_an_end(
    new_server: EmbeddedPostgres, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "WAIT_SECONDS", 0.3)
    home.mkdir()
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedPostgresError, match=str(home / "lock")):
            new_server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")
def test_root_is_told_which_directory_bars_the_way_and_nothing_is_changed(reachable: Path) -> None:
    barred = reachable / "barred"
    barred.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=f"may not enter {barred}"):
        EmbeddedPostgres(barred / "below" / "home").start()
    assert stat.S_IMODE(barred.stat().st_mode) == 0o700
    assert list(barred.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")
def test_root_gives_away_the_data_and_keeps_the_rest(server: EmbeddedPostgres, home: Path) -> None:
    found = postmaster.find(server.start().data_directory)
    assert found
    assert Path(f"/proc/{found.pid}").stat().st_uid != 0
    owned_by_root = {path.name for path in home.iterdir() if path.stat().st_uid == 0}
    assert owned_by_root == {"lock", "password", "port", "version"}


def test_nobody_runs_the_server_where_no_account_exists_or_can_be_made(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unprivileged, "ACCOUNT_NAMES", ())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert unprivileged.choose_account(home).name == "nobody"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_is_named(reachable: Path) -> None:
    reachable.chmod(0o555)
    with pytest.raises(EmbeddedPostgresError, match=str(reachable)):
        EmbeddedPostgres(reachable / "home").start()
    reachable.chmod(0o755)
