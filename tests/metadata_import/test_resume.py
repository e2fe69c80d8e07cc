"""An import that ends before its time goes on where it was, whatever ended it."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.db import OperationalError, connections, transaction
from django.utils import timezone

from metadata_import import worker
from metadata_import.journal import Journal
from metadata_import.lease import Lease
from metadata_import.models import ImportBatch, ImportItem, ImportRun, ImportStatus
from metadata_import.options import Resume
from metadata_import.records import SkipReason
from metadata_import.refusals import AlreadyImportedError, NothingToResumeError
from metadata_import.statistics import ImportKind, ImportReport, Mode
from metadata_import.store import Store
from tests.conftest import EMPTY_TABLES
from tests.metadata_import import small_batches
from tests.metadata_import.registry_rows import fetch, registry_rows
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import Tree

KILLS = 20
REPOSITORIES = 24
LONGEST_PAUSE_SECONDS = 0.05
PATIENCE_SECONDS = 60.0


@pytest.fixture(autouse=True)
def connection(committed_db):
    return connections["registry"]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def run_import(root: Path, **options) -> ImportReport:
    """Import as the command does by default: on with what is open."""
    return import_tree(root, **{"resume": Resume.IF_OPEN, **options})


def grow(tree: Tree) -> None:
    """Build repositories that share layers, with indexes, referrers, a broken tag and a missing layer."""
    for number in range(REPOSITORIES):
        name = f"group{number % 3}/project{number}"
        shared = [f"shared {number % 4} {layer}".encode() for layer in range(3)]
        one = tree.image(name, tag="one", layers=shared)
        two = tree.image(name, layers=[*shared[:2], f"own {number}".encode()], subject={"digest": one})
        tree.index(name, [one, two], tag="both")
        lost = tree.image(name, tag="lost", layers=[*shared, f"lost {number}".encode()])
        tree.tag_link(name, "broken").parent.mkdir(parents=True)
        if number % 5 == 0:
            tree.revision_link(name, lost).unlink()


def empty_everything() -> None:
    with connections["registry"].cursor() as cursor:
        cursor.execute(EMPTY_TABLES)


def outcome(tree: Tree) -> tuple:
    """Return all that an import leaves: rows by natural keys, what the journal and the statistics say, lock files."""
    run = ImportRun.objects.get()
    items = ImportItem.objects.filter(run_id=run.pk).order_by("kind", "name")
    skips = fetch(
        "SELECT DISTINCT kind, item, reason, path, detail FROM registry_admin.import_skips ORDER BY 1, 2, 3, 4"
    )
    inserted = fetch(
        """
        SELECT r.key, sum(r.value::int8) FROM registry_admin.import_batches b, jsonb_each_text(b.inserted_rows) r
        GROUP BY r.key ORDER BY r.key
        """
    )
    counts = fetch(
        """
        SELECT repositories_count, tags_count, manifests_count, blobs_count, blobs_size_bytes
        FROM import_statistics ORDER BY id DESC LIMIT 1
        """
    )
    done = list(items.values_list("kind", "name", "tags", "manifests", "blobs", "blobs_size_bytes"))
    assert all(item.finished_at for item in items)
    locks = tree.root / "docker/registry/lockfiles"
    return registry_rows(), skips, inserted, counts, done, run.status, sorted(path.name for path in locks.iterdir())


@contextmanager
def started(tree: Tree, *options: str) -> Iterator[subprocess.Popen]:
    """Run the import as a program of its own, in a session of its own, with what it says in one file."""
    name = connections["registry"].settings_dict["NAME"]
    url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))
    root = Path(small_batches.__file__).parents[2]
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(root)}
    command = [sys.executable, small_batches.__file__, str(tree.root), *options]
    with (tree.root.parent / "said").open("wb") as said:
        process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=said, stderr=said)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_to_its_end(tree: Tree, *options: str) -> None:
    with started(tree, *options) as process:
        assert process.wait(PATIENCE_SECONDS) == 0, (tree.root.parent / "said").read_text()


def wait_for_batches(count: int, process: subprocess.Popen) -> None:
    """Return when so many batches are committed, or the process has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ImportBatch.objects.count() < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


# --- Killed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [("--concurrency", "1"), ("--concurrency", "2")], ids=["one process", "two"])
def test_killed_at_random_moments_it_ends_as_if_undisturbed(tree, options):
    grow(tree)
    run_to_its_end(tree, *options)
    expected, total = outcome(tree), ImportBatch.objects.count()
    empty_everything()
    (tree.root / "docker/registry/lockfiles/database-in-use").unlink()

    moments = random.Random(20)
    for kill in range(KILLS):
        with started(tree, *options) as process:
            wait_for_batches(total * kill // KILLS + moments.randrange(3), process)
            time.sleep(moments.uniform(0, LONGEST_PAUSE_SECONDS))
            has_ended = process.poll() is not None
        if has_ended:  # it was faster
            break
    if ImportRun.objects.get().status != ImportStatus.FINISHED:
        run_to_its_end(tree, *options)
    assert outcome(tree) == expected
    assert ImportRun.objects.get().attempts > 1


# --- Stopped and failed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [("--concurrency", "1"), ("--concurrency", "2")], ids=["one process", "two"])
def test_ctrl_c_ends_it_in_good_order_and_says_how_to_go_on(tree, options):
    grow(tree)
    with started(tree, *options) as process:
        wait_for_batches(2, process)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)
    assert "Run the same command again" in (tree.root.parent / "said").read_text()
    run = ImportRun.objects.get()
    assert run.status == ImportStatus.INTERRUPTED
    assert fetch("SELECT count(*) FROM import_statistics WHERE tag_import_error = 'KeyboardInterrupt'") == [(1,)]
    assert fetch("SELECT count(*) FROM registry_admin.import_leases") == [(0,)]
    run_to_its_end(tree, *options, "--resume")
    assert ImportRun.objects.get().status == ImportStatus.FINISHED


def fail_at(monkeypatch, call: int) -> None:
    """Let the database fail, for good, at one of the writes."""
    original, calls = Store.write_repositories, []

    def write(self, parts, **more):
        calls.append(parts)
        if len(calls) >= call:
            raise OperationalError("the disk is full")
        return original(self, parts, **more)

    monkeypatch.setattr(worker, "BATCH_WEIGHT_BYTES", 1)
    monkeypatch.setattr(Store, "write_repositories", write)


def fail_once(tree: Tree, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, 3)
        with pytest.raises(OperationalError):
            run_import(tree.root)


def small(tree: Tree) -> None:
    for number in range(5):
        tree.image(f"a{number}", tag="t")


def test_a_failed_import_goes_on_with_what_is_left(tree, monkeypatch):
    small(tree)
    fail_once(tree, monkeypatch)
    first = ImportRun.objects.get()
    assert (first.status, first.error) == (ImportStatus.FAILED, "the disk is full")
    report = run_import(tree.root)
    assert (report.attempts, report.counts.tags, report.newly_counted.tags) == (2, 5, 3)
    assert report.inserted_rows["tags"] == 5
    assert report.is_marked
    assert fetch("SELECT tags_count, tag_import_error FROM import_statistics ORDER BY id") == [
        (2, "the disk is full"),
        (5, None),
    ]


def test_a_failed_import_is_not_begun_again_by_another_kind_of_run(tree, monkeypatch):
    small(tree)
    fail_once(tree, monkeypatch)
    with pytest.raises(AlreadyImportedError, match=r"\(full\) is unfinished: run that again"):
        run_import(tree.root, mode=Mode.ALL_REPOSITORIES)


def test_a_finished_import_is_not_open(tree):
    small(tree)
    run_import(tree.root)
    with pytest.raises(AlreadyImportedError, match="TRUNCATE tags"):
        run_import(tree.root)
    with pytest.raises(NothingToResumeError, match="run it without --resume"):
        run_import(tree.root, resume=Resume.REQUIRED)


def test_a_restart_reads_everything_again(tree, monkeypatch):
    small(tree)
    fail_once(tree, monkeypatch)
    report = run_import(tree.root, resume=Resume.RESTART)
    assert (report.attempts, report.newly_counted.tags, report.inserted_rows["tags"]) == (1, 5, 5)
    assert list(ImportRun.objects.order_by("id").values_list("status", flat=True)) == ["abandoned", "finished"]


def test_a_restart_leaves_no_tag_that_was_deleted_meanwhile(tree, monkeypatch):
    small(tree)
    tree.image("a0", tag="deleted")
    fail_once(tree, monkeypatch)
    names = "SELECT r.path || ':' || t.name FROM tags t JOIN repositories r ON r.id = t.repository_id ORDER BY 1"
    assert ("a0:deleted",) in fetch(names)
    shutil.rmtree(tree.repository("a0") / "_manifests" / "tags" / "deleted")
    run_import(tree.root, resume=Resume.RESTART)
    assert fetch(names) == [(f"a{number}:t",) for number in range(5)]


def test_a_journal_whose_tables_were_emptied_is_not_believed(tree, monkeypatch):
    small(tree)
    fail_once(tree, monkeypatch)
    fetch("WITH gone AS (DELETE FROM tags RETURNING 1) SELECT count(*) FROM gone")
    report = run_import(tree.root)
    assert (report.attempts, report.newly_counted.tags) == (1, 5)


def test_what_was_left_out_though_it_may_be_sound_is_tried_again(tree):
    small(tree)
    hidden = tree.repository("a3") / "_manifests" / "tags"
    hidden.rename(tree.root / "elsewhere")
    hidden.symlink_to("/")
    assert run_import(tree.root).faults == 1
    hidden.unlink()
    (tree.root / "elsewhere").rename(hidden)
    report = run_import(tree.root)
    assert (report.faults, report.skips, report.counts.tags, report.newly_counted.tags) == (0, (), 5, 1)
    assert report.is_marked


def test_an_import_of_another_tree_is_not_gone_on_with(tree, monkeypatch, tmp_path):
    small(tree)
    fail_once(tree, monkeypatch)
    other = Tree(tmp_path / "other")
    small(other)
    with pytest.raises(AlreadyImportedError, match="TRUNCATE"):
        run_import(other.root)


def test_a_passing_failure_is_tried_again_and_counted_once(tree, monkeypatch):
    small(tree)
    original, calls = Store.write_repositories, []

    def lose_the_connection_once(self, parts, **more):
        calls.append(parts)
        written = original(self, parts, **more)
        if len(calls) == 1:
            fetch_of = "SELECT pg_terminate_backend(pg_backend_pid())"
            with self._connection.cursor() as cursor:
                cursor.execute(fetch_of)
        return written

    monkeypatch.setattr(Store, "write_repositories", lose_the_connection_once)
    report = run_import(tree.root)
    assert (report.counts.tags, report.inserted_rows["tags"], report.attempts) == (5, 5, 1)


def test_a_commit_whose_answer_was_lost_is_not_done_twice(connection):
    run = ImportRun.objects.create(storage_driver="x", root="x", mode="full", started_at=timezone.now())
    with Lease(connection, holder="test", grace=30) as lease:
        journal, batch = Journal(connection, run_id=run.pk, token=lease.token), uuid.uuid4()
        with transaction.atomic(using="registry"):
            assert journal.begin_batch(batch)
            journal.record_batch(ImportKind.REPOSITORY, batch, done=[], rows={}, now=timezone.now())
        with transaction.atomic(using="registry"):
            assert not journal.begin_batch(batch)


def test_a_dry_run_leaves_no_journal(tree):
    small(tree)
    run_import(tree.root, dry_run=True)
    assert (ImportRun.objects.count(), ImportItem.objects.count(), ImportBatch.objects.count()) == (0, 0, 0)
    assert fetch("SELECT count(*) FROM registry_admin.import_leases") == [(0,)]


def test_a_dry_run_goes_on_too_and_leaves_the_journal_as_it_was(tree, monkeypatch):
    small(tree)
    fail_once(tree, monkeypatch)
    before = list(ImportItem.objects.order_by("id").values())
    assert run_import(tree.root, dry_run=True).newly_counted.tags == 3
    assert list(ImportItem.objects.order_by("id").values()) == before
    assert ImportRun.objects.get().attempts == 1


def test_skips_are_kept_with_their_items(tree):
    small(tree)
    tree.tag_link("a1", "broken").parent.mkdir(parents=True)
    run_import(tree.root)
    assert fetch("SELECT item, reason FROM registry_admin.import_skips") == [("a1", str(SkipReason.TAG_LINK_MISSING))]
