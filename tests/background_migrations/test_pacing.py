"""Pauses and sizes of batches, which are pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from background_migrations.pacing import (
    IDLE_FIRST_SECONDS,
    IDLE_LONGEST_SECONDS,
    JITTER,
    RETRY_FIRST_SECONDS,
    RETRY_LONGEST_SECONDS,
    Adaptation,
    adapted_size,
    idle_pause,
    retry_pause,
    with_jitter,
)

WIDE = Adaptation(target_seconds=10.0, smallest=1, largest=1_000_000)


def seconds_near(seconds: float):
    """Compare with a time that jitter may have moved."""
    return pytest.approx(seconds, rel=JITTER)


# --- Pauses -------------------------------------------------------------------------------------------------------


def test_an_idle_worker_waits_longer_and_longer_up_to_a_limit():
    assert (IDLE_FIRST_SECONDS, IDLE_LONGEST_SECONDS) == (1.0, 30.0)
    for turns, seconds in enumerate([1, 2, 4, 8, 16, 30, 30]):
        assert idle_pause(turns) == seconds_near(seconds)


def test_a_failed_job_waits_longer_after_each_attempt_up_to_a_limit():
    for attempts, seconds in enumerate([2, 4, 8, 16, 32], start=1):
        assert retry_pause(attempts) == seconds_near(seconds)
    assert retry_pause(1) == seconds_near(RETRY_FIRST_SECONDS)
    assert retry_pause(20) == seconds_near(RETRY_LONGEST_SECONDS)


@given(st.integers(0, 10**9))
def test_no_number_of_turns_makes_a_pause_too_long(number):
    assert idle_pause(number) <= IDLE_LONGEST_SECONDS * (1 + JITTER)
    assert retry_pause(number) <= RETRY_LONGEST_SECONDS * (1 + JITTER)


def test_pauses_are_spread_to_both_sides_of_what_is_asked():
    pauses = [with_jitter(100.0) for _ in range(1_000)]
    assert 100 * (1 - JITTER) <= min(pauses) < 90
    assert 110 < max(pauses) <= 100 * (1 + JITTER)
    assert with_jitter(0.0) == 0


# --- Sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "seconds", "expected"),
    [
        (1_000, 10.0, 1_000),  # as long as wanted
        (1_000, 9.0, 1_111),
        (1_000, 5.0, 1_200),  # twice as much would do, a fifth more is the largest step
        (1_000, 0.001, 1_200),
        (1_000, 20.0, 500),  # down at once
        (1_000, 1_000.0, 10),
        (3, 0.1, 4),  # a fifth of it is less than a row
        (1, 0.1, 2),
    ],
)
def test_the_size_follows_the_time_that_jobs_take(size, seconds, expected):
    assert adapted_size(size, recent=[(size, seconds)], adaptation=WIDE) == expected


def test_without_a_job_that_says_how_long_it_takes_the_size_stays():
    assert adapted_size(500, recent=[], adaptation=WIDE) == 500
    assert adapted_size(500, recent=[(0, 3.0)], adaptation=WIDE) == 500


def test_jobs_that_take_no_time_let_it_grow():
    assert adapted_size(500, recent=[(500, 0.0)] * 20, adaptation=WIDE) == 600


@pytest.mark.parametrize(("size", "seconds", "expected"), [(100, 1_000.0, 50), (110, 0.1, 120), (1, 10.0, 50)])
def test_the_size_stays_within_its_bounds(size, seconds, expected):
    narrow = Adaptation(target_seconds=10.0, smallest=50, largest=120)
    assert adapted_size(size, recent=[(size, seconds)], adaptation=narrow) == expected


def test_one_slow_job_among_twenty_weighs_a_fifth():
    steady = [(1_000, 10.0)] * 19
    assert (
        adapted_size(1_000, recent=[*steady, (1_000, 20.0)], adaptation=WIDE) == 833
    )  # 10 s, and a fifth of 10 s more


def test_what_was_long_ago_weighs_less():
    slow_then_quick = [(1_000, 20.0), *[(1_000, 10.0)] * 19]
    assert adapted_size(1_000, recent=slow_then_quick, adaptation=WIDE) == pytest.approx(1_000, rel=0.02)


def test_sizes_of_the_last_jobs_may_differ():
    assert adapted_size(800, recent=[(100, 1.0), (400, 4.0), (800, 8.0)], adaptation=WIDE) == 960


@given(
    size=st.integers(1, 10**6),
    recent=st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 10**5)), max_size=20),
    target=st.floats(0.001, 10**4),
    ends=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).map(sorted),
)
def test_steps_up_are_small_and_bounds_hold_whatever_came_before(size, recent, target, ends):
    adaptation = Adaptation(target, *ends)
    found = adapted_size(size, recent=recent, adaptation=adaptation)
    assert isinstance(found, int)
    assert adaptation.smallest <= found <= adaptation.largest
    assert found <= max(size * 1.2, size + 1, adaptation.smallest)
