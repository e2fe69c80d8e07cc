"""`manage.py migrate`: Django's tables in one database, our control tables in the same one or in GitLab's."""

import io
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.migrations.loader import MigrationLoader
from psycopg import sql

from registry_project.control_tables import ensure_control_tables
from registry_project.migrate_lock import LOCK_KEY
from registry_project.routers import REGISTRY_APPS
from tests.conftest import Database, drop
from tests.waiting import until

OF_IMPORTS = ["import_batches", "import_items", "import_leases", "import_runs", "import_skips"]
CONTROL_TABLES = [
    "background_migration_controls",
    "background_migration_events",
    "background_migration_job_progress",
    "django_migrations",
    *OF_IMPORTS,
]
APPS = {"background_migrations", "metadata_import"}
IN_SCHEMA = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('registry_admin') AND relkind = 'r'"
# Whatever has a name, with the schema it is in. Control tables have TOAST tables of their own, as all tables.
NAMED = """
    SELECT relnamespace::regnamespace::text, 'relation ' || relname FROM pg_class
    UNION ALL SELECT relnamespace::regnamespace::text, 'column ' || relname || '.' || attname
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    UNION ALL SELECT relnamespace::regnamespace::text, 'trigger ' || relname || '.' || tgname
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    UNION ALL SELECT connamespace::regnamespace::text, 'constraint ' || conname FROM pg_constraint
    UNION ALL SELECT typnamespace::regnamespace::text, 'type ' || typname FROM pg_type
    UNION ALL SELECT pronamespace::regnamespace::text, 'function ' || proname FROM pg_proc
    UNION ALL SELECT nspname, 'schema' FROM pg_namespace
    UNION ALL SELECT '', 'extension ' || extname FROM pg_extension
    UNION ALL SELECT '', 'event trigger ' || evtname FROM pg_event_trigger
"""
OURS = {"registry_admin", "pg_toast"}
# Everything that was made, by its number, with its privileges, and what depends on it.
MADE = """
    SELECT 'relation', oid::text, concat_ws(' ', relname, relkind, relhastriggers, relacl) FROM pg_class
    UNION ALL SELECT 'column', attrelid::text, concat_ws(' ', attname, atttypid, attisdropped) FROM pg_attribute
    UNION ALL SELECT 'schema', oid::text, concat_ws(' ', nspname, nspacl) FROM pg_namespace
    UNION ALL SELECT 'dependency', concat_ws(' ', classid, objid, objsubid), concat_ws(' ', refclassid, refobjid)
        FROM pg_depend
    UNION ALL SELECT 'default privileges', oid::text, defaclacl::text FROM pg_default_acl
    UNION ALL SELECT 'comment', concat_ws(' ', classoid, objoid), description FROM pg_description
"""
RECORDS = """
    SELECT id FROM schema_migrations UNION ALL SELECT id FROM post_deploy_schema_migrations
    UNION ALL SELECT name || status FROM batched_background_migrations
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def empty(create_database):
    """A second empty database."""
    database = create_database()
    yield database
    drop(database)


def start(default, *arguments, registry=None, **environment):
    """Start a command of its own process; a registry's database apart is GitLab's."""
    if registry is not None:
        environment |= {
            "REGISTRY_DATABASE_URL": registry.url,
            "REGISTRY_SCHEMA_OWNER": "gitlab",
            "REGISTRY_VERSION": "v4.32.0-gitlab",
        }
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        env={**os.environ, "DATABASE_URL": default.url, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def manage(*arguments, **where):
    """Run a command in a process of its own; return exit code, output and errors."""
    process = start(*arguments, **where)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def rows(database, query):
    with database.connect() as connection:
        return connection.execute(query).fetchall()


def counted(database, query):
    return Counter(rows(database, query))


def control_tables(database):
    return sorted(name for (name,) in rows(database, IN_SCHEMA))


def recorded(database, schema="registry_admin"):
    return {app for (app,) in rows(database, f"SELECT app FROM {schema}.django_migrations")}


def wait_for(connection, query, count):
    """Wait until a query counts so many."""
    until(lambda: connection.execute(query).fetchone() == (count,))


# --- As it is typed -----------------------------------------------------------------------------------------------


def test_one_database_gets_both_and_each_has_its_record(scratch_database):
    code, out, err = manage(scratch_database, "migrate")
    assert (code, err) == (0, "")
    assert out.index("Database default:") < out.index("Database registry, schema registry_admin:")
    assert control_tables(scratch_database) == CONTROL_TABLES
    assert recorded(scratch_database) == APPS
    assert {"auth", "sessions"} < recorded(scratch_database, "public")
    code, out, err = manage(scratch_database, "migrate")
    assert (code, err, out.count("No migrations to apply.")) == (0, "", 2)


def test_in_gitlab_s_database_nothing_lands_outside_our_schema(scratch_database, gitlab):
    before, records = counted(gitlab, NAMED), rows(gitlab, RECORDS)
    assert manage(scratch_database, "migrate", registry=gitlab)[0] == 0
    after = counted(gitlab, NAMED)
    assert before - after == Counter()
    assert {schema for schema, _ in after - before} == OURS
    assert rows(gitlab, RECORDS) == records
    assert control_tables(gitlab) == CONTROL_TABLES
    assert recorded(gitlab) == APPS
    assert "auth" in recorded(scratch_database, "public")
    assert control_tables(scratch_database) == []


def test_dropping_our_schema_leaves_gitlab_s_database_as_it_was(scratch_database, gitlab):
    before = counted(gitlab, MADE)
    assert manage(scratch_database, "migrate", registry=gitlab)[0] == 0
    assert counted(gitlab, MADE) != before
    with gitlab.connect() as connection:
        connection.execute("DROP SCHEMA registry_admin CASCADE")
    assert counted(gitlab, MADE) == before
    assert manage(scratch_database, "migrate", "--check", registry=gitlab)[0] == 1
    assert manage(scratch_database, "migrate", registry=gitlab)[0] == 0
    assert control_tables(gitlab) == CONTROL_TABLES


def test_two_at_once_run_one_after_the_other(scratch_database):
    with scratch_database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s, %s)", LOCK_KEY)
        both = [start(scratch_database, "migrate") for _ in range(2)]
        wait_for(holder, WAITING, 2)
        holder.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK_KEY)
    ended = [(*process.communicate(timeout=60), process.returncode) for process in both]
    assert [(err, code) for _, err, code in ended] == [("", 0), ("", 0)]
    outputs = "".join(out for out, *_ in ended)
    assert outputs.count("No migrations to apply.") == 2
    assert outputs.count("Applying background_migrations.0001_initial... OK") == 2
    assert control_tables(scratch_database) == CONTROL_TABLES


@contextmanager
def stopped_in_the_middle(database):
    """Start `migrate` and let it come to its last table, which another transaction has half made."""
    with database.connect() as blocker, database.connect() as observer:
        blocker.execute("CREATE SCHEMA registry_admin")
        blocker.execute("BEGIN; CREATE TABLE registry_admin.background_migration_job_progress ()")
        process = start(database, "migrate", "--database", "registry", REGISTRY_SCHEMA_LOCK_TIMEOUT="60")
        try:
            wait_for(observer, WAITING, 1)
            yield process
        finally:
            process.kill()
            process.communicate()
            blocker.execute("ROLLBACK")
            wait_for(observer, OTHERS, 1)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_an_end_in_the_middle_leaves_nothing_half_done(scratch_database, number, code):
    with stopped_in_the_middle(scratch_database) as process:
        process.send_signal(number)
        assert process.wait(timeout=60) == code
    assert control_tables(scratch_database) == []
    assert manage(scratch_database, "migrate", "--database", "registry")[0] == 0
    assert control_tables(scratch_database) == CONTROL_TABLES


@pytest.mark.parametrize("command", ["migrate", "showmigrations"])
@pytest.mark.parametrize("name", ["default", "registry"])
def test_a_server_that_is_away_is_one_line(command, name):
    away = Database("postgres://nobody@127.0.0.1:1/none")
    code, _, err = manage(away, command, "--database", name)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"CommandError: Database {name}: ")


# --- In this process: what each option does -----------------------------------------------------------------------


@pytest.fixture
def both(scratch_database, empty, monkeypatch, django_db_blocker):
    """Two empty databases behind the aliases `default` and `registry`."""
    for name, database in (("default", scratch_database), ("registry", empty)):
        monkeypatch.setitem(connections[name].settings_dict, "NAME", database.url.rpartition("/")[2])
        connections[name].close()
    with django_db_blocker.unblock():
        yield scratch_database, empty
        connections.close_all()


def run(*arguments, **options):
    """Run a command and return its output and exit code."""
    out, code = io.StringIO(), 0
    try:
        call_command(*arguments, stdout=out, no_color=True, **options)
    except SystemExit as end:
        code = end.code
    return out.getvalue(), code


def refusal(*arguments):
    """Run a command that must end with one line; return that."""
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    (line,) = str(caught.value).splitlines()
    return line


def test_permissions_of_the_control_models_are_in_default_alone(both):
    run("migrate")
    found = rows(both[0], "SELECT codename FROM auth_permission WHERE codename LIKE '%\\_control'")
    assert {name for (name,) in found} == {"add_control", "change_control", "delete_control", "view_control"}
    assert control_tables(both[1]) == CONTROL_TABLES
    assert rows(both[1], "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []


def test_a_second_run_changes_nothing(both):
    run("migrate")
    before = [counted(database, MADE) for database in both]
    assert run("migrate")[0].count("No migrations to apply.") == 2
    assert [counted(database, MADE) for database in both] == before


def test_the_control_tables_go_and_come_back(both):
    run("migrate")
    run("migrate", "background_migrations", "zero")
    assert control_tables(both[1]) == ["django_migrations", *OF_IMPORTS]
    assert recorded(both[1]) == {"metadata_import"}
    run("migrate", "background_migrations", "0001")
    assert control_tables(both[1]) == CONTROL_TABLES


def test_a_named_database_is_migrated_alone(both):
    assert "Database default" not in run("migrate", "--database", "registry")[0]
    assert control_tables(both[1]) == CONTROL_TABLES
    assert rows(both[0], "SELECT to_regclass('django_migrations')") == [(None,)]
    assert "Database registry" not in run("migrate", "--database", "default")[0]


def test_an_app_of_django_s_is_migrated_in_default_alone(both):
    assert "Database registry" not in run("migrate", "auth")[0]
    assert control_tables(both[1]) == []
    line = refusal("migrate", "--database", "registry", "auth")
    assert line == "App 'auth' has no tables in database registry; leave --database out."


@pytest.mark.parametrize("command", ["migrate", "showmigrations"])
def test_no_other_database_can_be_named(command):
    assert "invalid choice: 'rails'" in refusal(command, "--database", "rails")


def test_fake_records_and_makes_nothing(both):
    assert "FAKED" in run("migrate", "--fake")[0]
    assert control_tables(both[1]) == ["django_migrations"]
    assert recorded(both[1]) == APPS


def test_verbosity_0_is_silent(both):
    assert run("migrate", "--check", verbosity=0) == ("", 1)
    assert run("migrate", verbosity=0) == ("", 0)


@pytest.mark.parametrize("arguments", [["--check"], ["--plan"], ["--plan", "--check"]])
def test_looking_changes_nothing_and_check_answers_by_its_exit_code(both, arguments):
    before = [counted(database, MADE) for database in both]
    out, code = run("migrate", *arguments)
    assert code == int("--check" in arguments)
    assert out.count("Create model Control") == 2 * ("--plan" in arguments)
    assert ("Unapplied migrations in default and registry.\n" in out) == ("--check" in arguments)
    assert [counted(database, MADE) for database in both] == before


@pytest.mark.parametrize(("done", "other"), [("default", "registry"), ("registry", "default")])
def test_check_fails_when_either_database_lacks_something(both, done, other):
    run("migrate", "--database", done)
    assert run("migrate", "--check") == (f"Unapplied migrations in {other}.\n", 1)
    run("migrate", "--database", other)
    assert run("migrate", "--check") == ("", 0)


def test_showmigrations_lists_each_app_where_its_tables_are(both):
    run("migrate", "--database", "default")
    default, registry = run("showmigrations")[0].split("Database registry, schema registry_admin:\n")
    assert "[X] 0001_initial" in default
    assert "background_migrations" not in default
    assert registry == (
        "background_migrations\n [ ] 0001_initial\n [ ] 0002_pages\n [ ] 0003_correlation\n"
        "metadata_import\n [ ] 0001_initial\n [ ] 0002_report_and_reasons\n [ ] 0003_distributed\n"
    )
    run("migrate", "--database", "registry")
    out, _ = run("showmigrations", "background_migrations", "sessions")
    assert [line.split()[-1] for line in out.splitlines() if "Database" not in line] == [
        *("sessions", "0001_initial", "background_migrations", "0001_initial", "0002_pages", "0003_correlation")
    ]
    assert "[X]  background_migrations.0001_initial\n" in run("showmigrations", "--plan", database="registry")[0]


# --- Refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "registry"])
def test_who_waits_too_long_for_another_gives_up(both, settings, name):
    settings.SCHEMA_MIGRATOR_WAIT_SECONDS = 0
    database = both[["default", "registry"].index(name)]
    with database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s, %s)", LOCK_KEY)
        assert f"Database {name}: Another migrate is at work there" in refusal("migrate", "--database", name)
    assert run("migrate")[1] == 0


def test_a_table_in_use_ends_it_after_the_lock_timeout(both, settings):
    settings.SCHEMA_LOCK_TIMEOUT_SECONDS = 0.1
    run("migrate", "--database", "registry")
    with both[1].connect() as holder:
        holder.execute("BEGIN; LOCK registry_admin.background_migration_events IN ACCESS SHARE MODE")
        line = refusal("migrate", "background_migrations", "zero", "--database", "registry")
    assert "lock timeout Nothing was changed there." in line
    assert control_tables(both[1]) == CONTROL_TABLES


@pytest.fixture
def role(both, monkeypatch):
    """A role that may log in and no more, used for `registry`."""
    name = f"role_of_{both[1].url.rpartition('/')[2]}"
    with both[1].connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(name)))
    with monkeypatch.context() as patch:
        patch.setitem(connections["registry"].settings_dict, "USER", name)
        patch.setitem(connections["registry"].settings_dict, "PASSWORD", "secret")
        yield sql.Identifier(name)
        connections["registry"].close()
    with both[1].connect() as connection:
        connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(name)))


def prepare(database, statement, role=None):
    with database.connect() as connection:
        connection.execute(sql.SQL(statement).format(role))


def test_a_role_that_may_not_create_the_schema_is_told(both, role):
    assert "grant it CREATE on database" in refusal("migrate")


@pytest.mark.parametrize("command", ["migrate", "showmigrations"])
def test_a_role_that_may_not_use_the_schema_is_told(both, role, command):
    prepare(both[1], "CREATE SCHEMA registry_admin")
    assert "grant it USAGE and CREATE on schema registry_admin" in refusal(command, "--database", "registry")


def test_a_role_that_may_not_create_tables_is_told(both, role):
    prepare(both[1], "CREATE SCHEMA registry_admin; GRANT USAGE ON SCHEMA registry_admin TO {}", role)
    assert "permission denied for schema registry_admin" in refusal("migrate", "--database", "registry")


def test_a_schema_of_its_own_is_all_that_a_role_needs(both, role):
    prepare(both[1], "CREATE SCHEMA registry_admin AUTHORIZATION {}", role)
    assert run("migrate", "--database", "registry")[1] == 0
    assert control_tables(both[1]) == CONTROL_TABLES


def test_a_role_that_may_only_read_is_enough_when_nothing_is_to_be_done(both, role, monkeypatch):
    with monkeypatch.context() as patch:
        for key in ("USER", "PASSWORD"):
            patch.setitem(connections["registry"].settings_dict, key, connections["default"].settings_dict[key])
        run("migrate", "--database", "registry")
        connections["registry"].close()
    prepare(both[1], "GRANT USAGE ON SCHEMA registry_admin TO {}", role)
    prepare(both[1], "GRANT SELECT ON ALL TABLES IN SCHEMA registry_admin TO {}", role)
    assert "No migrations to apply." in run("migrate", "--database", "registry")[0]
    assert run("migrate", "--check", "--database", "registry") == ("", 0)


# --- For other commands -------------------------------------------------------------------------------------------


def test_ensuring_makes_what_is_missing_and_prints_nothing(both, capsys):
    for _ in range(2):
        ensure_control_tables()
        assert control_tables(both[1]) == CONTROL_TABLES
    assert capsys.readouterr() == ("", "")


def test_ensuring_leaves_the_path_and_the_settings_as_they_were(both, settings):
    before = settings.MIGRATION_MODULES
    ensure_control_tables()
    assert settings.MIGRATION_MODULES is before
    with connections["registry"].cursor() as cursor:
        cursor.execute("SHOW search_path")
        assert cursor.fetchone() == ('"$user", public',)


def test_ensuring_refuses_inside_a_transaction(both):
    with transaction.atomic("registry"), pytest.raises(RuntimeError):
        ensure_control_tables()
    assert control_tables(both[1]) == []


def test_ensuring_fails_in_one_line(both, monkeypatch):
    monkeypatch.setitem(connections["registry"].settings_dict, "NAME", "no_such_database")
    with pytest.raises(CommandError) as caught:
        ensure_control_tables()
    assert "\n" not in str(caught.value)


def test_migrations_of_the_control_tables_all_allow_a_transaction():
    found = [each for key, each in MigrationLoader(None).disk_migrations.items() if key[0] in REGISTRY_APPS]
    assert [migration for migration in found if not migration.atomic] == []


@pytest.mark.usefixtures("committed_db")
def test_the_tests_own_database_has_the_control_tables():
    with connections["registry"].cursor() as cursor:
        cursor.execute(IN_SCHEMA)
        assert {name for (name,) in cursor.fetchall()} > set(CONTROL_TABLES)
    assert run("migrate", "--check") == ("", 0)
