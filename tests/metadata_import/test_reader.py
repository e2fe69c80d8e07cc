"""Trees, whole and broken, become records and skips; nothing in a tree stops the reader."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from metadata_import import discovery, manifest_reader, reader
from metadata_import.reader import Reader
from metadata_import.records import Blob, RepositoryPart, Skip, SkipReason
from metadata_import.storage.filesystem import FilesystemDriver
from tests.fakes import MemoryDriver
from tests.metadata_import.trees import FOREIGN_LAYER, OCI_CONFIG, Tree, digest_of, encode, write

R = SkipReason


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "root")


def read(root: Path, *, concurrency: int = 4) -> tuple[list[RepositoryPart], list[Skip]]:
    """Read the repositories of a tree; return the parts and every skip."""
    with Reader(FilesystemDriver(root), concurrency=concurrency) as source:
        discovered = source.discover_repositories()
        parts = list(source.read_repositories(discovered.found))
    return parts, [*discovered.skips, *(skip for part in parts for skip in part.skips)]


def read_one(root: Path) -> tuple[RepositoryPart, list[SkipReason]]:
    parts, skips = read(root)
    assert len(parts) == 1
    return parts[0], [skip.reason for skip in skips]


def merged(parts: list[RepositoryPart]) -> tuple[RepositoryPart, list[SkipReason]]:
    """Return the parts of the only repository as one."""
    assert len({part.path for part in parts}) == 1
    manifests = tuple(manifest for part in parts for manifest in part.manifests)
    tags = tuple(tag for part in parts for tag in part.tags)
    skips = [skip.reason for part in parts for skip in part.skips]
    return RepositoryPart(parts[0].path, manifests, tags), skips


def read_blobs(root: Path) -> tuple[set[Blob], list[SkipReason]]:
    with Reader(FilesystemDriver(root), concurrency=4) as source:
        prefixes = source.discover_blob_prefixes()
        parts = list(source.read_blobs(prefixes.found))
    skips = [*prefixes.skips, *(skip for part in parts for skip in part.skips)]
    return {blob for part in parts for blob in part.blobs}, [skip.reason for skip in skips]


def tag_names(part: RepositoryPart) -> list[str]:
    return [tag.name for tag in part.tags]


# --- Whole trees ------------------------------------------------------------------------------------------------


def test_a_tree_that_a_registry_wrote_is_read_whole(registry_tree):
    parts, skips = read(registry_tree)
    assert skips == []
    tags = {part.path: sorted(tag_names(part)) for part in parts}
    assert tags == {
        "base": ["1.0", "latest"],
        "group/app": ["1.0", "2.0", "latest", "nested", "stable"],
        "group/app/worker": ["1.0"],
        "group/sub/project": ["docker", "docker-list"],
        "other/tools": ["v1"],
    }
    assert sum(len(part.manifests) for part in parts) == 12


def test_a_tree_without_repositories_is_empty(tmp_path):
    assert read(tmp_path) == ([], [])
    assert read_blobs(tmp_path) == (set(), [])


def test_a_repository_without_tags_is_still_one(tree):
    shutil.rmtree(tree.repository("a") / "_manifests" / "tags")
    part, reasons = read_one(tree.root)
    assert (part.path, part.tags, part.is_last, part.is_readable, reasons) == ("a", (), True, True, [])


def test_nested_repositories_are_found_and_other_directories_are_not(tree):
    for name in ("a", "a/b/c", "d/e"):
        tree.repository(name)
    (tree.base / "repositories" / "only" / "_layers").mkdir(parents=True)
    (tree.base / "repositories" / "_odd" / "x" / "_manifests").mkdir(parents=True)
    write(tree.base / "repositories" / "file", b"stray")
    parts, skips = read(tree.root)
    assert ([part.path for part in parts], skips) == (["a", "a/b/c", "d/e"], [])


def test_many_directories_are_visited_a_few_at_a_time(tmp_path, monkeypatch):
    names = [f"group{number % 3}/project{number}" for number in range(30)]
    for name in names:
        (tmp_path / "docker/registry/v2/repositories" / name / "_manifests").mkdir(parents=True)
    begun = []

    class Watched(ThreadPoolExecutor):
        def submit(self, *arguments):
            future = super().submit(*arguments)
            begun.append(future)
            assert sum(not each.done() for each in begun) <= 4
            return future

    monkeypatch.setattr(discovery, "VISITS_AT_ONCE", 4)
    with Watched(2) as pool:
        found = discovery.discover_repositories(FilesystemDriver(tmp_path), executor=pool)
    assert (sorted(found.found), found.skips, len(begun)) == (sorted(names), (), 34)


def test_an_index_in_an_index_comes_after_what_it_names(tree):
    image = tree.image("a")
    inner = tree.index("a", [image])
    outer = tree.index("a", [inner, image], tag="t")
    part, reasons = read_one(tree.root)
    assert [manifest.digest for manifest in part.manifests] == [image, inner, outer]
    assert part.manifests[-1].children == (inner, image)
    assert reasons == []


def test_an_untagged_subject_comes_before_its_referrer(tree):
    subject = tree.image("a")
    referrer = tree.image("a", tag="t", subject={"digest": subject, "size": 1}, artifactType="application/x")
    part, reasons = read_one(tree.root)
    assert [manifest.digest for manifest in part.manifests] == [subject, referrer]
    assert (part.manifests[1].subject, part.manifests[1].artifact_media_type) == (subject, "application/x")
    assert reasons == []


def referrer(tree: Tree, subject: str, **more) -> str:
    return tree.image("a", subject={"digest": subject, "size": 1}, annotations={"of": subject}, **more)


def test_untagged_referrers_come_after_their_subject_generation_by_generation(tree):
    image = tree.image("a", tag="t")
    signature = referrer(tree, image)
    countersignature = referrer(tree, signature)
    part, reasons = merged(read(tree.root)[0])
    assert [manifest.digest for manifest in part.manifests] == [image, signature, countersignature]
    assert [manifest.subject for manifest in part.manifests] == [None, image, signature]
    assert reasons == []


def test_untagged_manifests_that_refer_to_nothing_imported_stay_out(tree):
    image = tree.image("a", tag="t")
    untagged = tree.image("a", layers=(b"untagged",))
    referrer(tree, untagged)
    referrer(tree, digest_of(b"gone"))
    tree.blob_path(tree.image("a", layers=(b"lost",))).unlink()
    tree.blob_path(tree.image("a", layers=(b"garbled",))).write_bytes(b'{"subject":')
    part, reasons = read_one(tree.root)
    assert ([manifest.digest for manifest in part.manifests], reasons) == ([image], [])


def test_many_referrers_come_in_parts_and_a_broken_one_is_reported(tree, monkeypatch):
    monkeypatch.setattr(reader, "TAGS_PER_PART", 3)
    monkeypatch.setattr(reader, "REVISIONS_PER_PART", 2)
    image = tree.image("a", tag="t")
    signatures = {referrer(tree, image, layers=(f"{n}".encode(),)) for n in range(10)}
    broken = referrer(tree, image, config={"mediaType": OCI_CONFIG, "digest": digest_of(b"gone"), "size": 1})
    parts, skips = read(tree.root)
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert {manifest.digest for part in parts for manifest in part.manifests} == {image, *signatures}
    assert [skip.reason for skip in skips] == [R.CONFIG_MISSING]
    assert broken not in signatures


def test_tags_can_be_read_alone(tree):
    digest = tree.image("a", tag="t")
    tree.tag("a", "dangling", digest_of(b"gone"))
    write(tree.tag_link("a", "broken"), b"")
    with Reader(FilesystemDriver(tree.root), concurrency=2) as source:
        (part,) = source.read_tags(["a"])
    assert part.manifests == ()
    assert {tag.name: tag.digest for tag in part.tags} == {"t": digest, "dangling": digest_of(b"gone")}
    assert [skip.reason for skip in part.skips] == [R.DIGEST_INVALID]


def test_a_tree_in_an_object_store_is_read_as_one_in_files(registry_tree):
    files = {}
    for path in filter(Path.is_file, registry_tree.rglob("*")):
        os.utime(path, (0, 0))
        files[str(path.relative_to(registry_tree))] = path.read_bytes()
    with Reader(MemoryDriver(files, written_at=datetime.fromtimestamp(0, UTC)), concurrency=4) as source:
        parts = list(source.read_repositories(source.discover_repositories().found))
    assert parts == read(registry_tree)[0]


def test_foreign_layers_leave_no_record_and_need_no_data(tree):
    foreign = {"mediaType": FOREIGN_LAYER, "digest": digest_of(b"elsewhere"), "size": 5}
    tree.image("a", tag="t", layers=[foreign])
    part, reasons = read_one(tree.root)
    assert (part.manifests[0].layers, part.manifests[0].non_distributable_layers, reasons) == ((), True, [])


def test_a_large_config_is_not_kept(tree):
    large = tree.layer("a", b"x" * 256_001, media_type=OCI_CONFIG)
    tree.image("a", tag="large", config=large)
    exact = tree.layer("a", b"y" * 256_000, media_type=OCI_CONFIG)
    tree.image("a", tag="exact", config=exact)
    part, _ = read_one(tree.root)
    payloads = {manifest.config.size: manifest.config.payload for manifest in part.manifests}
    assert payloads == {256_001: None, 256_000: b"y" * 256_000}


def test_many_tags_come_in_parts_and_each_manifest_once(tree, monkeypatch):
    monkeypatch.setattr(reader, "TAGS_PER_PART", 3)
    digests = [tree.image("a", tag=f"t{n}") for n in range(5)]
    for number in range(5, 10):
        tree.tag("a", f"t{number}", digests[number - 5])
    parts, skips = read(tree.root)
    assert [part.is_last for part in parts] == [False, False, False, True]
    assert [len(part.tags) for part in parts] == [3, 3, 3, 1]
    assert [manifest.digest for part in parts for manifest in part.manifests] == digests
    assert skips == []


def test_heavy_parts_are_split_before_their_tags(tree, monkeypatch):
    monkeypatch.setattr(reader, "PART_WEIGHT_LIMIT_BYTES", 1)
    digests = [tree.image("a", tag=f"t{n}") for n in range(3)]
    parts, _ = read(tree.root)
    assert [[manifest.digest for manifest in part.manifests] for part in parts] == [[digest] for digest in digests]
    assert [len(part.tags) for part in parts] == [0, 0, 3]
    assert [part.is_last for part in parts] == [False, False, True]


def test_the_blobs_of_common_storage_have_the_sizes_of_their_files(tree):
    digests = {tree.blob(content): len(content) for content in (b"", b"1", b"22")}
    assert read_blobs(tree.root) == ({Blob(digest, size) for digest, size in digests.items()}, [])


# --- Broken trees -----------------------------------------------------------------------------------------------


def test_one_bad_tag_does_not_disturb_the_others(tree):
    tree.image("a", tag="good")
    (tree.repository("a") / "_manifests" / "tags" / "no-link").mkdir()
    for name, content in {"empty": b"", "newline": digest_of(b"").encode() + b"\n", "long": b"x" * 2000}.items():
        write(tree.tag_link("a", name), content)
    write(tree.tag_link("a", "sha384"), b"sha384:" + b"0" * 96)
    write(tree.repository("a") / "_manifests" / "tags" / "stray", b"")
    (tree.repository("a") / "_manifests" / "tags" / "linked").symlink_to("good")
    part, reasons = read_one(tree.root)
    assert tag_names(part) == ["good"]
    found = [R.TAG_LINK_MISSING, R.FILE_TOO_LARGE, R.DIGEST_UNSTORABLE, R.STRAY_FILE, R.SYMBOLIC_LINK]
    assert sorted(reasons) == sorted([*found, R.DIGEST_INVALID, R.DIGEST_LENGTH_INVALID])


def test_a_tag_whose_name_is_no_text_is_skipped(tree):
    tree.image("a", tag="good")
    odd = os.fsencode(tree.repository("a") / "_manifests" / "tags") + b"/\xff"
    Path(os.fsdecode(odd)).mkdir()
    part, reasons = read_one(tree.root)
    assert (tag_names(part), reasons) == (["good"], [R.TAG_NAME_INVALID])


def break_revision(tree: Tree, digest: str) -> None:
    tree.revision_link("a", digest).unlink()


def break_payload(tree: Tree, digest: str) -> None:
    tree.blob_path(digest).unlink()


def turn_payload_into_a_directory(tree: Tree, digest: str) -> None:
    tree.blob_path(digest).unlink()
    tree.blob_path(digest).mkdir()


def empty_payload(tree: Tree, digest: str) -> None:
    tree.blob_path(digest).write_bytes(b"")


def garble_payload(tree: Tree, digest: str) -> None:
    tree.blob_path(digest).write_bytes(b'{"schemaVersion": 2, "layers": [')


def nest_payload(tree: Tree, digest: str) -> None:
    tree.blob_path(digest).write_bytes(b"[" * 1_000_000)


def oversize_payload(tree: Tree, digest: str) -> None:
    tree.blob_path(digest).write_bytes(b" " * (4 * 1024 * 1024 + 1))


def garble_revision(tree: Tree, digest: str) -> None:
    tree.revision_link("a", digest).write_bytes(b"latest")


def link_payload_outside(tree: Tree, digest: str) -> None:
    outside = tree.root.parent / "outside"
    tree.blob_path(digest).replace(outside)
    tree.blob_path(digest).symlink_to(outside)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_revision, R.MANIFEST_MISSING),
        (break_payload, R.MANIFEST_MISSING),
        (turn_payload_into_a_directory, R.MANIFEST_MISSING),
        (empty_payload, R.MANIFEST_EMPTY),
        (garble_payload, R.MANIFEST_MALFORMED),
        (nest_payload, R.MANIFEST_MALFORMED),
        (oversize_payload, R.FILE_TOO_LARGE),
        (garble_revision, R.DIGEST_INVALID),
        (link_payload_outside, R.OUTSIDE_ROOT),
    ],
)
def test_a_damaged_manifest_is_skipped_with_the_tags_on_it(tree, damage, reason):
    bad = tree.image("a", tag="bad")
    tree.tag("a", "worse", bad)
    good = tree.image("a", tag="good", layers=(b"c",))
    damage(tree, bad)
    part, reasons = read_one(tree.root)
    assert [manifest.digest for manifest in part.manifests] == [good]
    assert tag_names(part) == ["good"]
    assert reasons == [reason, R.TAG_WITHOUT_MANIFEST, R.TAG_WITHOUT_MANIFEST]


def test_a_payload_at_the_limit_is_read(tree):
    padded = encode({"schemaVersion": 2, "manifests": []}).ljust(4 * 1024 * 1024)
    tree.manifest("a", padded, tag="t")
    part, reasons = read_one(tree.root)
    assert (len(part.manifests), reasons) == (1, [])


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("damage", ["link", "data"])
def test_without_its_config_an_image_is_skipped(tree, damage, size):
    config = tree.layer("a", b"c" * size, media_type=OCI_CONFIG)
    tree.image("a", tag="t", config=config)
    path = tree.layer_link("a", config["digest"]) if damage == "link" else tree.blob_path(config["digest"])
    path.unlink()
    part, reasons = read_one(tree.root)
    assert (part.manifests, part.tags, reasons) == ((), (), [R.CONFIG_MISSING, R.TAG_WITHOUT_MANIFEST])


@pytest.mark.parametrize("damage", ["link", "data"])
def test_without_a_layer_an_image_is_kept_without_it(tree, damage):
    tree.image("a", tag="t", layers=(b"one", b"two"))
    path = tree.layer_link("a", digest_of(b"one")) if damage == "link" else tree.blob_path(digest_of(b"one"))
    path.unlink()
    part, reasons = read_one(tree.root)
    assert [layer.digest for layer in part.manifests[0].layers] == [digest_of(b"two")]
    assert (tag_names(part), reasons) == (["t"], [R.LAYER_MISSING])


def test_a_garbled_layer_link_costs_the_image(tree):
    tree.image("a", tag="t")
    tree.layer_link("a", digest_of(b"a")).write_bytes(b"latest")
    part, reasons = read_one(tree.root)
    assert (part.manifests, reasons) == ((), [R.DIGEST_INVALID, R.TAG_WITHOUT_MANIFEST])


def test_an_index_keeps_the_children_that_can_be_read(tree):
    good, bad = tree.image("a"), tree.image("a", layers=(b"c",))
    tree.blob_path(bad).unlink()
    index = tree.index("a", [bad, "latest", good], tag="t")
    part, reasons = read_one(tree.root)
    assert part.manifests[-1].digest == index
    assert part.manifests[-1].children == (good,)
    assert reasons == [R.MANIFEST_MISSING, R.CHILD_MISSING, R.DIGEST_INVALID]


def test_a_missing_subject_is_dropped_and_reported(tree):
    tree.image("a", tag="t", subject={"digest": digest_of(b"gone"), "size": 1})
    part, reasons = read_one(tree.root)
    assert part.manifests[0].subject is None
    assert reasons == [R.MANIFEST_MISSING, R.SUBJECT_MISSING]


def test_indexes_in_a_circle_end(tree):
    first, second = digest_of(b"first"), digest_of(b"second")
    tree.index("a", [second], digest=first, tag="t1")
    tree.index("a", [first, second], digest=second, tag="t2")
    part, reasons = read_one(tree.root)
    assert {manifest.digest: manifest.children for manifest in part.manifests} == {first: (second,), second: ()}
    assert set(reasons) == {R.REFERENCE_CYCLE, R.CHILD_MISSING}
    assert tag_names(part) == ["t1", "t2"]


def test_indexes_in_indexes_are_followed_to_a_limit(tree):
    digest = tree.image("a")
    for _ in range(100):
        digest = tree.index("a", [digest])
    tree.tag("a", "t", digest)
    part, reasons = read_one(tree.root)
    assert len(part.manifests) == manifest_reader.REFERENCE_DEPTH_LIMIT + 1
    assert reasons == [R.REFERENCES_TOO_DEEP, R.CHILD_MISSING]
    assert tag_names(part) == ["t"]


def test_what_one_tag_leads_to_is_limited_in_size(tree, monkeypatch):
    monkeypatch.setattr(manifest_reader, "REFERENCE_BYTES_LIMIT", 1)
    tree.index("a", [tree.image("a"), tree.image("a", layers=(b"c",))], tag="t")
    part, reasons = read_one(tree.root)
    assert len(part.manifests) == 2
    assert reasons == [R.REFERENCES_TOO_LARGE, R.CHILD_MISSING]


@pytest.mark.parametrize("content", [b"", b"md5:abc"])
def test_a_broken_layer_link_is_reported_by_its_own_path(tree, content):
    tree.image("a", tag="t", layers=(b"one", b"two"))
    write(tree.layer_link("a", digest_of(b"two")), content)
    with Reader(FilesystemDriver(tree.root), concurrency=2) as reader:
        (part,) = reader.read_repositories(["a"])
    link = tree.layer_link("a", digest_of(b"two")).relative_to(tree.root)
    assert (part.manifests, part.skips[0].path) == ((), str(link))


def test_repositories_with_impossible_names_are_skipped(tree):
    tree.repository("Upper")
    tree.repository("/".join(["long" * 10] * 7))
    tree.image("good", tag="t")
    parts, skips = read(tree.root)
    assert [part.path for part in parts] == ["good"]
    assert [skip.reason for skip in skips] == [R.REPOSITORY_NAME_INVALID, R.REPOSITORY_NAME_INVALID]


def test_linked_repositories_are_not_walked(tree):
    tree.image("good", tag="t")
    (tree.base / "repositories" / "loop").symlink_to(".")
    (tree.base / "repositories" / "outside").symlink_to("/")
    parts, skips = read(tree.root)
    assert [part.path for part in parts] == ["good"]
    assert [skip.reason for skip in skips] == [R.SYMBOLIC_LINK, R.SYMBOLIC_LINK]


def test_a_repository_whose_tags_cannot_be_listed_is_bare(tree):
    tags = tree.repository("a") / "_manifests" / "tags"
    tags.rmdir()
    tags.symlink_to("/etc")
    part, reasons = read_one(tree.root)
    assert (part.is_readable, part.tags, reasons) == (False, (), [R.REPOSITORY_UNREADABLE])


def test_odd_files_among_the_blobs_are_skipped_or_passed_over(tree):
    good = tree.blob(b"good")
    blobs = tree.base / "blobs" / "sha256"
    write(blobs / "aa" / "not-hex" / "data", b"")
    write(blobs / "x" / "data", b"")
    write(blobs / "data", b"")
    write(blobs / "aa" / "README", b"passed over")
    write(blobs.parent / "md5" / "00" / ("0" * 32) / "data", b"")
    (blobs / "bb").symlink_to("aa")
    found, reasons = read_blobs(tree.root)
    assert found == {Blob(good, 4)}
    assert sorted(reasons) == [R.BLOB_PATH_INVALID] * 4 + [R.SYMBOLIC_LINK]
