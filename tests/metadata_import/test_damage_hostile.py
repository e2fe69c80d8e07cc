"""Trees that somebody made to do harm: nothing outside is read, nothing hangs, and each oddity is in the report."""

import os
import socket
from pathlib import Path

import pytest

from metadata_import.records import SkipReason as R
from tests.metadata_import.damages import BASE, Outcome, in_memory, skipped, with_its_tag
from tests.metadata_import.registry_rows import registry_rows, row_keys
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import Tree, digest_of, write

pytestmark = pytest.mark.usefixtures("committed_db")

ODD_NAME = os.fsdecode(b"\xff\xfe")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "link").write_text(digest_of(b"secret"))
    return Tree(tmp_path / "root")


def outside(tree: Tree) -> Path:
    return tree.root.parent / "outside"


def bad_image(tree: Tree) -> str:
    return tree.image("bad", tag="bad", layers=(b"bad",))


def linked_repository(tree: Tree) -> Outcome:
    path = tree.base / "repositories" / "linked"
    path.symlink_to(outside(tree))
    return skipped(R.SYMBOLIC_LINK, path, tree)


def linked_tag(tree: Tree) -> Outcome:
    path = tree.tag_link("bad", "bad").parent.parent
    path.symlink_to(outside(tree))
    return skipped(R.SYMBOLIC_LINK, path, tree)


def tag_link_that_leads_outside(tree: Tree) -> Outcome:
    path = tree.tag_link("bad", "bad")
    path.parent.mkdir(parents=True)
    path.symlink_to(outside(tree) / "link")
    return skipped(R.OUTSIDE_ROOT, path, tree)


def tag_link_that_is_a_pipe(tree: Tree) -> Outcome:
    path = tree.tag_link("bad", "bad")
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    return skipped(R.TAG_LINK_MISSING, path, tree)


def tag_that_is_a_socket(tree: Tree) -> Outcome:
    path = tree.repository("bad") / "_manifests" / "tags" / "s"
    directory = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{directory}/s")  # the whole path is too long for a socket
    os.close(directory)
    return skipped(R.STRAY_FILE, path, tree)


def tag_name_that_is_no_text(tree: Tree) -> Outcome:
    path = tree.repository("bad") / "_manifests" / "tags" / ODD_NAME
    path.mkdir()
    return Outcome({(R.TAG_NAME_INVALID, f"{BASE}/repositories/bad/_manifests/tags/\\udcff\\udcfe")})


def repository_name_that_is_no_text(tree: Tree) -> Outcome:
    tree.repository(ODD_NAME)
    return Outcome({(R.REPOSITORY_NAME_INVALID, f"{BASE}/repositories/\\udcff\\udcfe")})


def payload_that_is_a_device(tree: Tree) -> Outcome:
    path = tree.blob_path(bad_image(tree))
    path.unlink()
    path.symlink_to("/dev/zero")
    blob = skipped(R.OUTSIDE_ROOT, path, tree)
    return with_its_tag(R.OUTSIDE_ROOT, path, tree) | blob


def payload_that_is_a_pipe(tree: Tree) -> Outcome:
    path = tree.blob_path(bad_image(tree))
    path.unlink()
    os.mkfifo(path)
    return with_its_tag(R.MANIFEST_MISSING, path, tree) | skipped(R.PATH_NOT_FOUND, path, tree)


def revision_link_that_leads_outside(tree: Tree) -> Outcome:
    path = tree.revision_link("bad", bad_image(tree))
    path.unlink()
    path.symlink_to(outside(tree) / "link")
    return with_its_tag(R.OUTSIDE_ROOT, path, tree)


def revision_link_of_10_megabytes(tree: Tree) -> Outcome:
    path = tree.revision_link("bad", bad_image(tree))
    write(path, b"0" * 10_000_000)
    return with_its_tag(R.FILE_TOO_LARGE, path, tree)


def layer_link_that_cannot_be_read(tree: Tree) -> Outcome:
    bad_image(tree)
    path = tree.layer_link("bad", digest_of(b"bad"))
    return with_its_tag(R.STORAGE_UNREADABLE, path, tree) | Outcome(driver=in_memory(tree, broken=path))


def repository_that_cannot_be_listed(tree: Tree) -> Outcome:
    tree.image("closed", tag="t", layers=(b"closed",))
    path = tree.repository("closed")
    return skipped(R.STORAGE_UNREADABLE, path, tree) | Outcome(driver=in_memory(tree, broken=path))


def blob_directory_that_is_a_link(tree: Tree) -> Outcome:
    path = tree.base / "blobs" / "sha256" / "zz"
    path.symlink_to(outside(tree))
    return skipped(R.SYMBOLIC_LINK, path, tree)


def blob_that_is_a_pipe(tree: Tree) -> Outcome:
    path = tree.blob_path(digest_of(b"pipe"))
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    return skipped(R.PATH_NOT_FOUND, path, tree)


HOSTILE = [
    linked_repository,
    linked_tag,
    tag_link_that_leads_outside,
    tag_link_that_is_a_pipe,
    tag_that_is_a_socket,
    tag_name_that_is_no_text,
    repository_name_that_is_no_text,
    payload_that_is_a_device,
    payload_that_is_a_pipe,
    revision_link_that_leads_outside,
    revision_link_of_10_megabytes,
    layer_link_that_cannot_be_read,
    repository_that_cannot_be_listed,
    blob_directory_that_is_a_link,
    blob_that_is_a_pipe,
]


@pytest.mark.parametrize("harm", HOSTILE)
def test_harm_is_a_line_in_the_report_and_no_row(tree, harm):
    sound = tree.image("bad", tag="fine", layers=(b"fine",))
    outcome = harm(tree)
    report = import_tree(tree.root, driver=outcome.driver)
    assert {(skip.reason, skip.path) for skip in report.skips} == outcome.skips
    found = row_keys(registry_rows())
    assert (found["tags"], found["manifests"]) == ({("bad", "fine", sound)}, {("bad", sound)})
    assert found["repositories"] == {("bad",)}
    assert (digest_of(b"secret"),) not in found["blobs"]


def test_names_with_dots_do_not_climb_in_an_object_store(tree):
    sound = tree.image("bad", tag="fine", layers=(b"fine",))
    driver = in_memory(tree, broken=tree.root / "nothing")
    driver.files[f"{BASE}/repositories/../climbed/_manifests/tags/t/current/link"] = sound.encode()
    driver.files[f"{BASE}/repositories/bad/_manifests/tags/../current/link"] = sound.encode()
    report = import_tree(tree.root, driver=driver)
    assert {(skip.reason, skip.path) for skip in report.skips} == {
        (R.OUTSIDE_ROOT, f"{BASE}/repositories/.."),
        (R.OUTSIDE_ROOT, f"{BASE}/repositories/bad/_manifests/tags/../current/link"),
    }
    assert row_keys(registry_rows())["tags"] == {("bad", "fine", sound)}
