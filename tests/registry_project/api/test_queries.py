"""How many statements each route sends, as the server itself counts them: never more for more rows."""

from contextlib import contextmanager

import pytest
from django.db import connections

from background_migrations.status import Status
from tests.factories import BackgroundMigrationFactory, BackgroundMigrationJobFactory
from tests.registry_project.api.asking import ALL, MIGRATIONS, PRESENCE, STATISTICS, STATUS

pytestmark = pytest.mark.django_db(databases=["default", "registry", "rails"])
# Not work: what opens, ends and guards a transaction within the one of the test.
FRAME = ("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT", "SET ", "RESET")


@contextmanager
def statements():
    """Collect what the server says it was sent on the connections that routes use."""
    seen = []

    def note(diagnostic):
        message = diagnostic.message_primary or ""
        kind, _, text = message.partition(": ")
        if kind == "statement" or kind.startswith("execute"):
            seen.append(" ".join(text.split()))

    raw = []
    for alias in ("default", "registry", "rails"):
        connections[alias].ensure_connection()
        connection = connections[alias].connection
        if connection not in raw:
            raw.append(connection)
    for connection in raw:
        connection.execute("SET LOCAL client_min_messages = 'log'")
        connection.execute("SET LOCAL log_statement = 'all'")
        connection.add_notice_handler(note)
    try:
        yield seen
    finally:
        for connection in raw:
            connection.remove_notice_handler(note)
            connection.execute("SET LOCAL log_statement = 'none'")
    seen[:] = [text for text in seen if not text.upper().startswith(FRAME)]


def sent(ask, path, authorization, **extra):
    with statements() as seen:
        answer = ask(path, authorization, **extra)
    assert answer.status_code in (200, 401, 404, 405), answer.content
    return seen


def rows(count):
    migrations = BackgroundMigrationFactory.create_batch(count, running=True)
    for migration in migrations[:20]:
        BackgroundMigrationJobFactory.create_batch(3, background_migration=migration)
    return migrations[0]


def test_the_server_counts(ask, signer):
    with statements() as seen, connections["registry"].cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT %s", [2])
    assert len(seen) == 2


def test_the_status_is_read_in_one_statement(ask, signer):
    rows(3)
    ask(STATUS, signer.grant(*ALL))
    assert len(sent(ask, STATUS, signer.grant(*ALL))) == 1


def test_presence_and_refusals_send_none(ask, signer):
    migration = rows(1)
    for path in (PRESENCE, STATISTICS, STATUS, MIGRATIONS, f"{MIGRATIONS}{migration.pk}/", f"{MIGRATIONS}pause/"):
        for authorization in (None, "Bearer a.b.c", signer.bearer()):
            method = "POST" if "pause" in path else "GET"
            assert sent(ask, path, authorization, method=method) == []
    assert sent(ask, "/gitlab/v1/nothing/", signer.grant(*ALL)) == []
    assert sent(ask, STATISTICS, signer.grant(*ALL), method="POST") == []


@pytest.mark.parametrize("path", [MIGRATIONS, STATUS, STATISTICS, f"{MIGRATIONS}{{id}}/", f"{MIGRATIONS}{{id}}/jobs/"])
def test_more_rows_take_no_more_statements(ask, signer, path):
    migration = rows(2)
    path = path.format(id=migration.pk)
    few = len(sent(ask, path, signer.grant(*ALL)))
    rows(200)
    BackgroundMigrationJobFactory.create_batch(50, background_migration=migration)
    assert len(sent(ask, path, signer.grant(*ALL))) == few > 0


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_more_migrations_take_no_more_statements_to_move(ask, signer, verb):
    counts = []
    for count in (2, 40):
        status = {"pause": Status.ACTIVE, "resume": Status.PAUSED}[verb]
        BackgroundMigrationFactory.create_batch(count, status=int(status))
        counts.append(len(sent(ask, f"{MIGRATIONS}{verb}/", signer.grant(*ALL), method="POST")))
    assert counts[0] == counts[1] > 0
