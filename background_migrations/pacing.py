"""How long to wait and how much to do next: back-off, jitter, the size of batches. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

IDLE_FIRST_SECONDS = 1.0
IDLE_LONGEST_SECONDS = 30.0
RETRY_FIRST_SECONDS = 2.0
RETRY_LONGEST_SECONDS = 600.0
JITTER = 0.25  # of the pause, either way
SMOOTHING = 0.2  # weight of a job against all jobs before it: 20 jobs hold 99 % of the weight
LARGEST_STEP = 1.2
CHANCE = random.SystemRandom()


def idle_pause(turns: int) -> float:
    """Return the seconds to wait after so many turns in a row that found nothing to do; doubles up to a limit."""
    return with_jitter(min(IDLE_FIRST_SECONDS * 2 ** min(turns, 16), IDLE_LONGEST_SECONDS))


def retry_pause(attempts: int) -> float:
    """Return the seconds that a job waits after so many attempts; doubles up to a limit."""
    return with_jitter(min(RETRY_FIRST_SECONDS * 2 ** min(attempts - 1, 16), RETRY_LONGEST_SECONDS))


def with_jitter(seconds: float) -> float:
    """Return a length of time near the given one, so that workers do not all come back at once."""
    return seconds * CHANCE.uniform(1 - JITTER, 1 + JITTER)


@dataclass(frozen=True)
class Adaptation:
    """What the size of batches is steered by: seconds for one job, and bounds in rows."""

    target_seconds: float
    smallest: int
    largest: int


def adapted_size(size: int, *, recent: Sequence[tuple[int, float]], adaptation: Adaptation) -> int:
    """Return the size of the next batch, given the (rows, seconds) of the last jobs, oldest first.

    Never more than a fifth above `size`, the size of the last one; as far below as the target asks.
    """
    speed: float | None = None  # seconds for one row
    for rows, seconds in recent:
        if rows > 0:
            speed = seconds / rows if speed is None else SMOOTHING * seconds / rows + (1 - SMOOTHING) * speed
    if speed is not None:
        wanted = adaptation.target_seconds / speed if speed > 0 else float("inf")
        size = int(min(wanted, max(size * LARGEST_STEP, size + 1)))
    return max(adaptation.smallest, min(size, adaptation.largest))
