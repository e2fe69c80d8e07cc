"""Whole imports: what is in the database afterwards, and what a run that cannot finish leaves."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from django.db import DataError, OperationalError, connections
from django.test.utils import CaptureQueriesContext

from metadata_import import importer, worker
from metadata_import.errors import StorageError, UnmarkedStorageError
from metadata_import.importer import ImportOptions, Progress, import_registry
from metadata_import.records import SkipReason
from metadata_import.refusals import (
    AlreadyImportedError,
    DatabaseLockError,
    NotARegistryError,
    PendingMigrationsError,
    ReadOnlyStorageError,
    RefusedError,
    UnreadableRootError,
    WrongRootError,
)
from metadata_import.statistics import ImportKind, ImportReport
from metadata_import.storage.filesystem import FilesystemDriver
from metadata_import.store import Store
from tests.metadata_import.trees import Tree, digest_of, stored, write

DATA_TABLES = (
    "top_level_namespaces",
    "repositories",
    "blobs",
    "repository_blobs",
    "manifests",
    "layers",
    "manifest_references",
    "tags",
    "import_statistics",
)
OCTET_STREAM = "application/octet-stream"


@pytest.fixture(autouse=True)
def connection(committed_db):
    return connections["registry"]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def run(root: Path, *, pending: int = 0, on_progress=importer.ignore_progress, driver=None, **options) -> ImportReport:
    return import_registry(
        driver or FilesystemDriver(root),
        connection=connections["registry"],
        pending_migrations=lambda: pending,
        options=ImportOptions(**{"concurrency": 2, **options}),
        on_progress=on_progress,
    )


def rows(statement: str) -> list[tuple]:
    with connections["registry"].cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def locks(root: Path) -> set[str]:
    """Return the names of the lock files."""
    directory = root / "docker/registry/lockfiles"
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def table_sizes() -> dict[str, int]:
    return {table: rows(f"SELECT count(*) FROM {table}")[0][0] for table in DATA_TABLES}


# --- What a registry's tree means, computed from its files alone --------------------------------------------------


def expected_rows(root: Path) -> dict[str, set]:
    """Return the rows that a healthy tree must become, by reading it in the plainest way."""
    base = root / "docker/registry/v2"
    blob_files = {path.parent.name: path for path in (base / "blobs/sha256").glob("*/*/data")}
    sizes = {f"sha256:{name}": path.stat().st_size for name, path in blob_files.items()}
    expected: dict[str, set] = {name: set() for name in ("repositories", "tags", "manifests", "layers", "references")}
    expected["repository_blobs"] = set()
    expected["blobs"] = {(stored(digest), size, OCTET_STREAM) for digest, size in sizes.items()}
    for marker in (base / "repositories").rglob("_manifests"):
        path = marker.parent.relative_to(base / "repositories").as_posix()
        expected["repositories"].add((path, path.split("/")[-1], path.split("/")[0], None))
        for tag in (marker / "tags").iterdir():
            digest = (tag / "current/link").read_text()
            expected["tags"].add((path, tag.name, stored(digest)))
            _expect_manifest(expected, blob_files, path, digest)
    return expected


def _expect_manifest(expected: dict[str, set], blob_files: dict[str, Path], path: str, digest: str) -> None:
    payload = blob_files[digest.removeprefix("sha256:")].read_bytes()
    assert hashlib.sha256(payload).hexdigest() == digest.removeprefix("sha256:")
    content = json.loads(payload)
    columns: tuple = (content["mediaType"], payload, 0, None, None, None)
    if "config" in content:
        config = content["config"]
        size = len(payload) + config["size"] + sum(layer["size"] for layer in content["layers"])
        config_payload = blob_files[config["digest"].removeprefix("sha256:")].read_bytes()
        columns = (content["mediaType"], payload, size, config["mediaType"], stored(config["digest"]), config_payload)
        for layer in content["layers"]:
            row = (path, stored(digest), stored(layer["digest"]), layer["size"], layer["mediaType"])
            expected["layers"].add(row)
        for blob in (config, *content["layers"]):
            expected["repository_blobs"].add((path, stored(blob["digest"])))
    expected["manifests"].add((path, stored(digest), 2, *columns, False, False, None, None))
    for child in content.get("manifests", []):
        expected["references"].add((path, stored(digest), stored(child["digest"])))
        _expect_manifest(expected, blob_files, path, child["digest"])


ACTUAL_ROWS = {
    "repositories": """
        SELECT r.path, r.name, n.name, r.parent_id
        FROM repositories r JOIN top_level_namespaces n ON n.id = r.top_level_namespace_id
    """,
    "tags": """
        SELECT r.path, t.name, m.digest FROM tags t
        JOIN manifests m ON m.id = t.manifest_id JOIN repositories r ON r.id = t.repository_id
    """,
    "manifests": """
        SELECT r.path, m.digest, m.schema_version, t.media_type, m.payload, m.total_size, c.media_type,
            m.configuration_blob_digest, m.configuration_payload, m.non_conformant, m.non_distributable_layers,
            m.subject_id, m.artifact_media_type_id
        FROM manifests m
        JOIN repositories r ON r.id = m.repository_id
        JOIN media_types t ON t.id = m.media_type_id
        LEFT JOIN media_types c ON c.id = m.configuration_media_type_id
    """,
    "layers": """
        SELECT r.path, m.digest, l.digest, l.size, t.media_type
        FROM layers l
        JOIN manifests m ON m.id = l.manifest_id
        JOIN repositories r ON r.id = l.repository_id
        JOIN media_types t ON t.id = l.media_type_id
    """,
    "references": """
        SELECT r.path, p.digest, c.digest
        FROM manifest_references f
        JOIN manifests p ON p.id = f.parent_id
        JOIN manifests c ON c.id = f.child_id
        JOIN repositories r ON r.id = f.repository_id
    """,
    "repository_blobs": """
        SELECT r.path, b.blob_digest FROM repository_blobs b JOIN repositories r ON r.id = b.repository_id
    """,
    "blobs": "SELECT b.digest, b.size, t.media_type FROM blobs b JOIN media_types t ON t.id = b.media_type_id",
}


def as_set(found: list[tuple]) -> set[tuple]:
    """Return rows as a set, having seen that no two are alike."""
    plain = {tuple(bytes(value) if isinstance(value, memoryview) else value for value in row) for row in found}
    assert len(plain) == len(found)
    return plain


# --- Runs that finish --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [1, worker.BATCH_WEIGHT_BYTES])
def test_a_full_run_writes_what_the_tree_means(registry_tree, monkeypatch, weight):
    monkeypatch.setattr(worker, "BATCH_WEIGHT_BYTES", weight)
    report = run(registry_tree)
    expected = expected_rows(registry_tree)
    for name, statement in ACTUAL_ROWS.items():
        assert as_set(rows(statement)) == expected[name], name
    assert report.skips == ()
    assert (report.counts.repositories, report.counts.tags) == (len(expected["repositories"]), len(expected["tags"]))
    assert report.inserted_rows["manifests"] == len(expected["manifests"])


def test_layers_have_ids_in_the_order_of_the_image(registry_tree):
    run(registry_tree)
    for payload, digests in rows(
        """
        SELECT m.payload, array_agg(l.digest ORDER BY l.id)
        FROM layers l JOIN manifests m ON m.id = l.manifest_id
        GROUP BY m.id, m.payload
        """
    ):
        listed = dict.fromkeys(stored(layer["digest"]) for layer in json.loads(payload)["layers"])
        assert digests == list(listed)


def test_repositories_are_published_when_they_are_done(registry_tree):
    report = run(registry_tree)
    for (published,) in rows("SELECT last_published_at FROM repositories"):
        assert report.started_at <= published <= report.finished_at


def test_the_lock_files_are_switched_at_the_end(registry_tree):
    locks = registry_tree / "docker/registry/lockfiles"
    write(locks / "filesystem-in-use", b'{"version":1}')
    run(registry_tree)
    assert {path.name: path.read_bytes() for path in locks.iterdir()} == {"database-in-use": b'{"version":1}'}


def test_the_statistics_row_tells_the_truth(registry_tree):
    write(registry_tree / "docker/registry/v2/blobs/sha256/x/data", b"no digest")
    report = run(registry_tree)
    ((times, flags, errors, counts),) = rows(
        """
        SELECT ARRAY[started_at, pre_import_started_at, tag_import_started_at, pre_import_finished_at,
                blob_import_started_at, blob_import_finished_at, finished_at],
            ARRAY[pre_import, tag_import, blob_import],
            ARRAY[pre_import_error, tag_import_error, blob_import_error],
            ARRAY[repositories_count, tags_count, manifests_count, blobs_count, blobs_size_bytes]
        FROM import_statistics WHERE storage_driver = 'filesystem'
        """
    )
    assert times == sorted(times)
    assert (flags, errors) == ([True] * 3, [None] * 3)
    files = [path for path in (registry_tree / "docker/registry/v2/blobs").rglob("data") if path.parent.name != "x"]
    assert counts == [5, 11, 8, len(files), sum(path.stat().st_size for path in files)]
    assert [skip.reason for skip in report.skips] == [SkipReason.BLOB_PATH_INVALID]


def test_an_empty_directory_is_an_empty_registry_that_is_not_marked(tmp_path):
    report = run(tmp_path)
    assert report.counts.repositories == 0
    assert "is empty" in report.warnings[0]
    assert not report.is_marked
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", ["", "repositories", "blobs"])
def test_something_else_than_a_whole_tree_is_refused(tree, kept):
    write(tree.root / "notes.txt", b"")
    if kept:
        (tree.base / kept).mkdir(parents=True)
    before = tree.files()
    with pytest.raises(NotARegistryError):
        run(tree.root)
    assert (tree.files(), table_sizes()["import_statistics"]) == (before, 0)


def link_a_group(tree: Tree) -> None:
    (tree.base / "repositories" / "group").rename(tree.root / "elsewhere")
    (tree.base / "repositories" / "group").symlink_to(tree.root / "elsewhere")


def link_the_blobs(tree: Tree) -> None:
    (tree.base / "blobs" / "sha256").rename(tree.root / "elsewhere")
    (tree.base / "blobs" / "sha256").symlink_to(tree.root / "elsewhere")


def link_one_blob_directory(tree: Tree) -> None:
    prefix = next((tree.base / "blobs" / "sha256").iterdir())
    blob = next(prefix.iterdir())
    blob.rename(tree.root / "elsewhere")
    blob.symlink_to(tree.root / "elsewhere")


def lose_every_manifest(tree: Tree) -> None:
    for repository in ("a", "group/b"):
        for link in (tree.repository(repository) / "_manifests" / "revisions").rglob("link"):
            link.unlink()


@pytest.mark.parametrize("damage", [link_a_group, link_the_blobs, link_one_blob_directory, lose_every_manifest])
def test_what_may_be_sound_and_is_left_out_keeps_the_storage_from_being_marked(tree, damage):
    tree.image("a", tag="one")
    tree.image("group/b", tag="two")
    damage(tree)
    report = run(tree.root)
    assert report.faults > 0
    assert not report.is_marked
    assert locks(tree.root) == {"filesystem-in-use"}


@pytest.mark.parametrize("name", ["database-in-use", "filesystem-in-use"])
def test_a_directory_in_place_of_a_lock_file_is_refused_at_once(registry_tree, name):
    (registry_tree / "docker/registry/lockfiles" / name).mkdir(parents=True)
    with pytest.raises(ReadOnlyStorageError, match="a directory is there"):
        run(registry_tree)
    assert table_sizes() == dict.fromkeys(DATA_TABLES, 0)


def test_progress_begins_before_anything_is_read(registry_tree):
    seen = []
    run(registry_tree, on_progress=seen.append)
    assert seen[0] == importer.Progress(ImportKind.REPOSITORY, 0, 5)


def test_progress_tells_of_each_batch(registry_tree, monkeypatch):
    monkeypatch.setattr(worker, "BATCH_WEIGHT_BYTES", 1)
    seen = []
    run(registry_tree, on_progress=seen.append)
    assert [each.done for each in seen if each.kind is ImportKind.REPOSITORY] == [0, 1, 2, 3, 4, 5]


def test_an_empty_registry_is_imported_without_a_warning(tree):
    tree.base.mkdir(parents=True)
    report = run(tree.root)
    assert (report.warnings, report.is_marked) == ((), True)


def test_damage_is_reported_and_leaves_no_rows(tree):
    bad = tree.image("a", tag="bad", layers=(b"only here",))
    tree.image("a", tag="good", layers=(b"elsewhere",))
    tree.revision_link("a", bad).unlink()
    report = run(tree.root)
    assert [skip.reason for skip in report.skips] == [SkipReason.MANIFEST_MISSING, SkipReason.TAG_WITHOUT_MANIFEST]
    assert rows("SELECT name FROM tags") == [("good",)]
    assert table_sizes()["repository_blobs"] == 2
    assert (stored(digest_of(b"only here")),) in rows("SELECT digest FROM blobs")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (1_600_000_000, "2020-09-13 12:26:40+00"),
        (0, "1970-01-01 00:00:00+00"),
        (-86_400, "1969-12-31 00:00:00+00"),
        (32_000_000_000, "now"),  # of the year 2984
        (9_000_000_000_000, "now"),  # beyond any calendar, or as late as the filesystem can tell
    ],
)
def test_a_tag_is_as_old_as_its_link(tree, written, told):
    tree.image("a", tag="t")
    os.utime(tree.tag_link("a", "t"), (written, written))
    run(tree.root)
    assert rows(
        "SELECT CASE WHEN created_at = (SELECT max(created_at) FROM manifests) THEN 'now' "
        "ELSE (created_at AT TIME ZONE 'UTC')::text || '+00' END FROM tags"
    ) == [(told,)]


def test_control_characters_of_file_names_do_not_reach_the_report(tree):
    (tree.repository("a") / "_manifests" / "tags" / "\x1b[2J").mkdir()
    (tree.base / "blobs").mkdir()
    (skip,) = run(tree.root).skips
    assert "\\x1b[2J" in skip.path


def test_a_dry_run_reports_the_same_and_leaves_nothing(registry_tree):
    before, files = table_sizes(), Tree(registry_tree).files()
    dry = run(registry_tree, dry_run=True, count_rows=True)
    assert (table_sizes(), Tree(registry_tree).files()) == (before, files)
    assert rows("SELECT count(*) FROM media_types") == [(103,)]
    wet = run(registry_tree, count_rows=True)
    assert (dry.counts, dry.inserted_rows, dry.table_rows) == (wet.counts, wet.inserted_rows, wet.table_rows)
    assert dry.table_rows == {"repositories": 5, "manifests": 12, "blobs": 23, "tags": 11}


def test_progress_reaches_its_total_in_both_steps(registry_tree):
    seen: list[Progress] = []
    run(registry_tree, on_progress=seen.append)
    last = {progress.kind: progress for progress in seen}
    assert (last[ImportKind.REPOSITORY].done, last[ImportKind.REPOSITORY].total) == (5, 5)
    assert last[ImportKind.BLOB_PREFIX].done == last[ImportKind.BLOB_PREFIX].total > 0


def test_the_number_of_statements_does_not_grow_with_tags_or_layers(tree, connection):
    def statements(tags: int, layers: int) -> int:
        for number in range(tags):
            tree.image("a", tag=f"{tags}-{number}", layers=[f"{number} {n}".encode() for n in range(layers)])
        with CaptureQueriesContext(connection) as captured:
            run(tree.root, dry_run=True)
        return len(captured)

    assert statements(30, 10) - statements(1, 1) in (0, 1)  # an ANALYZE, of whatever tables have doubled


def test_rows_of_an_interrupted_run_are_found_again(registry_tree):
    run(registry_tree)
    before = rows("SELECT digest, id FROM manifests ORDER BY id")
    rows("WITH gone AS (DELETE FROM tags RETURNING 1) SELECT count(*) FROM gone")
    (registry_tree / "docker/registry/lockfiles/database-in-use").unlink()
    report = run(registry_tree)
    assert report.inserted_rows == {**dict.fromkeys(report.inserted_rows, 0), "tags": 11}
    assert rows("SELECT digest, id FROM manifests ORDER BY id") == before


# --- Runs that are refused ---------------------------------------------------------------------------------------


def occupy_tags(tree: Tree) -> None:
    run(tree.root)
    (tree.root / "docker/registry/lockfiles/database-in-use").unlink()


def lock_for_database(tree: Tree) -> None:
    write(tree.root / "docker/registry/lockfiles/database-in-use", b'{"version":1}')


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("prepare", "options", "error"),
    [
        (lambda tree: None, {"pending": 3}, PendingMigrationsError),
        (occupy_tags, {}, AlreadyImportedError),
        (lock_for_database, {}, DatabaseLockError),
    ],
)
def test_a_refused_run_touches_nothing(tree, prepare, options, error, dry_run):
    tree.image("a", tag="t")
    prepare(tree)
    write(tree.root / "docker/registry/lockfiles/filesystem-in-use", b'{"version":1}')
    before, files = table_sizes(), tree.files()
    with pytest.raises(error):
        run(tree.root, dry_run=dry_run, **options)
    assert (table_sizes(), tree.files()) == (before, files)


def test_pending_migrations_name_the_command_that_helps(tree):
    with pytest.raises(PendingMigrationsError, match=r"python manage\.py database migrate up"):
        run(tree.root, pending=1)


@pytest.mark.parametrize("path", ["missing", "file", "file/below"])
def test_a_root_that_is_no_directory_is_refused(tmp_path, path):
    write(tmp_path / "file", b"")
    with pytest.raises(UnreadableRootError):
        run(tmp_path / path)


@pytest.mark.parametrize(
    "inside",
    [
        "docker",
        "docker/registry",
        "docker/registry/v2",
        "docker/registry/v2/repositories",
        "docker/registry/v2/repositories/base",
        "docker/registry/v2/blobs/sha256",
    ],
)
def test_a_root_inside_the_tree_is_refused_with_the_right_one(registry_tree, inside):
    with pytest.raises(WrongRootError) as caught:
        run(registry_tree / inside)
    assert caught.value.expected == str(registry_tree)


def test_a_tree_that_is_reached_through_a_link_outside_is_refused(registry_tree, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "docker").symlink_to(registry_tree / "docker")
    with pytest.raises(UnreadableRootError, match="leads out"):
        run(tmp_path / "elsewhere")


def test_a_storage_that_takes_no_lock_file_is_refused_at_once_but_dry_runs_may_look(registry_tree):
    class ReadOnly(FilesystemDriver):
        def check_writable(self, path: str) -> None:
            raise StorageError(path, reason="read-only file system")

    with pytest.raises(ReadOnlyStorageError, match="read-only file system"):
        run(registry_tree, driver=ReadOnly(registry_tree))
    assert table_sizes() == dict.fromkeys(DATA_TABLES, 0)
    assert run(registry_tree, driver=ReadOnly(registry_tree), dry_run=True).counts.tags == 11


def test_every_refusal_is_told_from_a_failure():
    assert all(
        issubclass(error, RefusedError)
        for error in (PendingMigrationsError, AlreadyImportedError, DatabaseLockError, UnreadableRootError)
    )


# --- Runs that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OperationalError("the server went away"), KeyboardInterrupt()])
def test_a_failure_midway_keeps_committed_batches_and_the_lock_files(tree, monkeypatch, error):
    for number in range(4):
        tree.image(f"a{number}", tag="t")
    write(tree.root / "docker/registry/lockfiles/filesystem-in-use", b'{"version":1}')
    monkeypatch.setattr(worker, "BATCH_WEIGHT_BYTES", 1)
    original, calls = Store.write_repositories, []

    def fail_at_the_third(self, parts, **more):
        calls.append(parts)
        written = original(self, parts, **more)
        if len(calls) == 3:
            raise error
        return written

    monkeypatch.setattr(Store, "write_repositories", fail_at_the_third)
    with pytest.raises(type(error)):
        run(tree.root)
    assert rows("SELECT path FROM repositories ORDER BY 1") == [("a0",), ("a1",)]
    assert locks(tree.root) == {"filesystem-in-use"}
    ((message, repositories, blob_import),) = rows(
        "SELECT tag_import_error, repositories_count, blob_import FROM import_statistics"
    )
    assert message in ("the server went away", "KeyboardInterrupt")
    assert (repositories, blob_import) == (2, False)


def test_a_failed_dry_run_leaves_nothing(registry_tree, monkeypatch):
    def fail(self, blobs):
        raise OperationalError("the server went away")

    monkeypatch.setattr(Store, "write_blobs", fail)
    with pytest.raises(OperationalError):
        run(registry_tree, dry_run=True)
    assert table_sizes() == dict.fromkeys(DATA_TABLES, 0)


@pytest.mark.parametrize("dry_run", [False, True])
def test_rows_that_postgresql_refuses_cost_one_repository(tree, monkeypatch, dry_run):
    for number in range(5):
        tree.image(f"a{number}", tag="t")
    original = Store.write_repositories

    def refuse_one(self, parts, **more):
        written = original(self, parts, **more)
        if any(part.path == "a3" for part in parts):
            raise DataError("value out of range")
        return written

    monkeypatch.setattr(Store, "write_repositories", refuse_one)
    report = run(tree.root, dry_run=dry_run, count_rows=True)
    assert [(skip.reason, skip.path) for skip in report.skips] == [
        (SkipReason.DATABASE_REFUSED, "docker/registry/v2/repositories/a3")
    ]
    assert report.table_rows["tags"] == 4


def test_a_failing_lock_switch_fails_the_run(registry_tree):
    class Failing(FilesystemDriver):
        def put(self, path: str, content: bytes) -> None:
            raise StorageError(path, reason="disk full")

    filesystem_lock = registry_tree / "docker/registry/lockfiles/filesystem-in-use"
    write(filesystem_lock, b'{"version":1}')
    with pytest.raises(UnmarkedStorageError, match=r"Everything is imported.*disk full"):
        run(registry_tree, driver=Failing(registry_tree))
    assert filesystem_lock.exists()
    ((error,),) = rows("SELECT blob_import_error FROM import_statistics")
    assert "disk full" in error


def test_a_filesystem_lock_that_stays_takes_the_new_mark_away_again(registry_tree):
    class Failing(FilesystemDriver):
        def delete(self, path: str) -> None:
            if path.endswith("filesystem-in-use"):
                raise StorageError(path, reason="not permitted")
            super().delete(path)

    with pytest.raises(UnmarkedStorageError, match="not permitted"):
        run(registry_tree, driver=Failing(registry_tree))
    assert not (registry_tree / "docker/registry/lockfiles/database-in-use").exists()
