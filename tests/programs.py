"""Programs that no Python package brings: what a test needs of them."""

import os
import shutil
from collections.abc import Sequence

import pytest


def require_programs(*programs: str, packages: Sequence[str] = (), by: str = "apt-get install") -> None:
    """Go on only where all these programs are installed; `by` and the packages, if named otherwise, say how to.

    Fails the test where they are promised (REQUIRE_E2E, as in CI). Elsewhere it skips, for `make test` is to pass on a
    machine that has nothing but Python, and an ordinary user may install nothing.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    message = f"{', '.join(missing)} not found: {by} {' '.join(packages or programs)}"
    if os.environ.get("REQUIRE_E2E"):
        pytest.fail(message)
    pytest.skip(message)
