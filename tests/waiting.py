"""Waiting for what another process or thread does, without a word about how long it should take."""

import time
from collections.abc import Callable
from typing import Any

DEADLINE_SECONDS = 60.0  # what takes so long has hung


def until(look: Callable[[], Any], *, seconds: float = DEADLINE_SECONDS) -> Any:
    """Look until it is true, and return what was found."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "It has not become true."
        time.sleep(0.02)
    return found
