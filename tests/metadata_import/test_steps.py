"""The steps of an import one by one: together they are a full run, and each keeps to its own tables and files."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connections
from django.utils import timezone

from metadata_import import importer, worker
from metadata_import.errors import StrictImportError
from metadata_import.models import ImportItem
from metadata_import.options import Resume
from metadata_import.records import SkipReason
from metadata_import.refusals import AlreadyImportedError
from metadata_import.statistics import Mode
from tests.metadata_import.registry_rows import fetch, registry_rows
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import Tree, write

STEPS = (Mode.PRE_IMPORT, Mode.ALL_REPOSITORIES, Mode.COMMON_BLOBS)


@pytest.fixture(autouse=True)
def connection(committed_db):
    return connections["registry"]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def run(tree: Tree, mode: Mode = Mode.FULL, **options):
    return import_tree(tree.root, **{"mode": mode, "resume": Resume.IF_OPEN, **options})


def forget_everything() -> None:
    fetch(
        """
        WITH a AS (DELETE FROM manifest_references RETURNING 1), b AS (DELETE FROM tags RETURNING 1)
        SELECT count(*) FROM a, b
        """
    )
    fetch("WITH a AS (DELETE FROM manifests RETURNING 1) SELECT count(*) FROM a")
    fetch("WITH a AS (DELETE FROM top_level_namespaces RETURNING 1) SELECT count(*) FROM a")
    fetch("WITH a AS (DELETE FROM blobs RETURNING 1) SELECT count(*) FROM a")


def locks(tree: Tree) -> set[str]:
    directory = tree.root / "docker/registry/lockfiles"
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def grow(tree: Tree) -> None:
    """Build what is healthy, and a tag, an index and an image that are not."""
    one, two = tree.image("a", tag="one"), tree.image("a", layers=(b"b", b"c"))
    tree.index("a", [one, two], tag="both")
    tree.image("a/b", tag="t")
    lost = tree.image("a/b", tag="lost", layers=(b"lost",))
    tree.revision_link("a/b", lost).unlink()
    broken = tree.image("c", layers=(b"d",))
    (tree.base / "repositories/c/_layers").rename(tree.base / "repositories/c/_nothing")
    tree.index("c", [broken], tag="partial")
    tree.tag_link("c", "unlinked").parent.mkdir(parents=True)


def test_three_steps_leave_what_a_full_run_leaves(tree):
    grow(tree)
    run(tree)
    expected = registry_rows()
    forget_everything()
    (tree.root / "docker/registry/lockfiles/database-in-use").unlink()
    for mode in STEPS:
        run(tree, mode)
    assert registry_rows() == expected
    assert {row[1] for row in expected["tags"]} == {"one", "both", "t", "partial"}


def test_step_two_alone_leaves_the_same_tags_as_after_step_one(tree):
    grow(tree)
    run(tree, Mode.PRE_IMPORT)
    run(tree, Mode.ALL_REPOSITORIES)
    expected = registry_rows()
    forget_everything()
    (tree.root / "docker/registry/lockfiles/database-in-use").unlink()
    run(tree, Mode.ALL_REPOSITORIES)
    assert registry_rows() == expected


def test_step_one_writes_no_tags_and_touches_no_lock_file(tree):
    grow(tree)
    report = run(tree, Mode.PRE_IMPORT)
    assert registry_rows()["tags"] == set()
    assert len(registry_rows()["manifests"]) == 5
    assert (locks(tree), report.is_marked) == (set(), False)
    assert (report.counts.tags, report.counts.manifests) == (4, 4)
    ((flags, tags),) = fetch("SELECT ARRAY[pre_import, tag_import, blob_import], tags_count FROM import_statistics")
    assert (flags, tags) == ([True, False, False], 4)


def test_step_two_reads_only_tags_where_step_one_has_been(tree, monkeypatch):
    grow(tree)
    run(tree, Mode.PRE_IMPORT)
    original, read = worker.Reader.read_repositories, []

    def remember(self, repositories):
        names = list(repositories)
        read.extend(names)
        return original(self, names)

    monkeypatch.setattr(worker.Reader, "read_repositories", remember)
    report = run(tree, Mode.ALL_REPOSITORIES)
    assert read == ["a/b"]  # the one with a tag whose manifest was left out
    assert (report.counts.repositories, report.counts.tags) == (3, 4)
    assert report.is_marked
    assert {skip.reason for skip in report.skips} >= {SkipReason.TAG_LINK_MISSING, SkipReason.TAG_WITHOUT_MANIFEST}


def test_step_two_imports_what_was_pushed_since_step_one(tree):
    grow(tree)
    run(tree, Mode.PRE_IMPORT)
    tree.image("a", tag="pushed", layers=(b"new",))
    tree.image("new/one", tag="t")
    run(tree, Mode.ALL_REPOSITORIES)
    assert {("a", "pushed"), ("new/one", "t")} <= {row[:2] for row in registry_rows()["tags"]}


def test_a_repository_of_many_batches_is_read_whole_once_and_counted_once(tree, monkeypatch):
    for number in range(5):
        tree.image("a", tag=f"t{number}")
    run(tree, Mode.PRE_IMPORT)
    tree.image("a", tag="t2x", layers=(b"new",))
    monkeypatch.setattr(worker, "BATCH_WEIGHT_BYTES", 1)
    monkeypatch.setattr("metadata_import.reader.TAGS_PER_PART", 1)
    report = run(tree, Mode.ALL_REPOSITORIES)
    assert (report.counts.tags, report.counts.manifests, report.counts.repositories) == (6, 6, 1)
    assert len(registry_rows()["tags"]) == 6


def test_step_three_may_come_whenever_and_touches_no_lock_file(tree):
    grow(tree)
    run(tree)
    write(tree.root / "docker/registry/lockfiles/filesystem-in-use", b"{}")
    tree.blob(b"pushed later")
    before = locks(tree)
    for expected in (1, 0):
        assert run(tree, Mode.COMMON_BLOBS).inserted_rows["blobs"] == expected
    assert locks(tree) == before == {"database-in-use", "filesystem-in-use"}


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.ALL_REPOSITORIES])
def test_tags_of_somebody_else_are_never_gone_over(tree, mode):
    grow(tree)
    run(tree)
    write(tree.root / "docker/registry/lockfiles/database-in-use", b'{"version":1}')
    with pytest.raises(AlreadyImportedError):
        run(tree, mode)
    assert locks(tree) == {"database-in-use"}


def test_step_one_leaves_alone_what_an_earlier_one_has_just_finished(tree):
    grow(tree)
    assert run(tree, Mode.PRE_IMPORT).recent_repositories == 0
    tree.image("new", tag="t")
    report = run(tree, Mode.PRE_IMPORT)
    assert (report.recent_repositories, report.counts.repositories, report.faults) == (3, 1, 0)
    assert run(tree, Mode.PRE_IMPORT, skip_recent=timedelta()).counts.repositories == 4
    ImportItem.objects.update(finished_at=timezone.now() - timedelta(hours=73))
    assert run(tree, Mode.PRE_IMPORT).recent_repositories == 0


def test_a_push_does_not_keep_step_one_away(tree):
    grow(tree)
    run(tree, Mode.PRE_IMPORT)
    ImportItem.objects.update(finished_at=timezone.now() - timedelta(hours=73))
    fetch("UPDATE repositories SET last_published_at = now() RETURNING 1")
    assert run(tree, Mode.PRE_IMPORT).counts.repositories == 3


def test_a_strict_run_stops_at_what_is_worse_than_a_warning_and_goes_on_once_it_is_mended(tree):
    good = tree.image("a", tag="t")
    broken = tree.manifest("b", b"no json", tag="t")
    tree.tag_link("a", "unlinked").parent.mkdir(parents=True)
    with pytest.raises(StrictImportError, match=r"manifest_malformed"):
        run(tree, strict=True)
    assert registry_rows()["tags"] == {("a", "t", good)}
    assert locks(tree) == {"filesystem-in-use"}
    tree.tag("b", "t", tree.image("b"))
    tree.revision_link("b", broken).unlink()
    assert run(tree, strict=True).counts.tags == 2


def test_several_processes_leave_what_one_leaves(tree, monkeypatch):
    monkeypatch.setattr(importer, "ITEMS_PER_PROCESS", 1)
    grow(tree)
    one = run(tree)
    expected = registry_rows()
    forget_everything()
    (tree.root / "docker/registry/lockfiles/database-in-use").unlink()
    several = run(tree, concurrency=2)
    assert registry_rows() == expected
    assert (several.counts, set(several.skips), several.inserted_rows) == (
        one.counts,
        set(one.skips),
        one.inserted_rows,
    )


@pytest.mark.parametrize(("short", "pools"), [(importer.SHORT, 0), (timedelta(0), 1)], ids=["short", "long"])
def test_blobs_of_repositories_that_took_little_time_get_no_process_of_their_own(tree, monkeypatch, short, pools):
    started = []

    class Counted(importer.Pool):
        def __enter__(self):
            started.append(self)
            return super().__enter__()

    monkeypatch.setattr(importer, "Pool", Counted)
    monkeypatch.setattr(importer, "ITEMS_PER_PROCESS", 2)
    monkeypatch.setattr(importer, "SHORT", short)
    tree.image("a", tag="t", layers=tuple(b"%d" % number for number in range(20)))
    assert run(tree, concurrency=2).counts.blobs == 22
    assert len(started) == pools


def test_an_error_in_one_process_ends_the_others_and_is_raised(tree, monkeypatch):
    monkeypatch.setattr(importer, "ITEMS_PER_PROCESS", 1)
    for number in range(4):
        tree.image(f"a{number}", tag="t")
    tree.manifest("a2", b"no json", tag="broken")
    with pytest.raises(StrictImportError) as caught:
        run(tree, strict=True, concurrency=2)
    assert caught.value.reason == SkipReason.MANIFEST_MALFORMED
    assert "a2/_manifests/revisions" in caught.value.path
