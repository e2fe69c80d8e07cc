"""One import at a time, and a dead one does not keep the next waiting."""

import uuid

import psycopg
import pytest
from django.db import connections, transaction

from metadata_import.errors import LeaseLostError
from metadata_import.journal import Journal
from metadata_import.lease import BACKEND, Lease
from metadata_import.refusals import ImportRunningError
from tests.metadata_import.registry_rows import fetch
from tests.metadata_import.runs import import_tree
from tests.waiting import until

SILENCE = "UPDATE registry_admin.import_leases SET seen_at = now() - interval '31 seconds' RETURNING 1"
FRESH = "SELECT seen_at > now() - interval '5 seconds' FROM registry_admin.import_leases"
DISCONNECT = "UPDATE registry_admin.import_leases SET backend_pid = {} RETURNING 1"


@pytest.fixture(autouse=True)
def connection(committed_db):
    return connections["registry"]


def lease(holder: str = "first", grace: float = 30.0) -> Lease:
    return Lease(connections["registry"], holder=holder, grace=grace)


def holders() -> list[tuple]:
    return fetch("SELECT holder FROM registry_admin.import_leases")


def test_a_lease_is_there_while_it_is_held():
    with lease():
        assert holders() == [("first",)]
    assert holders() == []


def test_a_second_import_is_refused_and_told_who_runs(registry_tree):
    with lease("somebody@somewhere, process 7"), pytest.raises(ImportRunningError, match="somewhere, process 7"):
        import_tree(registry_tree)
    assert fetch("SELECT count(*) FROM repositories") == [(0,)]
    assert not (registry_tree / "docker/registry/lockfiles").exists()


def test_a_holder_behind_a_pooler_is_dead_after_the_grace_time():
    with lease():
        fetch(DISCONNECT.format("NULL"))
        with pytest.raises(ImportRunningError):
            lease("second").__enter__()
        fetch(SILENCE)
        with lease("second"):
            assert holders() == [("second",)]


def test_a_holder_whose_session_is_gone_is_dead_at_once():
    with lease():
        fetch(DISCONNECT.format("0"))
        with lease("second"):
            assert holders() == [("second",)]


def test_a_holder_lets_go_of_nothing_but_its_own():
    with lease():
        fetch(DISCONNECT.format("0"))
        second = lease("second").__enter__()
    assert holders() == [("second",)]
    second.__exit__(None, None, None)


def test_signs_of_life_come_while_it_is_held(connection):
    with lease(grace=0.2):
        fetch(SILENCE)
        until(lambda: fetch(FRESH) == [(True,)])


def test_a_lost_connection_is_opened_again(connection):
    with lease(grace=0.2):
        ((pid,),) = fetch("SELECT backend_pid FROM registry_admin.import_leases")
        fetch(f"SELECT pg_terminate_backend({pid})")
        until(lambda: fetch("SELECT backend_pid FROM registry_admin.import_leases") != [(pid,)])


def test_a_batch_of_an_import_that_lost_its_lease_is_refused(connection):
    journal = Journal(connection, run_id=1, token=uuid.uuid4())
    with lease(), pytest.raises(LeaseLostError), transaction.atomic(using="registry"):
        journal.begin_batch(uuid.uuid4())


def test_nobody_takes_the_lease_in_the_midst_of_a_batch(connection):
    with lease() as held:
        fetch(DISCONNECT.format("0"))
        journal = Journal(connection, run_id=1, token=held.token)
        impatient = lease("second")
        with impatient._connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '100ms'")
        with transaction.atomic(using="registry"):
            assert journal.begin_batch(uuid.uuid4())
            with pytest.raises(Exception, match="lock timeout"):
                impatient.__enter__()
            assert held._execute("UPDATE registry_admin.import_leases SET seen_at = now() WHERE token = %(token)s") == 1


def test_the_session_is_known_where_nothing_stands_between(connection):
    with lease() as held, held._connection.cursor() as cursor:
        cursor.execute(BACKEND)
        assert fetch("SELECT backend_pid FROM registry_admin.import_leases") == [cursor.fetchone()]
        assert isinstance(held._connection.connection, psycopg.Connection)
