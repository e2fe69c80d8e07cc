"""The control tables: our own, in the schema `registry_admin` of the registry's database, next to GitLab's tables.

Django's `migrate` makes them; what is here keeps it inside that schema, its record of applied migrations included.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connections, router, transaction
from django.db.backends.utils import CursorWrapper

from registry_project.errors import InsufficientPrivilegeError
from registry_project.gitlab_release import check_release
from registry_project.migrate_lock import limit_locks, wait_for_others

ALIAS = "registry"
SCHEMA = "registry_admin"

# The whole path, so that tables of public cannot be seen; for this transaction only, as a pooler demands.
SET_PATH = "SET LOCAL search_path = registry_admin"
FACTS = """
    SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE'),
        to_regnamespace('registry_admin') IS NOT NULL,
        has_schema_privilege(to_regnamespace('registry_admin')::oid, 'USAGE')
"""
# The schema migrator, under another lock, may create it in the same moment: then it is there as well.
CREATE_SCHEMA = """
    DO $do$ BEGIN
        CREATE SCHEMA registry_admin;
    EXCEPTION WHEN duplicate_schema OR unique_violation THEN
        NULL;
    END $do$
"""


def ensure_control_tables() -> None:
    """Make the control tables, or bring them up to date; where they are, change nothing. Prints nothing.

    All or nothing. Raises CommandError with one line; RuntimeError inside a transaction on the registry's database.
    """
    call_command("migrate", database=ALIAS, verbosity=0, interactive=False)


@contextmanager
def only_control_tables(*, change: bool) -> Iterator[None]:
    """Hold Django's migration machinery to the control tables, in one transaction on the registry's database.

    To change them makes the schema where it is missing and keeps others out until the end. Raises MigrateError, and
    OutdatedRegistryError before anything is made in a database of GitLab's that we cannot work on.
    """
    with transaction.atomic(ALIAS, durable=True), only_apps_of(ALIAS):
        with connections[ALIAS].cursor() as cursor:
            if change:
                check_release(connections[ALIAS].connection)
                wait_for_others(cursor, wait_seconds=settings.SCHEMA_MIGRATOR_WAIT_SECONDS)
                # Whoever waits for a table keeps all who come later from it.
                limit_locks(cursor, seconds=settings.SCHEMA_LOCK_TIMEOUT_SECONDS)
            _prepare_schema(cursor, create=change)
            cursor.execute(SET_PATH)
        yield


@contextmanager
def only_apps_of(alias: str) -> Iterator[None]:
    """Let Django find only the migrations of apps that have their tables in this database."""
    modules = settings.MIGRATION_MODULES
    labels = [app.label for app in apps.get_app_configs()]
    others = {label: None for label in labels if not router.allow_migrate(alias, label)}
    # Django has no argument for this; its own test runner does it in the same way.
    settings.MIGRATION_MODULES = {**modules, **others}
    try:
        yield
    finally:
        settings.MIGRATION_MODULES = modules


def _prepare_schema(cursor: CursorWrapper, *, create: bool) -> None:
    """Create the schema if asked to. Raises where PostgreSQL, in silence, would leave it out of the path."""
    cursor.execute(FACTS)
    ((role, database, may_create, exists, may_use),) = cursor.fetchall()
    if exists and not may_use:
        raise InsufficientPrivilegeError(role, privilege=f"USAGE and CREATE on schema {SCHEMA}")
    if create and not exists:
        if not may_create:
            raise InsufficientPrivilegeError(role, privilege=f"CREATE on database {database}")
        cursor.execute(CREATE_SCHEMA)
