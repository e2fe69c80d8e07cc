"""The signals, each on a real server that is really under that strain."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from background_migrations.throttling import (
    Hook,
    LockWaiters,
    Lookout,
    ReplicaLag,
    Throttled,
    Vacuum,
    WalArchive,
)
from registry_project.embedded_postgres import EmbeddedPostgres, postmaster
from tests.conftest import Database, drop
from tests.databases import throwaway_server

TABLE = ("public", "target")
TABLES = """
    CREATE SCHEMA far;
    CREATE TABLE target (id bigint NOT NULL) PARTITION BY RANGE (id);
    CREATE TABLE far.half PARTITION OF target FOR VALUES FROM (0) TO (5000) PARTITION BY RANGE (id);
    CREATE TABLE far.quarter PARTITION OF far.half FOR VALUES FROM (0) TO (5000);
    CREATE TABLE plain (id bigint NOT NULL);
    CREATE TABLE far.target (id bigint NOT NULL);
    INSERT INTO target SELECT generate_series(1, 4999);
    INSERT INTO plain SELECT generate_series(1, 5000);
    INSERT INTO far.target SELECT generate_series(1, 5000);
"""
SLOWLY = "-c vacuum_cost_delay=100 -c vacuum_cost_limit=1"  # seconds for each table, where it would be milliseconds


def until(ask: Callable[[], object]):
    """Ask until there is an answer that counts, and return it."""
    for _ in range(1_000):
        if answer := ask():
            return answer
        time.sleep(0.01)
    return pytest.fail("It has not come about.")


def scalar(connection, query):
    (value,) = connection.execute(query).fetchone()
    return value


def connect(url, **changes):
    return psycopg.connect(make_conninfo(url, **changes), autocommit=True)


def configure(data: Path, *settings: str) -> None:
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write("\n".join([*settings, ""]))


@pytest.fixture(scope="module")
def made_server():
    """A server that was started and stopped, to be copied: making its data takes longer than most tests."""
    with throwaway_server() as server:
        server.start()
        server.stop()
        yield server


@contextmanager
def copy_of(made_server):
    with throwaway_server() as server:
        # Unlike shutil's, this copy keeps the owners.
        subprocess.run(["cp", "-a", f"{made_server._home}/.", server._home], check=True)
        yield server


@pytest.fixture
def server(made_server):
    """A server of the test's own, not yet started."""
    with copy_of(made_server) as server:
        yield server


# --- The write-ahead log ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Archiving:
    """A server that archives while its archive is open."""

    server: EmbeddedPostgres
    connection: psycopg.Connection

    @property
    def data(self) -> Path:
        return self.server.status().data_directory

    def open_archive(self) -> None:
        """Also for the server's end: as long as it cannot archive what it has, it tries for seconds more."""
        (self.data / "archive_is_open").touch()

    def close_archive(self) -> None:
        (self.data / "archive_is_open").unlink()

    def write_segments(self, *, waiting: int) -> None:
        """Fill segments until so many full ones wait for the archive, as the server's own directory has it."""
        query = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
        while scalar(self.connection, query) < waiting:
            fill_segment(self.connection)

    def hand_over(self, name: str) -> None:
        """Let the server archive a file other than a segment."""
        for path in [self.data / "pg_wal" / name, self.data / "pg_wal" / "archive_status" / f"{name}.ready"]:
            path.touch()
            self.server._programs().give(path)
        self.connection.execute("SELECT pg_reload_conf()")  # wakes the archiver

    def await_archived(self, name: str) -> None:
        until(lambda: scalar(self.connection, "SELECT last_archived_wal FROM pg_stat_archiver") == name)

    def await_failure(self) -> None:
        until(lambda: scalar(self.connection, "SELECT last_failed_wal FROM pg_stat_archiver"))

    @contextmanager
    def restarted(self):
        self.connection.close()
        self.server.stop()
        with connect(self.server.start().url) as connection:
            yield connection


def fill_segment(connection):
    # Without a record in between, a second switch would do nothing.
    connection.execute("SELECT pg_logical_emit_message(false, 'test', 'record')")
    connection.execute("SELECT pg_switch_wal()")


@pytest.fixture
def archiving(server):
    """A server with segments of 1 MB that is about to leave its fourth 4 GB of log; its archive is closed."""
    data = server.status().data_directory
    configure(data, "archive_mode = on", "archive_command = 'test -e archive_is_open'")
    place = ["--wal-segsize=1", "--next-wal-file=000000010000000300000FF0"]
    server._programs().run("pg_resetwal", *place, "-D", str(data))
    with connect(server.start().url) as connection:
        archiving = Archiving(server, connection)
        yield archiving
        archiving.open_archive()


def test_an_archive_that_has_never_worked_is_counted_from_the_first_failure_and_42_segments_pass(archiving):
    archiving.write_segments(waiting=41)  # and the one that is being written
    archiving.await_failure()
    assert WalArchive().reason(archiving.connection, TABLE) is None
    archiving.write_segments(waiting=42)
    expected = "The archive is 43 WAL segments behind the server; the limit is 42."
    assert WalArchive().reason(archiving.connection, TABLE) == expected


def test_an_archive_that_stops_is_counted_from_the_last_segment_it_took(archiving):
    archiving.open_archive()
    fill_segment(archiving.connection)
    archiving.await_archived("000000010000000300000FF0")
    assert WalArchive(max_pending_segments=1).reason(archiving.connection, TABLE) is None
    archiving.close_archive()
    archiving.write_segments(waiting=20)
    assert WalArchive(max_pending_segments=21).reason(archiving.connection, TABLE) is None
    assert "21 WAL segments behind" in WalArchive(max_pending_segments=20).reason(archiving.connection, TABLE)


def test_what_is_archived_besides_segments_does_not_count_nor_does_a_failure_that_is_over(archiving):
    archiving.write_segments(waiting=3)
    archiving.await_failure()
    archiving.open_archive()
    archiving.await_archived("000000010000000300000FF2")
    for name in ["000000010000000300000F00.00000028.backup", "00000001.history"]:
        archiving.hand_over(name)
        archiving.await_archived(name)
        assert WalArchive(max_pending_segments=1).reason(archiving.connection, TABLE) is None


def test_an_archive_that_fails_where_nothing_tells_its_backlog_throttles(archiving):
    # After a promotion the new timeline's history comes first.
    archiving.hand_over("00000001.history")
    archiving.await_failure()
    expected = "Archiving of 00000001.history fails; how far the archive is behind is not known."
    assert WalArchive().reason(archiving.connection, TABLE) == expected


def test_without_an_archive_nothing_waits_for_it(archiving):
    archiving.open_archive()
    fill_segment(archiving.connection)
    archiving.await_archived("000000010000000300000FF0")
    configure(archiving.data, "archive_mode = off")
    with archiving.restarted() as connection:
        fill_segment(connection)
        assert scalar(connection, "SELECT last_archived_wal FROM pg_stat_archiver")
        assert WalArchive(max_pending_segments=0).reason(connection, TABLE) is None


def test_a_standby_is_not_asked_for_its_archive(archiving):
    archiving.open_archive()
    (archiving.data / "standby.signal").touch()
    with archiving.restarted() as standby:
        assert scalar(standby, "SELECT pg_is_in_recovery() AND current_setting('archive_mode') = 'on'")
        assert WalArchive(max_pending_segments=0).reason(standby, TABLE) is None


# --- Replicas -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replicated:
    """A server and its replica, by their URLs."""

    url: str
    standby_url: str

    def delay(self, time: str) -> None:
        """Let the replica replay each transaction so much later."""
        with connect(self.standby_url) as standby:
            standby.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = '{time}'")
            standby.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def replicated(made_server):
    """A server whose replica is an hour late."""
    with copy_of(made_server) as server:
        url, programs = server.start().url, server._programs()
        data, port = server.status().data_directory.with_name("standby"), postmaster.bindable_port(0)
        source = ["-d", make_conninfo(url, application_name="far_away"), "--write-recovery-conf"]
        programs.run("pg_basebackup", "-D", str(data), *source, "--checkpoint=fast", "--no-sync")
        configure(data, "recovery_min_apply_delay = 1h", "wal_receiver_status_interval = 1", "fsync = off")
        options, log = f"-h {postmaster.HOST} -p {port} -k ''", data.with_suffix(".log")
        postmaster.start(data, log=log, programs=programs, options=options, timeout_seconds=60)
        yield Replicated(url, make_conninfo(url, port=port))
        postmaster.stop(data, programs=programs, timeout_seconds=60)


@pytest.fixture
def primary(replicated):
    with connect(replicated.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS written (id bigint)")
        yield connection


def late(primary, seconds):
    """Write until a replica is late by more than this."""

    def ask():
        primary.execute("INSERT INTO written VALUES (1)")
        return ReplicaLag(max_seconds=seconds).reason(primary, TABLE)

    return until(ask)


def test_a_late_replica_is_named(primary):
    reason = late(primary, 0.05)
    assert re.fullmatch(r"Replica far_away at 127\.0\.0\.1 is \d+\.\d s behind; the limit is 0\.05 s\.", reason)
    assert ReplicaLag(max_seconds=3600).reason(primary, TABLE) is None


def test_a_role_that_may_not_see_lags_is_told_of_none(primary):
    primary.execute("CREATE ROLE ordinary LOGIN PASSWORD 'ordinary'")
    with connect(primary.info.dsn, user="ordinary", password="ordinary") as ordinary:
        late(primary, 0)
        assert ReplicaLag(max_seconds=0).reason(ordinary, TABLE) is None
        primary.execute("GRANT pg_monitor TO ordinary")
        assert "far_away" in ReplicaLag(max_seconds=0).reason(ordinary, TABLE)


def test_a_replica_that_has_caught_up_is_not_late(primary, replicated):
    late(primary, 0)
    replicated.delay("0")
    until(lambda: ReplicaLag(max_seconds=0).reason(primary, TABLE) is None)
    assert scalar(primary, "SELECT count(*) FROM pg_stat_replication") == 1
    replicated.delay("1h")


@pytest.fixture
def received(server):
    """A server whose log is received and only stored."""
    url, programs = server.start().url, server._programs()
    directory = server.status().data_directory.with_name("stored")
    directory.mkdir()
    programs.give(directory)
    account = programs.account
    process = subprocess.Popen(
        [programs.directory / "pg_receivewal", "-D", directory, "--status-interval=1", "-d", url],
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
        **({"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}),
    )
    with connect(url) as connection:
        yield connection
    process.terminate()
    process.wait(timeout=60)


def test_whoever_only_stores_the_log_is_no_replica(received):
    until(lambda: scalar(received, "SELECT count(*) FROM pg_stat_replication"))
    received.execute("CREATE TABLE written (id bigint)")
    until(lambda: scalar(received, "SELECT count(*) FROM pg_stat_replication WHERE replay_lag > '0.1 s'"))
    assert ReplicaLag(max_seconds=0).reason(received, TABLE) is None


# --- The table itself ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sessions:
    """Sessions of a database's owner, each with one statement that does not end."""

    database: Database
    opened: list[psycopg.Connection]

    def run(self, *statements: str) -> psycopg.Connection:
        """Run all but the last to their ends, and leave the last one running."""
        session = connect(self.database.url, options=SLOWLY)
        self.opened.append(session)
        for statement in statements[:-1]:
            session.execute(statement)
        session.pgconn.send_query(statements[-1].encode())
        return session

    def vacuum(self, table: str) -> None:
        pid = self.run(f"VACUUM {table}").info.backend_pid
        query = f"SELECT count(*) FROM pg_stat_progress_vacuum WHERE pid = {pid}"
        with self.database.connect() as connection:
            until(lambda: scalar(connection, query))

    def wait(self, *statements: str) -> None:
        pid = self.run(*statements).info.backend_pid
        query = f"SELECT cardinality(pg_blocking_pids({pid}))"
        with self.database.connect() as connection:
            until(lambda: scalar(connection, query))


@pytest.fixture
def sessions(scratch_database):
    with scratch_database.connect() as connection:
        connection.execute(TABLES)
    sessions = Sessions(scratch_database, [])
    yield sessions
    for session in sessions.opened:
        session.cancel()
        session.close()


@pytest.fixture
def ordinary(scratch_database):
    """A role that owns nothing and is member of nothing, connected."""
    with scratch_database.connect() as connection:
        connection.execute("CREATE ROLE ordinary LOGIN PASSWORD 'ordinary'")
        with connect(scratch_database.url, user="ordinary", password="ordinary") as session:
            yield session
        connection.execute("DROP ROLE ordinary")


def test_a_vacuum_of_the_table_is_seen_by_an_ordinary_role(sessions, ordinary):
    sessions.vacuum("plain")
    assert scalar(ordinary, "SELECT relid FROM pg_stat_progress_vacuum") is None
    pid = sessions.opened[0].info.backend_pid
    expected = f"A vacuum of public.plain is at work (process {pid})."
    assert Vacuum().reason(ordinary, ("public", "plain")) == expected


def test_a_vacuum_of_a_partition_in_another_schema_is_one_of_the_table(sessions, ordinary):
    sessions.vacuum("far.quarter")
    for table in [TABLE, ("far", "half"), ("far", "quarter")]:
        assert Vacuum().reason(ordinary, table).startswith("A vacuum of far.quarter is at work")


def test_a_vacuum_of_another_table_does_not_count(sessions, ordinary):
    sessions.vacuum("far.target")
    assert Vacuum().reason(ordinary, TABLE) is None


def test_the_same_table_of_another_database_does_not_count(sessions, scratch_database, create_database):
    # A copy, so that its tables have the same numbers.
    copy = create_database(template=scratch_database.url.rpartition("/")[2])
    sessions.vacuum("plain")
    sessions.run("BEGIN", "LOCK TABLE far.target")
    sessions.wait("SELECT FROM far.target")
    with copy.connect() as connection:
        assert Vacuum().reason(connection, ("public", "plain")) is None
        assert LockWaiters().reason(connection, ("far", "target")) is None
    drop(copy)


def test_others_that_lock_as_a_vacuum_does_are_none(sessions, ordinary, scratch_database):
    sessions.run("ANALYZE plain")
    with scratch_database.connect() as connection:
        until(lambda: scalar(connection, "SELECT count(*) FROM pg_stat_progress_analyze"))
        assert scalar(connection, "SELECT count(*) FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock'")
    assert Vacuum().reason(ordinary, ("public", "plain")) is None


def test_the_server_s_own_vacuum_counts(primary):
    primary.execute(
        "CREATE TABLE target (id bigint) WITH (autovacuum_vacuum_threshold = 0, "
        "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
    )
    primary.execute("INSERT INTO target SELECT generate_series(1, 5000)")
    primary.execute("DELETE FROM target WHERE id % 2 = 0")
    primary.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
    primary.execute("SELECT pg_reload_conf()")
    assert until(lambda: Vacuum().reason(primary, TABLE)).startswith("A vacuum of public.target is at work")


def test_sessions_that_wait_for_the_table_or_a_partition_are_counted(sessions, ordinary):
    sessions.run("BEGIN", "LOCK TABLE target")
    sessions.wait("SELECT FROM ONLY target")
    sessions.wait("SELECT FROM far.quarter")
    expected = "The number of sessions that wait for a lock on public.target or its partitions is 2; the limit is 0."
    assert LockWaiters().reason(ordinary, TABLE) == expected
    assert " is 2; the limit is 1." in LockWaiters(max_waiters=1).reason(ordinary, TABLE)
    assert LockWaiters(max_waiters=2).reason(ordinary, TABLE) is None
    assert " is 1; " in LockWaiters().reason(ordinary, ("far", "quarter"))


def test_sessions_that_wait_for_a_row_are_counted(sessions, ordinary):
    change = "UPDATE target SET id = id WHERE id = 7"
    sessions.run("BEGIN", change, "SELECT pg_sleep(60)")
    for count in [1, 2, 3]:
        sessions.wait(change)
        assert f" is {count}; " in LockWaiters().reason(ordinary, TABLE)


def test_a_session_that_skips_locked_rows_waits_for_none(sessions, ordinary):
    sessions.run("BEGIN", "UPDATE plain SET id = id", "SELECT pg_sleep(60)")
    sessions.run("DO $$ BEGIN LOOP PERFORM FROM plain FOR UPDATE SKIP LOCKED; END LOOP; END $$")
    until(lambda: scalar(ordinary, "SELECT count(*) FROM pg_locks WHERE locktype = 'tuple'"))
    for _ in range(100):
        assert LockWaiters().reason(ordinary, ("public", "plain")) is None


def test_sessions_that_wait_for_another_table_do_not_count(sessions, ordinary):
    change = "UPDATE far.target SET id = id WHERE id = 7"
    sessions.run("BEGIN", "LOCK TABLE plain", change, "SELECT pg_sleep(60)")
    sessions.wait(change)
    # It has a lock on the table, but the one that it waits for is elsewhere.
    sessions.wait("BEGIN", "UPDATE target SET id = id WHERE id = 7", "SELECT FROM plain")
    assert LockWaiters().reason(ordinary, TABLE) is None


@pytest.mark.parametrize("table", [("public", "missing"), ("missing", "target")])
def test_a_table_that_is_not_there_throttles_nothing(ordinary, table):
    assert Vacuum().reason(ordinary, table) is None
    assert LockWaiters().reason(ordinary, table) is None


# --- Whatever else ------------------------------------------------------------------------------------------------


def test_the_hook_s_text_is_the_reason_and_no_text_is_none():
    answers = {"public.target": "The nightly report runs.", "public.plain": ""}
    hook = Hook(answers.get)
    assert hook.reason(None, TABLE) == "The nightly report runs."
    assert hook.reason(None, ("public", "plain")) is None
    assert hook.reason(None, ("public", "other")) is None


def test_a_hook_that_fails_throttles():
    failing = Hook({}.__getitem__)
    assert failing.reason(None, TABLE) == "The throttling hook failed: KeyError('public.target')."


def test_the_first_signal_that_says_no_is_told_by_its_name(sessions, ordinary):
    sessions.vacuum("plain")
    signals = [LockWaiters(), Vacuum(), Hook(lambda table: "Never asked.")]
    assert Lookout(signals).throttled(ordinary, ("public", "plain")) == Throttled(
        "autovacuum", Vacuum().reason(ordinary, ("public", "plain"))
    )
    assert Lookout(signals[:2]).throttled(ordinary, TABLE) is None


def test_the_names_of_the_signals_are_stable():
    signals = [WalArchive(), ReplicaLag(), Vacuum(), LockWaiters(), Hook(str)]
    names = ["wal_archive", "replica_lag", "autovacuum", "lock_waiters", "hook"]
    assert [signal.name for signal in signals] == names


def test_that_nothing_is_in_the_way_holds_for_a_moment_and_a_refusal_for_none():
    answers, now = [None, "busy", "busy", None], [100.0]
    lookout = Lookout([Hook(lambda _table: answers.pop(0))], fresh_seconds=1.0, clock=lambda: now[0])
    said = []
    for moment in (100.0, 100.9, 101.0, 101.0, 101.1, 101.2):
        now[0] = moment
        said.append(lookout.throttled(None, TABLE) is not None)
    assert said == [False, False, True, True, False, False]
    assert answers == []
