"""Times `database import` on a tree of its own making, beside reading the same files and copying the same rows.

Each import is the command that ships, in a process of its own, on a database of its own; limits and imports are taken
in turns, and medians compared. The tree is kept in the directory given, for the next time.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.import_limits import PlainReader, copy_rows
from bench.measures import Measure, arguments, report
from bench.registry_tree import REPOSITORIES, TAGS, RegistryTree
from bench.servers import Databases, migrated_server, url_of

ROUNDS = 3
ONE_PROCESS_LIMIT = 1.5
TWO_PROCESSES_LIMIT = 1.0
STEP_LIMIT = 2.0
MEMORY_LIMIT_MB = 300.0
COUNT_STATEMENTS = "bench.import_statements"

Figures = dict[str, float]


def main() -> int:
    """Measure, print, and fail when one is over its limit."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--scale", type=int, default=1, help=f"times {REPOSITORIES} repositories of {TAGS} tags")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()) / "registry-bench")
    options = parser.parse_args()
    tree = RegistryTree(options.directory / f"scale-{options.scale}", repositories=REPOSITORIES * options.scale)
    tree.build()
    with migrated_server() as server:
        databases = Databases(url_of(server))
        rounds = [_round(tree, databases) for _ in range(options.rounds)]
        statements = _count_statements(tree, databases)
    median = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    return report(_measures(median, tree, statements), as_json=options.json)


def _round(tree: RegistryTree, databases: Databases) -> Figures:
    plain = PlainReader(tree.root)
    for read in (plain.read_repositories, plain.read_blobs):
        read()  # the first to come pays for a cold cache
    figures: Figures = {
        "read tags": plain.read_tags(),
        "read repositories": plain.read_repositories(),
        "read blobs": plain.read_blobs(),
    }
    whole = databases.fresh("whole")
    figures["full"], figures["memory"] = _import(tree, whole, "--concurrency", "1")
    for name, copy in _copies(whole, databases).items():
        figures[name] = copy()
    figures["two processes"], figures["memory of two"] = _import(tree, databases.fresh("shared"), "--concurrency", "2")
    apart = databases.fresh("apart")
    for step in ("one", "two", "three"):
        figures[f"step {step}"], _ = _import(tree, apart, f"--step-{step}", "--concurrency", "1")
    return figures


def _copies(source: str, databases: Databases) -> dict[str, Callable[[], float]]:
    def into_fresh(**options: Any) -> float:
        return copy_rows(source, databases.fresh("copied"), **options)

    return {
        "copy": into_fresh,
        "copy, generic plans": lambda: into_fresh(generic_plans=True),
        "copy tags": lambda: _copy_tags(source, databases),
        "copy blobs": lambda: into_fresh(tables=("blobs",)),
    }


def _copy_tags(source: str, databases: Databases) -> float:
    target = databases.fresh("copied")
    others = ("top_level_namespaces", "repositories", "manifests")
    copy_rows(source, target, tables=("blobs", *others))
    return copy_rows(source, target, tables=("tags",))


def _import(tree: RegistryTree, url: str, *options: str) -> tuple[float, float]:
    """Return how many seconds an import says it took, and the megabytes of its largest process."""
    for lock in (tree.root / "docker/registry/lockfiles").glob("*"):
        lock.unlink()
    result = _run_python(url, "manage.py", "database", "import", str(tree.root), "--json", *options)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return float(json.loads(result)["seconds"]), peak


def _count_statements(tree: RegistryTree, databases: Databases) -> Figures:
    found: Figures = json.loads(_run_python(databases.fresh("counted"), "-m", COUNT_STATEMENTS, str(tree.root)))
    return found


def _run_python(url: str, *command: str) -> str:
    # Settings of whoever measures could lead to another database.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "RAILS_", "SKIP_"))}
    environment = {**own, "DATABASE_URL": url, "SECRET_KEY": "only-for-measurements"}
    done = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def _measures(median: Figures, tree: RegistryTree, statements: Figures) -> list[Measure]:
    tags = tree.repositories * TAGS
    read = median["read repositories"] + median["read blobs"]
    limit = read + median["copy"]
    limit_two, limit_three = median["read tags"] + median["copy tags"], median["read blobs"] + median["copy blobs"]

    def over(name: str, key: str, limit: float, ratio: float | None) -> Measure:
        return Measure(name, median[key], "s", limit=ratio, ratio=median[key] / limit)

    return [
        Measure(f"a: reading the files of {tree.repositories:,} repositories, {tags:,} tags", read, "s"),
        Measure("b: copying the same rows in bulk", median["copy"], "s"),
        Measure("b with generic plans, as the import has them", median["copy, generic plans"], "s"),
        over("full import, one process, over a + b", "full", limit, ONE_PROCESS_LIMIT),
        over("full import, two processes, over a + b", "two processes", limit, TWO_PROCESSES_LIMIT),
        over("step one, one process, over a + b", "step one", limit, None),
        Measure("reading tag links and copying tags", limit_two, "s"),
        over("step two after step one", "step two", limit_two, STEP_LIMIT),
        Measure("listing blobs and copying their rows", limit_three, "s"),
        over("step three after both", "step three", limit_three, STEP_LIMIT),
        Measure("manifests per second, one process", tags / median["full"], "/s"),
        Measure("statements per 10,000 manifests", statements["statements"] * 10_000 / tags, ""),
        Measure("statements per batch", statements["statements"] / statements["batches"], ""),
        Measure(
            "peak memory of one process",
            median["memory"],
            "MB",
            limit=1.0,
            ratio=median["memory"] / MEMORY_LIMIT_MB,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
