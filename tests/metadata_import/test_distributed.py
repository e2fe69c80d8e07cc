"""An import that many workers share: the rows of one process, whoever dies on the way."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone
from procrastinate import JobContext
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.jobs import Job

from metadata_import import distribution, following, tasks
from metadata_import.errors import LeaseLostError, OtherStorageError, TaskFailedError
from metadata_import.importer import import_registry
from metadata_import.journal import Done, Journal
from metadata_import.lease import Lease
from metadata_import.models import ImportItem, ImportRun, ImportStatus
from metadata_import.options import ImportOptions
from metadata_import.statistics import ImportKind
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


@pytest.fixture
def few(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path / "few")
    for number in range(3):
        tree.image(f"a{number}", tag="t")
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


def test_a_repository_is_a_task_and_so_are_a_few_prefixes_of_blobs():
    queue, token = tasks.ImportTasks(ImportOptions()), uuid.uuid4()
    queue.hand_out(ImportKind.REPOSITORY, ["a", "b/ü"], run_id=1, token=token)
    queue.hand_out(ImportKind.BLOB_PREFIX, [f"{number:02x}" for number in range(20)], run_id=1, token=token)
    names = list(ProcrastinateJob.objects.order_by("id").values_list("args__names", flat=True))
    assert names[:2] == [["a"], ["b/%C3%BC"]]
    assert [len(each) for each in names[2:]] == [8, 8, 4]
    assert list(chain(*names[2:])) == [f"{number:02x}" for number in range(20)]
    assert queue.has_tasks(token=token)
    assert not queue.has_tasks(token=uuid.uuid4())


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


class Hands:
    """A queue in memory that a test serves, or forgets about."""

    def __init__(self, serve) -> None:
        self.serve, self.handed_out, self.tasks, self.shown = serve, [], [], []

    def hand_out(self, kind, names, *, run_id, token):
        self.handed_out.append(list(names))
        self.tasks = [(run_id, token, kind, (name,)) for name in names]

    def has_tasks(self, *, token):
        return bool(self.tasks)

    def has_workers(self):
        return False

    def look(self, progress) -> None:
        """Do what is left to do, whenever the coordinator looks."""
        self.shown.append(following.describe(progress))
        tasks, self.tasks = self.tasks, []
        for task in tasks:
            self.serve(*task)


def imported_by(hands: Hands, tree: Tree):
    return import_registry(
        FilesystemDriver(tree.root),
        connection=connections["registry"],
        pending_migrations=lambda: 0,
        options=ImportOptions(),
        on_progress=hands.look,
        queue=hands,
    )


def served(run_id, token, kind, names) -> None:
    """Do a task as a worker does."""
    job = Job(id=1, queue="import", lock=None, queueing_lock=None, task_name="x")
    context = JobContext(app=app, job=job, start_timestamp=0.0, abort_reason=lambda: None)
    how = tasks._how(ImportOptions())
    tasks.import_items.func(context, run_id=run_id, token=str(token), kind=str(kind), names=names, how=how)


@pytest.fixture
def hurried(monkeypatch):
    for pause in ("LOOK_SECONDS", "CARE_SECONDS", "PAUSE"):
        monkeypatch.setattr(distribution, pause, 0.0)


def test_tasks_that_the_queue_loses_are_handed_out_again(few, hurried):
    lost = set()

    def lose_each_once(*task) -> None:
        if task in lost:
            served(*task)
        lost.add(task)

    hands = Hands(lose_each_once)
    assert imported_by(hands, few).is_marked
    assert [len(names) for names in hands.handed_out][:2] == [3, 3]
    assert "procrastinate worker" not in hands.shown[0]
    assert any(
        shown.endswith("start one on any machine: python manage.py procrastinate worker") for shown in hands.shown
    )


def test_tasks_that_do_nothing_end_the_import(few, hurried):
    with pytest.raises(TaskFailedError, match="without having done anything"):
        imported_by(Hands(lambda *_: None), few)


def test_an_error_of_a_task_ends_the_import_and_the_next_one_goes_on(few, hurried, monkeypatch):
    def configured_otherwise(name, root):
        raise OtherStorageError(root, found="s3://other")

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "_driver_of", configured_otherwise)
        with pytest.raises(TaskFailedError, match="This worker is configured for s3://other"):
            imported_by(Hands(served), few)
    assert ImportRun.objects.get().status == ImportStatus.FAILED
    assert imported_by(Hands(served), few).is_marked


def test_a_worker_that_was_taken_for_dead_can_record_nothing_more():
    run = ImportRun.objects.create(storage_driver="x", root="x", mode="full", started_at=timezone.now())
    kind, connection = ImportKind.REPOSITORY, connections["registry"]
    with Lease(connection, holder="test", grace=30) as lease:
        old, new = (Journal(connection, run_id=run.pk, token=lease.token, claim=uuid.uuid4()) for _ in range(2))
        old.plan(kind, ["a"])
        assert old.claim(kind, ["a", "b"]) == ["a"]
        assert new.claim(kind, ["a"]) == ["a"]
        with pytest.raises(LeaseLostError):
            old.record_batch(kind, uuid.uuid4(), done=[Done(name="a", tags=1)], rows={}, now=timezone.now())
        new.record_batch(kind, uuid.uuid4(), done=[Done(name="a", tags=1)], rows={}, now=timezone.now())
        assert old.claim(kind, ["a"]) == []
    assert ImportItem.objects.get().tags == 1


def test_what_cannot_be_shared_or_begun_is_refused_at_once(few):
    import_tree(few.root)
    for options, message in (
        (["--distributed"], "imported already"),
        (["--distributed", "--dry-run"], "one transaction"),
        (["--wait"], "goes with --distributed"),
        (["--sample", "3"], "goes with --verify"),
    ):
        with pytest.raises(CommandError, match=message):
            call_command("database", "import", str(few.root), *options)
    assert not list(app.job_manager.list_jobs())
