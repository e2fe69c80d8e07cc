"""Commands whose connection ends: one line, exit code 1, and the truth in the database when they are run again."""

import pytest
from django.db import connections

from tests.background_migrations.cli.conftest import statuses
from tests.proxy import Fault

EVENTS = "SELECT kind, new_status FROM registry_admin.background_migration_events"


@pytest.fixture
def bench(bench, aliases_through):
    bench.fill(20)
    bench.queue(batch_size=10, max_value=20)
    return bench


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("words", [["status"], ["jobs", "count"], ["sample", "count"], ["run"]])
def test_a_connection_that_ends_is_told_in_one_line_and_the_next_run_succeeds(bench, proxy, run, words, fault):
    proxy.fail_at(b"FROM public.batched_background_migrations", fault)
    code, out, err = run(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("CommandError: The registry database answered: ")
    assert run(*words)[0] == 0


def test_a_pause_whose_question_was_lost_has_not_happened(bench, proxy, refused, done):
    proxy.fail_at(b"COMMIT")
    assert "The registry database answered" in refused("pause")
    assert statuses(bench) == {"count": "active"}
    assert bench.rows(EVENTS) == []
    done("pause")
    assert statuses(bench) == {"count": "paused"}


def test_a_pause_whose_answer_was_lost_has_happened_once(bench, proxy, refused, done):
    proxy.fail_at(b"COMMIT", loses_answer=True)
    assert "The registry database answered" in refused("pause")
    assert statuses(bench) == {"count": "paused"}
    assert "0 background migrations" in done("pause")
    assert len(bench.rows(EVENTS)) == 1


def test_a_slow_network_is_only_slow(bench, proxy, done):
    proxy.delay_seconds = 0.005
    assert "count" in done("status")
    assert done("run") == "Finished 1 background migration.\n"
    assert bench.hits() == {1: 20}


@pytest.mark.parametrize("state", ["is_away", "is_mute"])
def test_a_server_that_does_not_let_anybody_in_is_told_in_one_line(bench, proxy, refused, monkeypatch, state):
    monkeypatch.setitem(connections["registry"].settings_dict["OPTIONS"], "connect_timeout", 2)
    setattr(proxy, state, True)
    assert "connection" in refused("status")
