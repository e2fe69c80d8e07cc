"""Damages to tags, to repositories as a whole and to common storage."""

import shutil
from collections.abc import Iterator

from metadata_import.records import SkipReason as R
from metadata_import.storage.base import Entry
from metadata_import.storage.filesystem import FilesystemDriver
from tests.metadata_import.damages import BASE, GARBAGE, MD5, SHA384, Damages, Outcome, image_rows, in_memory, skipped
from tests.metadata_import.trees import Tree, digest_of, write

DAMAGES = Damages()

# --- Tags ---------------------------------------------------------------------------------------------------------


@DAMAGES.kind(1)
def no_tags_directory(tree: Tree) -> Outcome:
    shutil.rmtree(tree.repository("bare") / "_manifests" / "tags")
    return Outcome(rows={"repositories": {("bare",)}})


@DAMAGES.kind(2)
def tag_without_link(tree: Tree) -> Outcome:
    tree.tag_link("bad", "bad").parent.mkdir(parents=True)
    return skipped(R.TAG_LINK_MISSING, tree.tag_link("bad", "bad"), tree)


def tag_link_holds(tree: Tree, shape: tuple[bytes, R]) -> Outcome:
    tree.image("bad", layers=(b"untagged",))
    write(tree.tag_link("bad", "bad"), shape[0])
    return skipped(shape[1], tree.tag_link("bad", "bad"), tree)


DAMAGES.shapes(
    3,
    "tag_link",
    tag_link_holds,
    empty=(b"", R.DIGEST_INVALID),
    garbage=(GARBAGE.encode(), R.DIGEST_INVALID),
    binary=(b"\xff\x00", R.DIGEST_INVALID),
    unknown_algorithm=(MD5.encode(), R.DIGEST_UNSUPPORTED),
)
DAMAGES.shapes(
    4,
    "tag_link",
    tag_link_holds,
    stops=True,
    newline=(digest_of(b"").encode() + b"\n", R.DIGEST_LENGTH_INVALID),
    space=(digest_of(b"").encode() + b" ", R.DIGEST_LENGTH_INVALID),
    cut_off=(digest_of(b"").encode()[:-1], R.DIGEST_LENGTH_INVALID),
    of_10_megabytes=(b"0" * 10_000_000, R.FILE_TOO_LARGE),
)
DAMAGES.shapes(5, "tag_link", tag_link_holds, stops=True, sha384=(SHA384.encode(), R.DIGEST_UNSTORABLE))


@DAMAGES.kind(6, stops=True)
def unreadable_tag_link(tree: Tree) -> Outcome:
    tree.image("bad", tag="bad", layers=(b"bad",))
    outcome = skipped(R.STORAGE_UNREADABLE, tree.tag_link("bad", "bad"), tree)
    return outcome | Outcome(driver=in_memory(tree, broken=tree.tag_link("bad", "bad")))


@DAMAGES.kind(7, stops=True)
def stray_file_among_tags(tree: Tree) -> Outcome:
    write(tree.repository("bad") / "_manifests" / "tags" / "bad", b"")
    return skipped(R.STRAY_FILE, tree.repository("bad") / "_manifests" / "tags" / "bad", tree)


# --- Repositories -------------------------------------------------------------------------------------------------


def repository_named(tree: Tree, name: str) -> Outcome:
    tree.image(name, tag="t", layers=(b"unreachable",))
    return skipped(R.REPOSITORY_NAME_INVALID, tree.repository(name), tree)


DAMAGES.shapes(
    32, "repository_named", repository_named, stops=True, Upper="Upper", dashed="a/-b", long="/".join(["x" * 60] * 5)
)


class VanishingDriver(FilesystemDriver):
    """A filesystem where the repository `gone` is deleted right after it was found."""

    def list(self, path: str) -> Iterator[Entry]:
        if path.endswith("/gone/_manifests/tags"):
            shutil.rmtree(f"{self.root}/{BASE}/repositories/gone")
        return super().list(path)


@DAMAGES.kind(33)
def repository_that_vanishes(tree: Tree) -> Outcome:
    tree.image("gone", tag="t", layers=(b"gone",))
    return Outcome(rows={"repositories": {("gone",)}}, driver=VanishingDriver(tree.root))


@DAMAGES.kind(34, stops=True)
def tag_name_over_255_characters(tree: Tree) -> Outcome:
    tree.image("bad", tag="short", layers=(b"bad",))
    link, long = f"{BASE}/repositories/bad/_manifests/tags/short/current/link", "t" * 256
    driver = in_memory(tree, broken=tree.root / "nothing")
    driver.files[link.replace("short", long)] = driver.files.pop(link)
    return Outcome({(R.TAG_NAME_INVALID, f"{BASE}/repositories/bad/_manifests/tags/{long}")}, driver=driver)


# --- Common storage -----------------------------------------------------------------------------------------------


def blob_path_is(tree: Tree, path: str) -> Outcome:
    write(tree.base / "blobs" / path, b"what is this")
    return skipped(R.BLOB_PATH_INVALID, tree.base / "blobs" / path, tree)


DAMAGES.shapes(
    35, "blob_path", blob_path_is, stops=True, not_hex="sha256/zz/zzzz/data", too_short="sha256/00/00ff/data"
)
DAMAGES.shapes(
    36, "blob_path", blob_path_is, stops=True, short="sha256/x/data", shorter="sha256/00/x/data", bare="sha256/data"
)


@DAMAGES.kind(37)
def payload_of_another_digest(tree: Tree) -> Outcome:
    other = tree.image("bad", layers=(b"other",))
    digest = tree.manifest("bad", tree.blob_path(other).read_bytes() + b" ", tag="bad", digest=digest_of(b"claimed"))
    return image_rows(tree, digest)


@DAMAGES.kind(37)
def layer_of_another_size(tree: Tree) -> Outcome:
    layer = {**tree.layer("bad", b"layer"), "size": 1_000_000}
    return image_rows(tree, tree.image("bad", tag="bad", layers=(layer,)))


@DAMAGES.kind(38)
def layer_of_zero_bytes(tree: Tree) -> Outcome:
    digest = tree.image("bad", tag="bad", layers=(b"emptied",))
    write(tree.blob_path(digest_of(b"emptied")), b"")
    return image_rows(tree, digest)
