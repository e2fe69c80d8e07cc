"""The migrator on a real server: what commits together, who waits for whom, and what survives a fault."""

import threading
from dataclasses import replace

import psycopg
import pytest
from django.db import Error as DatabaseError

from schema_migrations.errors import (
    BlockedMigrationError,
    GitLabDatabaseError,
    InsufficientPrivilegeError,
    InvalidIndexError,
    MigrationFailedError,
    MigratorBusyError,
    NotRecordedError,
    PlanChangedError,
    ReadOnlyServerError,
    UnfinishedBackgroundMigrationsError,
    UnsupportedServerError,
)
from schema_migrations.journal import Author
from schema_migrations.locks import LOCK_KEY
from schema_migrations.migrator import BackgroundOutcome, Migrator
from schema_migrations.planner import Selection
from schema_migrations.preflight import check_version
from schema_migrations.runner import LOCK_ATTEMPTS, Limits
from tests.databases import throwaway_server
from tests.fakes import RecordingReporter
from tests.schema_migrations.declared import POST, known

A, B, X = known(1, "a"), known(2, "b"), known(3, "x", POST)
ALL = Selection()
QUICK = Limits(lock_timeout=0.3, migrator_wait=20, retry_pause=0.05)


@pytest.fixture
def connection(scratch_database):
    with scratch_database.connect() as connection:
        yield connection


@pytest.fixture
def migrator(scratch_database, connection):
    def build(*migrations, **changes):
        plain = Migrator(
            connection=connection,
            connect=scratch_database.connect,
            known=migrations,
            author=Author(actor="someone@somewhere", release="1.2.3"),
            reporter=RecordingReporter(),
            limits=QUICK,
        )
        return replace(plain, **changes)

    return build


def rows(connection, query):
    return connection.execute(query).fetchall()


def tables(connection):
    return [
        name for (name,) in rows(connection, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    ]


def recorded(connection):
    query = "SELECT id FROM schema_migrations UNION ALL SELECT id FROM post_deploy_schema_migrations ORDER BY 1"
    return [id_ for (id_,) in rows(connection, query)]


# --- Up and down --------------------------------------------------------------------------------------------------


def test_up_applies_and_records_each_phase_in_its_table(migrator, connection):
    result = migrator(A, B, X).up(ALL)
    assert [step.known.id for step in result.steps] == [A.id, B.id, X.id]
    assert rows(connection, "SELECT id, applied_at <= now() FROM schema_migrations ORDER BY id") == [
        (A.id, True),
        (B.id, True),
    ]
    assert rows(connection, "SELECT id FROM post_deploy_schema_migrations") == [(X.id,)]
    assert tables(connection) == ["a", "b", "post_deploy_schema_migrations", "schema_migrations", "x"]


def test_a_second_up_does_nothing(migrator):
    migrator(A, B).up(ALL)
    assert migrator(A, B).up(ALL).steps == ()


def test_the_journal_says_who_what_and_how_long(migrator, connection):
    migrator(A).up(ALL)
    columns = "migration_id, phase, direction, checksum, release, actor, duration_seconds >= 0"
    query = f"SELECT {columns} FROM registry_admin.schema_journal"
    assert rows(connection, query) == [(A.id, "pre-deployment", "up", A.checksum, "1.2.3", "someone@somewhere", True)]


def test_down_undoes_known_migrations_and_leaves_unknown_ones(migrator, connection):
    migrator(A, B, X).up(ALL)
    connection.execute("INSERT INTO schema_migrations VALUES ('99999999999999_unknown', now())")
    undoing = migrator(A, B, X)
    undoing.down(ALL, confirmed=undoing.plan_down(ALL))
    assert recorded(connection) == ["99999999999999_unknown"]
    assert tables(connection) == ["post_deploy_schema_migrations", "schema_migrations"]
    directions = rows(connection, "SELECT direction FROM registry_admin.schema_journal ORDER BY id")
    assert directions == [("up",)] * 3 + [("down",)] * 3


def test_down_refuses_a_plan_that_is_no_longer_true(migrator, connection):
    migrator(A, B).up(ALL)
    undoing = migrator(A, B)
    confirmed = undoing.plan_down(Selection(1, 0))
    undoing.down(Selection(1, 0), confirmed=confirmed)
    with pytest.raises(PlanChangedError):
        undoing.down(Selection(1, 0), confirmed=confirmed)
    assert recorded(connection) == [A.id]


# --- Faults -------------------------------------------------------------------------------------------------------


def test_a_failing_migration_changes_nothing_and_those_before_it_stay(migrator, connection):
    bad = known(2, "bad", up=["CREATE TABLE bad (id bigint)", "SELECT nonsense"])
    with pytest.raises(MigrationFailedError, match='statement 2: column "nonsense" does not exist') as caught:
        migrator(A, bad, known(3, "c")).up(ALL)
    assert caught.value.migration_id == bad.id
    assert recorded(connection) == [A.id]
    assert "bad" not in tables(connection)
    assert "c" not in tables(connection)


def test_without_a_transaction_an_interrupted_migration_runs_again_from_its_start(migrator, connection):
    up = ["CREATE TABLE IF NOT EXISTS loose (id bigint)", "ALTER TABLE missing ADD COLUMN a int"]
    loose = known(1, "loose", up=up, transactional=False)
    with pytest.raises(MigrationFailedError):
        migrator(loose).up(ALL)
    assert recorded(connection) == []
    connection.execute("CREATE TABLE missing ()")
    migrator(loose).up(ALL)
    assert recorded(connection) == [loose.id]


def test_a_lost_connection_loses_only_the_migration_at_work(migrator, connection, scratch_database):
    suicidal = known(2, "suicidal", up=["SELECT pg_terminate_backend(pg_backend_pid())"])
    with pytest.raises(MigrationFailedError):
        migrator(A, suicidal).up(ALL)
    with scratch_database.connect() as other:
        assert recorded(other) == [A.id]
        assert migrator(A, B, connection=other).up(ALL).steps[0].known.id == B.id


def test_statement_timeout_ends_a_statement(migrator):
    slow = known(1, "slow", up=["SELECT pg_sleep(20)"], statement_timeout_seconds=0.2)
    with pytest.raises(MigrationFailedError, match="statement timeout"):
        migrator(slow).up(ALL)


@pytest.mark.parametrize("transactional", [True, False])
def test_timeouts_hold_for_the_migration_alone(migrator, connection, transactional):
    up = ["CREATE TABLE seen AS SELECT current_setting('lock_timeout'), current_setting('statement_timeout') AS b"]
    seen = known(1, "seen", up=up, transactional=transactional, lock_timeout_seconds=7, statement_timeout_seconds=9)
    migrator(seen).up(ALL)
    assert rows(connection, "SELECT * FROM seen") == [("7s", "9s")]
    assert rows(connection, "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')") == [
        ("0", "0")
    ]


def test_a_migration_that_ends_its_transaction_is_refused(migrator, connection):
    with pytest.raises(MigrationFailedError, match="statement 2: it ended the transaction"):
        migrator(known(1, "sly", up=["CREATE TABLE sly ()", "COMMIT", "SELECT 1"])).up(ALL)
    assert recorded(connection) == []


def test_nobody_to_watch_is_no_reason_to_fail(migrator, connection):
    def refuse():
        raise DatabaseError("too many connections")

    migrator(known(1, "slow", up=["SELECT pg_sleep(0.5)"]), connect=refuse).up(ALL)
    assert len(recorded(connection)) == 1


def test_down_refuses_a_record_in_the_table_of_the_other_phase(migrator, connection):
    migrator(A, X).up(ALL)
    connection.execute("INSERT INTO post_deploy_schema_migrations SELECT * FROM schema_migrations")
    connection.execute("DELETE FROM schema_migrations")
    undoing = migrator(A)
    with pytest.raises(NotRecordedError, match=A.id):
        undoing.down(ALL, confirmed=undoing.plan_down(ALL))
    assert "a" in tables(connection)


def test_a_role_s_own_schema_does_not_catch_the_records(migrator, connection):
    connection.execute("CREATE SCHEMA own; SET search_path = own, public")
    migrator(A).up(ALL)
    assert rows(connection, "SELECT id FROM public.schema_migrations") == [(A.id,)]
    assert rows(connection, "SELECT to_regclass('own.schema_migrations')") == [(None,)]


# --- One at a time ------------------------------------------------------------------------------------------------


def test_of_two_at_once_one_waits_names_the_holder_and_finds_nothing_to_do(migrator, scratch_database):
    slow = known(1, "slow", up=["SELECT pg_sleep(1.5)", "CREATE TABLE slow ()"])
    ready = threading.Event()

    class Ready(RecordingReporter):
        def planned(self, steps):
            ready.set()

    with scratch_database.connect() as first, scratch_database.connect() as second:
        first.execute("SET application_name = 'the first migrator'")
        thread = threading.Thread(target=migrator(slow, connection=first, reporter=Ready()).up, args=[ALL])
        thread.start()
        assert ready.wait(10)
        waiting = migrator(slow, connection=second)
        result = waiting.up(ALL)
        thread.join()
        assert result.steps == ()
        assert "the first migrator" in waiting.reporter.holders[0]
        assert recorded(second) == [slow.id]


def test_waiting_for_another_migrator_is_bounded(migrator, scratch_database):
    with scratch_database.connect() as holder:
        holder.execute("SET application_name = 'a stuck one'")
        holder.execute("SELECT pg_advisory_lock(%s, %s)", LOCK_KEY)
        with pytest.raises(MigratorBusyError, match="a stuck one"):
            migrator(A, limits=Limits(migrator_wait=0.6)).up(ALL)
        assert rows(holder, "SELECT to_regclass('a'), to_regclass('schema_migrations')") == [(None, None)]


def test_the_lock_is_let_go_after_a_failure(migrator, scratch_database):
    with pytest.raises(MigrationFailedError):
        migrator(known(1, "bad", up=["SELECT nonsense"])).up(ALL)
    with scratch_database.connect() as other:
        assert other.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK_KEY).fetchone() == (True,)


# --- Blocked ------------------------------------------------------------------------------------------------------


@pytest.fixture
def blocker(scratch_database):
    """A session that reads table `a` in a transaction it does not end."""
    with scratch_database.connect() as session:
        session.execute("SET application_name = 'a long report'")
        yield session


ALTER = known(2, "altered", up=["ALTER TABLE a ADD COLUMN extra int"], down=["ALTER TABLE a DROP COLUMN extra"])


def test_a_blocked_migration_gives_way_names_the_blocker_and_succeeds_later(migrator, blocker, connection):
    migrator(A).up(ALL)
    blocker.execute("BEGIN; SELECT * FROM a")
    attempts = []

    def sleep(seconds):
        attempts.append(seconds)
        if len(attempts) == 2:
            blocker.execute("COMMIT")

    blocked = migrator(A, ALTER, sleep=sleep)
    blocked.up(ALL)
    assert len(attempts) == 2
    assert "a long report" in blocked.reporter.blockers[0]
    assert "SELECT * FROM a" in blocked.reporter.blockers[0]
    assert recorded(connection) == [A.id, ALTER.id]


def test_a_migration_that_stays_blocked_ends_with_the_blocker_s_name(migrator, blocker, connection):
    migrator(A).up(ALL)
    blocker.execute("BEGIN; SELECT * FROM a")
    with pytest.raises(BlockedMigrationError, match="a long report") as caught:
        migrator(A, ALTER).up(ALL)
    assert caught.value.attempts == LOCK_ATTEMPTS
    assert recorded(connection) == [A.id]


# --- Indexes built concurrently -----------------------------------------------------------------------------------

INDEXED = known(
    2,
    "indexed",
    up=["CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a_id ON a (id)"],
    down=["DROP INDEX CONCURRENTLY IF EXISTS a_id"],
    transactional=False,
)


@pytest.mark.parametrize(
    ("table", "index"),
    [("a", "a_id"), ("partitions.a_p_0", "A_P_0_ID"), ("public.a", '"a-Id"'), ("ONLY partitions.a_p_0", "a_id")],
)
def test_an_interrupted_concurrent_index_is_built_anew(migrator, connection, table, index):
    bare = table.removeprefix("ONLY ")
    connection.execute(f"CREATE SCHEMA partitions; CREATE TABLE {bare} AS SELECT 1 AS id FROM generate_series(1, 2)")
    up = [f"CREATE UNIQUE INDEX\n CONCURRENTLY IF NOT EXISTS {index} ON {table} (id)"]
    indexed = known(2, "indexed", up=up, transactional=False)
    validity = f"SELECT indisvalid FROM pg_index WHERE indrelid = '{bare}'::regclass"
    with pytest.raises(MigrationFailedError, match="could not create unique index"):
        migrator(indexed).up(ALL)
    assert rows(connection, validity) == [(False,)]
    connection.execute(f"TRUNCATE {bare}")
    migrator(indexed).up(ALL)
    assert rows(connection, validity) == [(True,)]
    assert recorded(connection) == [indexed.id]


def test_a_concurrent_build_waits_for_old_snapshots_instead_of_starting_over(migrator, connection, blocker):
    migrator(A).up(ALL)
    blocker.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
    later = threading.Timer(4 * QUICK.lock_timeout, blocker.execute, ["COMMIT"])
    later.start()
    building = migrator(A, INDEXED)
    building.up(ALL)
    later.join()
    assert building.reporter.blockers == []
    assert "a long report" in building.reporter.seen[0]
    assert recorded(connection) == [A.id, INDEXED.id]


def test_a_migration_that_leaves_an_invalid_index_is_not_recorded(migrator, connection):
    migrator(A).up(ALL)
    spoil = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'a_id'::regclass"
    with pytest.raises(InvalidIndexError, match="a_id"):
        migrator(A, known(2, "spoilt", up=[*INDEXED.migration.up, spoil], transactional=False)).up(ALL)
    assert recorded(connection) == [A.id]


# --- Required background migrations -------------------------------------------------------------------------------


class Background:
    """Stands in for the background-migration engine: knows which names are unfinished."""

    def __init__(self, *unfinished):
        self.unfinished, self.calls = list(unfinished), []

    def __call__(self, names, *, run):
        self.calls.append((names, run))
        waiting = [name for name in self.unfinished if names is None or name in names]
        if not run:
            return BackgroundOutcome(unfinished=tuple(waiting))
        self.unfinished = [name for name in self.unfinished if name not in waiting]
        return BackgroundOutcome(completed=len(waiting))


NEEDY = known(5, "needy", required_background_migrations=["copy_ids"])


def test_unfinished_background_migrations_stop_an_upgrade_and_are_named(migrator, connection):
    migrator(A).up(ALL)
    with pytest.raises(UnfinishedBackgroundMigrationsError, match="background_migrate run copy_ids"):
        migrator(A, B, NEEDY, finish_background=Background("copy_ids", "other")).up(ALL)
    assert recorded(connection) == [A.id, B.id]


def test_finished_background_migrations_let_an_upgrade_pass(migrator, connection):
    migrator(A).up(ALL)
    migrator(A, NEEDY, finish_background=Background("other")).up(ALL)
    assert recorded(connection) == [A.id, NEEDY.id]


def test_a_fresh_database_runs_them_inline_and_all_others_at_the_end(migrator):
    background = Background("copy_ids", "other")
    result = migrator(A, NEEDY, finish_background=background).up(ALL)
    assert background.calls == [(["copy_ids"], True), (None, True)]
    assert result.background_completed == 2


def test_what_a_first_run_cannot_finish_at_its_end_is_said_and_stops_nothing(migrator, connection):
    def refuse(names, *, run):
        return BackgroundOutcome(3, ("copy_ids",))

    result = migrator(A, finish_background=refuse).up(ALL)
    assert (result.background_completed, result.background_unfinished) == (3, ("copy_ids",))
    assert recorded(connection) == [A.id]
    assert migrator(A, finish_background=refuse).up(ALL).background_unfinished == ()


def test_what_a_first_run_cannot_finish_and_a_migration_requires_stops_it(migrator, connection):
    def refuse(names, *, run):
        return BackgroundOutcome(0, tuple(names or ()))

    with pytest.raises(UnfinishedBackgroundMigrationsError, match="copy_ids"):
        migrator(A, NEEDY, finish_background=refuse).up(ALL)
    assert recorded(connection) == [A.id]


def test_an_interrupted_first_run_is_still_a_first_run(migrator):
    bad = known(4, "bad", up=["SELECT nonsense"])
    with pytest.raises(MigrationFailedError):
        migrator(A, bad, NEEDY).up(ALL)
    background = Background("copy_ids")
    migrator(A, NEEDY, finish_background=background).up(ALL)
    assert background.calls == [(["copy_ids"], True), (None, True)]
    migrator(A, NEEDY, known(6, "more"), finish_background=background).up(ALL)
    assert len(background.calls) == 2


def test_an_installation_ends_when_the_registry_is_in_use(migrator, connection):
    table = known(1, "repositories")
    migrator(table, X).up(Selection(None, 0))
    connection.execute("INSERT INTO repositories VALUES (1)")
    with pytest.raises(UnfinishedBackgroundMigrationsError):
        migrator(table, X, NEEDY, finish_background=Background("copy_ids")).up(ALL)


def test_a_requirement_that_nobody_can_check_is_refused(migrator):
    with pytest.raises(UnfinishedBackgroundMigrationsError):
        migrator(NEEDY).up(ALL)


# --- Servers that are refused -------------------------------------------------------------------------------------


def test_an_old_server_is_refused_with_both_versions(connection):
    with pytest.raises(UnsupportedServerError, match=r"PostgreSQL \d+\.\d+; 99 or newer"):
        check_version(connection, minimum=99)


def test_a_database_of_gitlab_s_is_refused_whatever_the_settings_say(migrator, connection):
    connection.execute("CREATE TABLE gc_blob_review_queue ()")
    with pytest.raises(GitLabDatabaseError, match="REGISTRY_SCHEMA_OWNER=gitlab"):
        migrator(A).up(ALL)
    assert tables(connection) == ["gc_blob_review_queue"]


def test_a_read_only_server_is_refused(migrator, connection, scratch_database):
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
    with (
        scratch_database.connect() as reading,
        pytest.raises(ReadOnlyServerError, match="default_transaction_read_only"),
    ):
        migrator(A, connection=reading).up(ALL)
    connection.execute("SET default_transaction_read_only = off")
    assert tables(connection) == []


def test_a_standby_is_refused(migrator):
    with throwaway_server() as server:
        (server.start().data_directory / "standby.signal").touch()
        server.stop()
        url = server.start().url
        with psycopg.connect(url, autocommit=True) as standby, pytest.raises(ReadOnlyServerError, match="a standby"):
            migrator(A, connection=standby).up(ALL)


@pytest.fixture
def stranger(scratch_database, connection):
    """A role that owns nothing, connected."""
    connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    with psycopg.connect(scratch_database.url, user="stranger", password="stranger", autocommit=True) as session:
        yield session
    connection.execute("DROP OWNED BY stranger; DROP ROLE stranger")


def test_a_role_without_privileges_is_refused_with_the_grant_it_lacks(migrator, connection, stranger):
    with pytest.raises(InsufficientPrivilegeError, match="CREATE on schema public"):
        migrator(A, connection=stranger).up(ALL)
    connection.execute("GRANT CREATE ON SCHEMA public TO stranger")
    with pytest.raises(InsufficientPrivilegeError, match="CREATE on database"):
        migrator(A, connection=stranger).up(ALL)
    assert tables(connection) == []
    connection.execute(f"GRANT CREATE ON DATABASE {connection.info.dbname} TO stranger")
    migrator(A, connection=stranger).up(ALL)
    assert recorded(connection) == [A.id]
