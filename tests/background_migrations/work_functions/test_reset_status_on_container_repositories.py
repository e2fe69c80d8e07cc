"""Repositories that wait for deletion and hold tags are spared; all others, and whatever happened meanwhile, stay."""

import io
import json
import logging
import threading
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from background_migrations.batching import Batch, Target, next_bounds
from background_migrations.registry_client import RegistryClient
from background_migrations.work import WorkContext, WorkStoppedError
from background_migrations.work_functions.reset_status_on_container_repositories import (
    RESET_STATUS_ON_CONTAINER_REPOSITORIES,
)
from registry_project.logs import JsonLines
from tests.background_migrations.http_registry import hang_up, listing, reply, serving
from tests.conftest import TEMPLATE, drop

WORK = RESET_STATUS_ON_CONTAINER_REPOSITORIES
TABLE = ("public", "container_repositories")
SCHEDULED, BEGUN = 0, 2


@pytest.fixture
def registry():
    with serving() as registry:
        yield registry


@pytest.fixture(scope="module")
def database(create_database, template_database):
    """GitLab Rails' database; one for all tests, for a copy takes seconds."""
    database = create_database(template=TEMPLATE)
    yield database
    drop(database)


@pytest.fixture
def connection(database):
    """An autocommit connection to that database, which holds two projects and no repository."""
    with database.connect() as connection:
        connection.execute(
            """
            TRUNCATE container_repositories, routes RESTART IDENTITY;
            INSERT INTO routes (source_type, source_id, path)
            VALUES ('Project', 1, 'Group/Project'), ('Project', 2, 'group/other'), ('Namespace', 3, 'group')
            """
        )
        yield connection


@pytest.fixture
def lines():
    """The log's lines, as they are written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("migrations")
    logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)


@dataclass
class Rows:
    """The table container_repositories."""

    connection: psycopg.Connection

    def add(self, *names, project=1, status=SCHEDULED):
        for name in names:
            query = "INSERT INTO container_repositories (project_id, name, status) VALUES (%s, %s, %s)"
            self.connection.execute(query, (project, name, status))

    def statuses(self):
        return dict(self.connection.execute("SELECT name, status FROM container_repositories ORDER BY id").fetchall())


@pytest.fixture
def rows(connection):
    return Rows(connection)


def run(connection, client, *, min_value=1, max_value=1_000, should_stop=lambda: False, **options):
    batch = Batch(table=TABLE, column="id", min_value=min_value, max_value=max_value, size=WORK.batch_size)
    context = WorkContext("any name", 1, {"registry": client, **options}, should_stop=should_stop)
    with connection.cursor() as cursor:
        return WORK.run(cursor, batch, context)


def client_of(registry, **options):
    return RegistryClient(registry.url, user_agent="tests/1.0", **options)


def answering(with_tags):
    """Answer with a tag for these paths and with none for the others."""

    def answer(handler):
        path = handler.path.removeprefix("/v2/").removesuffix("/tags/list?n=1")
        (listing("latest") if path in with_tags else listing())(handler)

    return answer


def test_it_declares_what_the_engine_has_to_know():
    assert (WORK.database, WORK.calls_network, WORK.is_external) == ("rails", True, True)
    assert (WORK.predicate, WORK.batch_size, WORK.sub_batch_size, WORK.interval_seconds) == ("status = 0", 50, 0, 120)
    assert WORK.queued_on == ("public.container_repositories", "id")


def test_the_declared_predicate_and_columns_are_there(connection, rows):
    rows.add("a", status=BEGUN)
    rows.add("b", "c")
    target = Target(TABLE, WORK.queued_on[1], WORK.predicate)
    assert next_bounds(connection, target, start=1, limit=3, size=1).max_value == 2
    connection.execute(sql.SQL("SELECT {} FROM {}").format(_names(WORK.columns), sql.Identifier(*TABLE)))


def _names(columns):
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def test_scheduled_repositories_with_tags_are_reset_and_no_others(connection, rows, registry, lines):
    rows.add("one", "two", "three")
    rows.add("four", status=BEGUN)
    rows.add("five", status=None)
    registry.otherwise = answering(with_tags={"group/project/one", "group/project/three", "group/project/four"})
    assert run(connection, client_of(registry)) == 2
    assert rows.statuses() == {"one": None, "two": SCHEDULED, "three": None, "four": BEGUN, "five": None}
    assert sorted(registry.paths) == ["group/project/one", "group/project/three", "group/project/two"]
    told = {(line["container_repository_id"], line["container_repository_path"], line["has_tags"]) for line in lines()}
    assert told == {(1, "group/project/one", True), (2, "group/project/two", False), (3, "group/project/three", True)}


def test_a_line_holds_what_gitlab_s_does_in_its_order(connection, rows, registry, lines):
    rows.add("one")
    run(connection, client_of(registry))
    (line,) = lines()
    assert list(line.items()) == [
        ("severity", "INFO"),
        ("time", line["time"]),
        ("correlation_id", None),
        ("migrator", "ResetStatusOnContainerRepositories"),
        ("has_tags", True),
        ("container_repository_id", 1),
        ("container_repository_path", "group/project/one"),
    ]


def test_only_the_rows_between_the_bounds_are_handled(connection, rows, registry):
    rows.add("1", "2", "3", "4")
    assert run(connection, client_of(registry), min_value=2, max_value=3) == 2
    assert rows.statuses() == {"1": SCHEDULED, "2": None, "3": None, "4": SCHEDULED}


def test_a_second_run_asks_only_for_what_is_left(connection, rows, registry):
    rows.add("kept", "empty")
    registry.otherwise = answering(with_tags={"group/project/kept"})
    assert (run(connection, client_of(registry)), run(connection, client_of(registry))) == (1, 0)
    assert sorted(registry.paths) == ["group/project/empty", "group/project/empty", "group/project/kept"]


def test_an_empty_batch_asks_nothing(connection, registry, lines):
    assert run(connection, client_of(registry)) == 0
    assert (registry.requests, lines()) == ([], [])


def test_the_path_is_the_project_s_and_the_name_in_lower_case(connection, rows, registry):
    rows.add("", "My/Image")
    rows.add("", project=2)
    run(connection, client_of(registry))
    assert sorted(registry.paths) == ["group/other", "group/project", "group/project/my/image"]


def test_without_a_registry_all_are_taken_to_have_tags(connection, rows, lines):
    rows.add("one", "two")
    rows.add("begun", status=BEGUN)
    assert run(connection, None) == 2
    assert rows.statuses() == {"one": None, "two": None, "begun": BEGUN}
    assert [(line["container_repository_id"], line["has_tags"]) for line in lines()] == [(1, True), (2, True)]


def test_an_answer_that_says_nothing_spares_the_repository(connection, rows, registry, lines):
    rows.add("one", "two")
    registry.otherwise = reply(503)
    assert run(connection, client_of(registry)) == 2
    assert rows.statuses() == {"one": None, "two": None}
    assert [line["has_tags"] for line in lines()] == [True, True]


@pytest.mark.parametrize("with_registry", [True, False])
def test_a_repository_whose_project_is_gone_is_left_as_it_is_with_a_warning(
    connection, rows, registry, lines, with_registry
):
    rows.add("gone", project=3)  # a route of a namespace has the same number
    rows.add("gone too", project=4)
    rows.add("here")
    assert run(connection, client_of(registry) if with_registry else None) == 1
    assert rows.statuses() == {"gone": SCHEDULED, "gone too": SCHEDULED, "here": None}
    assert registry.paths == (["group/project/here"] if with_registry else [])
    told = [(line["severity"], line["has_tags"], line["container_repository_path"]) for line in lines()]
    assert told == [("WARNING", None, None), ("WARNING", None, None), ("INFO", True, "group/project/here")]


def test_a_deletion_that_begins_while_the_registry_is_asked_goes_on(connection, rows, registry, database, lines):
    rows.add("begun", "waiting")

    def begin_and_answer(handler):
        if "begun" in handler.path:
            with database.connect() as other:
                other.execute("UPDATE container_repositories SET status = %s WHERE name = 'begun'", (BEGUN,))
        listing("latest")(handler)

    registry.otherwise = begin_and_answer
    assert run(connection, client_of(registry)) == 1
    assert rows.statuses() == {"begun": BEGUN, "waiting": None}
    assert [line["has_tags"] for line in lines()] == [True, True]


def test_no_transaction_stays_open_while_the_registry_is_asked(connection, rows, registry, database):
    rows.add("one")
    states = []

    def look_and_answer(handler):
        with database.connect() as other:
            query = "SELECT state FROM pg_stat_activity WHERE pid = %s"
            states.append(other.execute(query, (connection.info.backend_pid,)).fetchone()[0])
        listing("latest")(handler)

    registry.otherwise = look_and_answer
    run(connection, client_of(registry))
    assert states == ["idle"]


def test_as_many_requests_as_allowed_are_under_way_at_once(connection, rows, registry):
    rows.add(*map(str, range(20)))
    all_of_them, answer = threading.Barrier(10, timeout=10), listing("latest")

    def answer_when_ten_have_asked(handler):
        all_of_them.wait()
        answer(handler)

    registry.otherwise = answer_when_ten_have_asked
    assert run(connection, client_of(registry)) == 20
    assert len(registry.requests) == 20
    assert not all_of_them.broken


def test_one_request_at_a_time_goes_by_the_order_of_the_rows(connection, rows, registry):
    rows.add(*map(str, range(20)))
    assert run(connection, client_of(registry), registry_concurrency=1) == 20
    assert registry.paths == [f"group/project/{name}" for name in range(20)]


def test_told_to_stop_it_writes_what_it_knows_and_leaves_the_rest(connection, rows, registry, lines):
    rows.add(*map(str, range(50)))
    told = threading.Event()

    def answer_slowly_from_the_second_on(handler):
        if len(registry.requests) > 1:
            told.wait(10)
        listing("latest")(handler)

    def should_stop():
        if len(registry.requests) > 1:
            told.set()
        return told.is_set()

    registry.otherwise = answer_slowly_from_the_second_on
    with pytest.raises(WorkStoppedError, match="of 50 repositories were not asked for"):
        run(connection, client_of(registry), should_stop=should_stop, registry_concurrency=1)
    asked = {path.removeprefix("group/project/") for path in registry.paths}
    assert 2 <= len(asked) < 50
    assert rows.statuses() == {str(name): None if str(name) in asked else SCHEDULED for name in range(50)}
    assert {line["container_repository_path"] for line in lines()} == set(registry.paths)
    assert run(connection, client_of(registry)) == 50 - len(asked)


def test_told_to_stop_it_waits_for_no_second_attempt(connection, rows, registry, lines):
    rows.add("one", "two")
    registry.otherwise = hang_up
    with pytest.raises(WorkStoppedError):
        run(connection, client_of(registry), should_stop=lambda: len(registry.requests) == 2)
    assert sorted(registry.paths) == ["group/project/one", "group/project/two"]
    assert rows.statuses() == {"one": SCHEDULED, "two": SCHEDULED}
    assert lines() == []
