"""What a comparison of storage and database finds, and that it writes to neither."""

import io
import json
import shutil
from math import comb

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from metadata_import import differences, reader, snapshots, verifier
from metadata_import.differences import DifferenceKind, VerifyReport
from metadata_import.refusals import NotARegistryError
from metadata_import.sampling import Sample
from metadata_import.statistics import Counts, ImportKind
from metadata_import.storage.filesystem import FilesystemDriver
from tests.metadata_import.damages import in_memory
from tests.metadata_import.registry_rows import registry_rows
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import OCI_CONFIG, Tree, digest_of, encode, write

pytestmark = pytest.mark.usefixtures("committed_db")

K = DifferenceKind
BASE = "docker/registry/v2"
TABLES = ("tags", "layers", "manifest_references", "manifests", "repository_blobs", "blobs", "repositories")


@pytest.fixture
def tree(tmp_path) -> Tree:
    """An imported tree of two repositories, with a signature and an index."""
    tree = Tree(tmp_path / "root")
    image = tree.image("a", tag="one", layers=(b"one", b"shared"))
    tree.image("a", subject={"digest": image, "size": 1}, layers=(b"signature",))
    tree.image("group/b", tag="two", layers=(b"two", b"shared"))
    tree.index("group/b", [tree.image("group/b", layers=(b"child",))], tag="list")
    import_tree(tree.root)
    return tree


def compare(tree: Tree, *, driver=None, **more) -> VerifyReport:
    return verifier.verify(driver or FilesystemDriver(tree.root), connections["registry"], concurrency=2, **more)


def found(tree: Tree, **more) -> list[tuple[DifferenceKind, str]]:
    return [(difference.kind, difference.path) for difference in compare(tree, **more).differences]


def execute(statement: str, **values) -> None:
    with connections["registry"].cursor() as cursor:
        cursor.execute(statement, values)


def test_a_sample_says_how_much_of_the_whole_it_vouches_for(tree):
    execute("DELETE FROM tags")
    report = compare(tree, sample=1)
    repositories, prefixes = report.samples
    assert (repositories.total, repositories.sampled, repositories.differing) == (2, 1, 1)
    assert repositories.most_differing == 2
    assert (prefixes.sampled, prefixes.differing) == (1, 0)
    assert not compare(tree, sample=1_000).samples


@pytest.mark.parametrize(
    ("total", "sampled", "differing"), [(100, 99, 0), (10_000, 300, 0), (1_000_000, 300, 0), (1_000, 100, 3)]
)
def test_confidence_is_that_of_the_hypergeometric_distribution(total, sampled, differing):
    def likelihood(of_all: int) -> float:
        ways = (comb(of_all, seen) * comb(total - of_all, sampled - seen) for seen in range(differing + 1))
        return sum(ways) / comb(total, sampled)

    most = Sample("things", total, sampled, differing).most_differing
    assert likelihood(most + 1) <= 0.05
    assert most == differing or likelihood(most) > 0.05


def test_what_was_imported_is_equal(tree):
    report = compare(tree)
    assert (report.is_equal, report.differences, report.left_out_counts) == (True, (), {})
    assert report.compared == {"repositories": 2, "tags": 3, "manifests": 5, "blobs": 14}


def test_a_tree_that_a_registry_wrote_is_equal_after_its_import(registry_tree):
    import_tree(registry_tree)
    assert compare(Tree(registry_tree)).is_equal


def test_pages_change_nothing(tree, monkeypatch):
    monkeypatch.setattr(snapshots, "ROWS_PER_FETCH", 1)
    monkeypatch.setattr(reader, "TAGS_PER_PART", 1)
    monkeypatch.setattr(verifier, "DIGESTS_PER_READ", 1)
    assert compare(tree).is_equal
    execute("DELETE FROM tags")
    assert {kind for kind, _path in found(tree)} == {K.TAG_MISSING}


def test_progress_reaches_its_total_in_both_parts(tree):
    seen = []
    compare(tree, on_progress=seen.append)
    last = {progress.kind: progress for progress in seen}
    assert [each.done == each.total > 0 for each in last.values()] == [True, True]
    assert last[ImportKind.BLOB_PREFIX].counts == Counts(repositories=2, tags=3, manifests=5, blobs=14)


def test_nothing_is_written_and_the_server_would_not_let_it(tree):
    execute("DELETE FROM tags")
    before, files = registry_rows(), tree.files()
    assert not compare(tree).is_equal
    assert (registry_rows(), tree.files()) == (before, files)
    with snapshots.Snapshots(connections["registry"]).begin(), pytest.raises(Exception, match="read-only transaction"):
        execute("DELETE FROM layers")


def test_an_empty_database_lacks_every_repository_and_blob(tree):
    for table in TABLES:
        execute(f"DELETE FROM {table}")
    report = compare(tree)
    assert report.difference_counts == {K.REPOSITORY_MISSING: 2, K.BLOB_MISSING: 14}


def test_an_empty_tree_lacks_everything_in_the_database(tree):
    for name in ("repositories", "blobs"):
        shutil.rmtree(tree.base / name)
    assert compare(tree).difference_counts == {K.REPOSITORY_EXTRA: 2, K.BLOB_EXTRA: 14}


def test_something_else_than_a_tree_is_refused(tree):
    shutil.rmtree(tree.base / "blobs")
    with pytest.raises(NotARegistryError):
        compare(tree)


def test_a_group_is_listed_up_to_a_limit_and_counted_in_full(tree, monkeypatch):
    monkeypatch.setattr(differences, "LISTED_PER_GROUP", 2)
    execute("DELETE FROM blobs b WHERE NOT EXISTS (SELECT FROM repository_blobs r WHERE r.blob_digest = b.digest)")
    report = compare(tree)
    assert len(report.differences) == 2 < report.difference_counts[K.BLOB_MISSING]
    assert [*report.differences_by_kind()] == [K.BLOB_MISSING]


# --- One difference each ------------------------------------------------------------------------------------------

TAG = f"{BASE}/repositories/a/_manifests/tags/one/current/link"
CHANGES = {
    "DELETE FROM tags WHERE name = 'one'": (K.TAG_MISSING, TAG),
    "UPDATE tags SET name = 'zzz' WHERE name = 'one'": (K.TAG_EXTRA, TAG.replace("one", "zzz")),
    """
    UPDATE tags SET manifest_id = (
        SELECT id FROM manifests m WHERE m.repository_id = tags.repository_id AND id <> tags.manifest_id
    )
    WHERE name = 'one'
    """: (K.TAG_DIFFERS, TAG),
    "UPDATE repositories SET path = 'zzz' WHERE path = 'a'": (K.REPOSITORY_EXTRA, f"{BASE}/repositories/zzz"),
    "UPDATE repositories SET deleted_at = now() WHERE path = 'a'": (K.REPOSITORY_MISSING, f"{BASE}/repositories/a"),
    "DELETE FROM manifest_references": (K.REFERENCES_DIFFER, None),
    "DELETE FROM layers WHERE size = 3": (K.LAYERS_DIFFER, None),
    "UPDATE manifests SET payload = payload || ' '": (K.MANIFEST_DIFFERS, None),
    "UPDATE manifests SET total_size = total_size + 1": (K.MANIFEST_DIFFERS, None),
    "UPDATE manifests SET media_type_id = media_type_id + 1": (K.MANIFEST_DIFFERS, None),
    "UPDATE manifests SET configuration_payload = NULL": (K.MANIFEST_DIFFERS, None),
    "UPDATE manifests SET non_conformant = true": (K.MANIFEST_DIFFERS, None),
    "UPDATE manifests SET subject_id = NULL": (K.MANIFEST_DIFFERS, None),
    "DELETE FROM repository_blobs": (K.LINK_MISSING, None),
    "UPDATE blobs SET size = size + 1": (K.BLOB_SIZE_DIFFERS, None),
}


@pytest.mark.parametrize(
    ("change", "difference"), CHANGES.items(), ids=[" ".join(each.split())[:60] for each in CHANGES]
)
def test_a_changed_row_is_found(tree, change, difference):
    execute(change)
    kind, path = difference
    differing = found(tree)
    assert kind in {each for each, _path in differing}
    assert path is None or (kind, path) in differing


def test_a_manifest_without_its_row_is_missing(tree):
    digest = tree.image("a", layers=(b"late",))
    tree.tag("a", "late", digest)
    link = tree.revision_link("a", digest).relative_to(tree.root)
    kinds = dict(found(tree))
    assert kinds[K.MANIFEST_MISSING] == str(link)
    assert K.TAG_MISSING in kinds


@pytest.mark.parametrize("lies_in_storage", [True, False])
def test_a_manifest_that_nothing_leads_to_is_extra_only_where_storage_lacks_it(tree, lies_in_storage):
    digest = tree.image("a", tag="moved", layers=(b"moved",))
    import_again(tree)
    tree.tag("a", "moved", digest_of(tree.tag_link("a", "one").read_bytes()))
    shutil.rmtree(tree.tag_link("a", "moved").parent.parent)
    execute("DELETE FROM tags WHERE name = 'moved'")
    link = tree.revision_link("a", digest)
    if lies_in_storage:
        assert compare(tree).is_equal
    else:
        link.unlink()
        assert found(tree) == [(K.MANIFEST_EXTRA, str(link.relative_to(tree.root)))]


def import_again(tree: Tree) -> None:
    execute("DELETE FROM tags")
    shutil.rmtree(tree.root / "docker/registry/lockfiles", ignore_errors=True)
    import_tree(tree.root)


def test_a_blob_of_another_size_is_found_with_both_sizes(tree):
    path = tree.blob_path(digest_of(b"one"))
    write(path, b"longer")
    (difference,) = compare(tree).differences
    assert difference.kind is K.BLOB_SIZE_DIFFERS
    assert difference.detail == "size 3 in the database, 6 here"


def test_blobs_are_found_in_every_gap_between_prefixes(tree):
    for checksum in ("00" * 32, "ff" * 32, "7f" * 32):
        execute(
            "INSERT INTO blobs (digest, size, media_type_id) VALUES (%(digest)s, 1, 1)",
            digest=b"\x01" + bytes.fromhex(checksum),
        )
    execute("INSERT INTO blobs (digest, size, media_type_id) VALUES (%(digest)s, 1, 1)", digest=b"\x02" + b"\x00" * 64)
    assert [kind for kind, _path in found(tree)] == [K.BLOB_EXTRA] * 4


# --- Damage -------------------------------------------------------------------------------------------------------


def test_sizes_that_a_manifest_claims_falsely_are_found(tmp_path):
    tree = Tree(tmp_path / "root")
    config = {**tree.layer("a", encode({}), media_type=OCI_CONFIG), "size": 99}
    tree.image("a", tag="t", config=config)
    import_tree(tree.root)
    assert found(tree) == [(K.BLOB_SIZE_DIFFERS, str(tree.blob_path(config["digest"]).relative_to(tree.root)))]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_payload_that_does_not_have_its_digest_is_found_though_it_was_imported(tmp_path, algorithm):
    tree = Tree(tmp_path / "root")
    payload, other = encode({"schemaVersion": 2, "manifests": []}), digest_of(b"other", algorithm=algorithm)
    digest = tree.manifest("a", payload, tag="t", digest=other)
    import_tree(tree.root)
    assert found(tree) == [(K.PAYLOAD_CORRUPT, str(tree.revision_link("a", digest).relative_to(tree.root)))]


def test_of_what_cannot_be_read_nothing_else_is_claimed(tree):
    for path in (tree.tag_link("a", "one"), tree.repository("a") / "_manifests" / "tags"):
        driver = in_memory(tree, broken=path)
        assert found(tree, driver=driver) == [(K.NOT_COMPARED, str(path.relative_to(tree.root)))]


def test_names_that_are_no_text_are_spelled_out(tree):
    (tree.base / "repositories" / "\x1b[2J").symlink_to("a")
    assert found(tree) == [(K.NOT_COMPARED, f"{BASE}/repositories/\\x1b[2J")]


# --- The command --------------------------------------------------------------------------------------------------


def command(tree: Tree, *options: str) -> str:
    stdout = io.StringIO()
    call_command("database", "import", str(tree.root), "--verify", *options, stdout=stdout)
    return stdout.getvalue()


def test_the_command_says_that_both_are_equal(tree):
    assert command(tree).splitlines() == [
        "Compared: repositories 2, manifests 5, tags 3, blobs 14",
        "Storage and database are equal.",
    ]


def test_the_command_lists_differences_in_groups_and_fails(tree, capsys):
    execute("DELETE FROM tags")
    stdout = io.StringIO()
    with pytest.raises(CommandError, match="differ in 3 items"):
        call_command("database", "import", str(tree.root), "--verify", stdout=stdout)
    assert "tag_missing: 3" in stdout.getvalue()
    assert "a/_manifests/tags/one/current/link (names sha256:" in stdout.getvalue()


def test_the_command_writes_json(tree, tmp_path):
    report = json.loads(command(tree, "--json", "--report", str(tmp_path / "report.json")))
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (report["is_equal"], report["differences"]) == (True, {})


@pytest.mark.parametrize("option", ["--step-one", "--step-two", "--step-three", "--dry-run", "--strict"])
def test_a_comparison_takes_no_option_of_an_import(tree, option):
    with pytest.raises(CommandError, match="cannot be combined"):
        command(tree, option)
