"""An import that many workers share: the rows of one process, whoever dies on the way."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from procrastinate.contrib.django import app

from metadata_import.models import ImportItem, ImportRun, ImportStatus
from metadata_import.storage.filesystem import FilesystemDriver
from tests.metadata_import.registry_rows import fetch
from tests.metadata_import.runs import import_tree
from tests.metadata_import.test_resume import empty_everything, grow, outcome
from tests.metadata_import.trees import Tree

ROOT = Path(__file__).parents[2]
KILLS = 20
PATIENCE_SECONDS = 240.0
GRACE_SECONDS = "2"


@pytest.fixture(autouse=True)
def no_jobs(committed_db) -> Iterator[None]:
    """Leave no job behind, nor a worker that counts as alive."""
    yield
    with connections["default"].cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs, procrastinate_periodic_defers, procrastinate_workers CASCADE")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path / "root")
    grow(tree)
    return tree


class Programs:
    """Workers and coordinators, each a program of its own; what they say is in one file each."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._running = directory, []
        name = connections["registry"].settings_dict["NAME"]
        url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))
        self._environment = {**os.environ, "DATABASE_URL": url, "REGISTRY_IMPORT_GRACE": GRACE_SECONDS}

    def start(self, *arguments: str) -> subprocess.Popen:
        with (self._directory / f"said-{len(self._running)}").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self._environment, stdout=said, stderr=said
            )
        self._running.append(process)
        return process

    def worker(self) -> subprocess.Popen:
        return self.start("procrastinate", "worker", "--concurrency", "2")

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self._directory.glob("said-*")))

    def end(self) -> None:
        for process in self._running:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    running = Programs(tmp_path)
    yield running
    running.end()


def done_items() -> int:
    return ImportItem.objects.filter(finished_at__isnull=False).count()


def expected_outcome(tree: Tree) -> tuple:
    import_tree(tree.root)
    expected = outcome(tree)
    empty_everything()
    FilesystemDriver(tree.root).delete("docker/registry/lockfiles/database-in-use")
    return expected


def test_workers_leave_what_one_process_leaves_and_the_coordinator_tells_of_it(tree, programs, tmp_path):
    expected = expected_outcome(tree)
    for _ in range(2):
        programs.worker()
    report = tmp_path / "report.json"
    process = programs.start("database", "import", str(tree.root), "--distributed", "--wait", "--report", str(report))
    assert process.wait(PATIENCE_SECONDS) == 0, programs.said()
    assert outcome(tree) == expected
    told = json.loads(report.read_text())
    assert (told["counts"]["tags"], told["is_marked"]) == (expected[3][0][1], True)
    assert fetch("SELECT count(*) FROM registry_admin.import_leases") == [(0,)]


def test_killed_at_random_moments_workers_and_coordinator_end_as_if_undisturbed(tree, programs):
    expected = expected_outcome(tree)
    command = ("database", "import", str(tree.root), "--distributed", "--wait")
    starts = [programs.worker, programs.worker, lambda: programs.start(*command)]
    running = [start() for start in starts]
    moments, total = random.Random(20), len(expected[4])
    deadline = time.monotonic() + PATIENCE_SECONDS
    for kill in range(KILLS):
        while done_items() < total * kill // KILLS and time.monotonic() < deadline:
            running = [each if each.poll() is None else start() for each, start in zip(running, starts, strict=True)]
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.05))
        victim = moments.randrange(len(running))
        running[victim].send_signal(signal.SIGKILL)
        running[victim].wait()
        if ImportRun.objects.filter(status=ImportStatus.FINISHED).exists():
            break
        running[victim] = starts[victim]()
    while running[-1].poll() != 0 and time.monotonic() < deadline:
        if ImportRun.objects.filter(status=ImportStatus.FINISHED).exists():
            break
        if running[-1].poll() is not None:
            running[-1] = starts[-1]()
        time.sleep(0.1)
    running[-1].wait(PATIENCE_SECONDS)
    assert outcome(tree) == expected, programs.said()


def test_an_import_that_is_handed_over_is_ended_by_the_workers(tree, programs):
    expected = expected_outcome(tree)
    said = io.StringIO()
    call_command("database", "import", str(tree.root), "--distributed", stdout=said)
    assert "procrastinate worker" in said.getvalue()
    with pytest.raises(CommandError, match="waits for a worker already"):
        call_command("database", "import", str(tree.root), "--distributed")
    programs.worker()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ImportRun.objects.filter(status=ImportStatus.FINISHED).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    while fetch("SELECT count(*) FROM import_statistics") != [(1,)] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert outcome(tree) == expected, programs.said()


def test_what_cannot_be_shared_or_begun_is_refused_at_once(tree):
    import_tree(tree.root)
    for options, message in (
        (["--distributed"], "imported already"),
        (["--distributed", "--dry-run"], "one transaction"),
        (["--wait"], "goes with --distributed"),
        (["--sample", "3"], "goes with --verify"),
    ):
        with pytest.raises(CommandError, match=message):
            call_command("database", "import", str(tree.root), *options)
    assert not list(app.job_manager.list_jobs())
