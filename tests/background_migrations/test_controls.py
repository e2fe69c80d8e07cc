"""How one migration is run, changed while it runs: what is allowed, kept, and told."""

import datetime

import pytest

from background_migrations import services
from background_migrations.errors import (
    ConflictingControlsError,
    InvalidControlError,
)
from background_migrations.services import CONTROLS
from background_migrations.work import WorkFunction
from tests.background_migrations.by_hand import broken, hand

ACTOR = "an operator"
EVENTS = """
    SELECT name, kind, actor, old_status, new_status, reason FROM registry_admin.background_migration_events ORDER BY id
"""
NOON = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture
def bench(quick_bench):
    quick_bench.functions["broken"] = WorkFunction(run=broken)
    return quick_bench


VALUES = {
    "batch_size": 5_000,
    "sub_batch_size": 500,
    "interval_seconds": 0.5,
    "max_parallel_jobs": 3,
    "hold_until": NOON,
    "job_timeout_seconds": 12.5,
    "adaptive": True,
    "target_seconds": 30.0,
    "min_batch_size": 10,
    "max_batch_size": 50_000,
    "shares_table": True,
}
DEFAULTS = dict.fromkeys(CONTROLS)


@pytest.fixture
def active(bench):
    bench.queue("active")
    return bench


def change(bench, **changes):
    return services.set_controls(bench.connection, "active", changes, actor=ACTOR)


def test_there_is_a_value_to_try_for_each_control():
    assert list(VALUES) == list(CONTROLS)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_is_set_kept_and_set_back_to_its_default(active, control):
    value = VALUES[control]
    assert change(active, **{control: value}) == {**DEFAULTS, control: value}
    assert services.controls(active.connection, "active") == {**DEFAULTS, control: value}
    assert change(active, **{control: None}) == DEFAULTS
    assert services.controls(active.connection, "active") == DEFAULTS
    assert active.rows(EVENTS) == [
        ("active", "controls", ACTOR, None, None, f"{control}: None → {value}"),
        ("active", "controls", ACTOR, None, None, f"{control}: {value} → None"),
    ]


def test_setting_one_control_leaves_the_others_and_the_throttling_note(active):
    migration_id = active.one("SELECT id FROM batched_background_migrations")
    active.control(migration_id, throttled_by="hook", throttled_reason="it is dinner time", batch_size=7)
    assert change(active, **VALUES) == VALUES
    query = "SELECT throttled_by, throttled_reason FROM registry_admin.background_migration_controls"
    assert active.rows(query) == [("hook", "it is dinner time")]
    assert "batch_size: 7 → 5000" in active.rows(EVENTS)[0][-1]


def test_what_does_not_change_is_no_event(active):
    change(active, batch_size=7)
    change(active, batch_size=7, adaptive=None)
    assert len(active.rows(EVENTS)) == 1


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("batch_size", 1),
        ("batch_size", 2**31 - 1),
        ("sub_batch_size", 0),
        ("interval_seconds", 0),
        ("interval_seconds", 2_000_000),
        ("max_parallel_jobs", 1_000),
        ("job_timeout_seconds", 0.0),
        ("target_seconds", 0.001),
        ("target_seconds", 3),
        ("adaptive", False),
        ("shares_table", False),
        ("hold_until", datetime.datetime(1, 1, 2, tzinfo=datetime.UTC)),
    ],
)
def test_the_ends_of_what_is_allowed_are_allowed(active, control, value):
    assert change(active, **{control: value})[control] == value


@pytest.mark.parametrize(
    ("control", "value", "reason"),
    [
        ("batch_size", 0, "between 1 and 2147483647"),
        ("batch_size", -5, "between 1 and"),
        ("batch_size", 2**31, "between 1 and"),
        ("batch_size", 2.0, "of type int"),
        ("batch_size", "100", "of type int"),
        ("batch_size", True, "of type int"),
        ("sub_batch_size", -1, "between 0 and"),
        ("interval_seconds", -0.1, "between 0 and 2000000"),
        ("interval_seconds", 2_000_001, "between 0 and"),
        ("interval_seconds", float("nan"), "between 0 and"),
        ("interval_seconds", float("inf"), "between 0 and"),
        ("interval_seconds", False, "of type float"),
        ("max_parallel_jobs", 0, "between 1 and 1000"),
        ("max_parallel_jobs", 1_001, "between 1 and 1000"),
        ("job_timeout_seconds", "5", "of type float"),
        ("target_seconds", 0, "between 0.001 and"),
        ("min_batch_size", 0, "between 1 and"),
        ("max_batch_size", 0, "between 1 and"),
        ("adaptive", 1, "of type bool"),
        ("adaptive", "true", "of type bool"),
        ("shares_table", 0, "of type bool"),
        ("hold_until", "2026-12-01T20:00Z", "of type datetime"),
        ("hold_until", NOON.replace(tzinfo=None), "needs a time zone"),
        ("status", 2, "there are batch_size, sub_batch_size"),
        ("throttled_by", "me", "there are batch_size"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_and_nothing_is_set(active, control, value, reason):
    with pytest.raises(InvalidControlError, match=reason) as caught:
        change(active, **{"adaptive": True, control: value})
    assert caught.value.control == control
    assert services.controls(active.connection, "active") == DEFAULTS
    assert active.rows(EVENTS) == []


def test_bounds_of_the_batch_size_may_not_cross_whichever_is_set_first(active):
    change(active, min_batch_size=100)
    with pytest.raises(ConflictingControlsError, match="max_batch_size is 99"):
        change(active, max_batch_size=99)
    assert services.controls(active.connection, "active")["max_batch_size"] is None
    assert change(active, max_batch_size=100)["max_batch_size"] == 100
    with pytest.raises(ConflictingControlsError, match="max_batch_size is 100"):
        change(active, min_batch_size=101)
    assert change(active, min_batch_size=200, max_batch_size=300)["min_batch_size"] == 200


def test_controls_are_obeyed_by_the_next_job(bench):
    bench.fill(100)
    bench.queue("active", batch_size=10)
    with hand(bench) as worker:
        worker.execute()
        change(bench, batch_size=25)
        worker.execute()
    bounds = "SELECT min_value, max_value FROM batched_background_migration_jobs ORDER BY id"
    assert bench.rows(bounds) == [(1, 10), (11, 35)]
