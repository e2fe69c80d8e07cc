"""Imports random trees with random damage, each twice, and counts those where something is lost without a word.

A tree is told by its number, so that one that fails can be grown again. Exits 1 unless all went well.
"""

import argparse
import importlib
import json
import logging
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import django
import structlog

from bench.servers import migrated_server, url_of

SHOWN_PROBLEMS = 20
PROGRESS_EVERY = 50  # trees


@dataclass
class Tally:
    """What became of the trees."""

    trees: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """Import trees by their numbers, print what was wrong with them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=1_000, help="how many (1000)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with migrated_server() as server:
        os.environ |= {
            "DATABASE_URL": url_of(server),
            "SECRET_KEY": "only-for-measurements",
            "DJANGO_SETTINGS_MODULE": "registry_project.settings",
        }
        django.setup()
        tally = _fuzz(range(arguments.first, arguments.first + arguments.trees))
    _print(tally, as_json=arguments.json)
    return int(bool(tally.problems))


def _fuzz(numbers: range) -> Tally:
    fuzzing = importlib.import_module("tests.metadata_import.fuzzing")  # its models need settings
    tally, began = Tally(), time.monotonic()
    for number in numbers:
        with tempfile.TemporaryDirectory() as directory:
            tally.problems += fuzzing.fuzz(number, Path(directory))
        tally.trees += 1
        if tally.trees % PROGRESS_EVERY == 0:
            print(f"{tally.trees} trees, {len(tally.problems)} problems", file=sys.stderr, flush=True)
    tally.seconds = time.monotonic() - began
    return tally


def _print(tally: Tally, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(tally)))
        return
    print(f"{tally.trees} damaged trees imported twice in {tally.seconds:.0f} s: {len(tally.problems)} problems.")
    for problem in tally.problems[:SHOWN_PROBLEMS]:
        print(f"  {problem}")


if __name__ == "__main__":
    sys.exit(main())
