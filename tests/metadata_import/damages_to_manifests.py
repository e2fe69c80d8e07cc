"""Damages to manifests: their links, payloads, configurations, layers and children."""

import json
import shutil
from collections.abc import Callable
from typing import Any

from metadata_import.records import SkipReason as R
from tests.metadata_import.damages import (
    GARBAGE,
    MD5,
    SHORT,
    Damages,
    Outcome,
    image_rows,
    index_rows,
    skipped,
    with_its_tag,
)
from tests.metadata_import.trees import (
    DOCKER_IMAGE,
    FOREIGN_LAYER,
    OCI_CONFIG,
    OCI_IMAGE,
    OCI_INDEX,
    OCI_LAYER,
    Tree,
    digest_of,
    encode,
    write,
)

DAMAGES = Damages()

# --- Manifests ----------------------------------------------------------------------------------------------------


@DAMAGES.kind(8)
def no_revision_link(tree: Tree) -> Outcome:
    link = tree.revision_link("bad", tree.image("bad", tag="bad", layers=(b"bad",)))
    link.unlink()
    return with_its_tag(R.MANIFEST_MISSING, link, tree)


@DAMAGES.kind(8)
def no_revisions_directory(tree: Tree) -> Outcome:
    link = tree.revision_link("bare", tree.image("bare", tag="bad", layers=(b"bad",)))
    shutil.rmtree(tree.repository("bare") / "_manifests" / "revisions")
    dangling = skipped(R.TAG_WITHOUT_MANIFEST, tree.tag_link("bare", "bad"), tree)
    return skipped(R.MANIFEST_MISSING, link, tree) | dangling | Outcome(rows={"repositories": {("bare",)}})


@DAMAGES.kind(8)
def no_payload(tree: Tree) -> Outcome:
    payload = tree.blob_path(tree.image("bad", tag="bad", layers=(b"bad",)))
    payload.unlink()
    return with_its_tag(R.MANIFEST_MISSING, payload, tree)


def revision_link_holds(tree: Tree, content: bytes) -> Outcome:
    link = tree.revision_link("bad", tree.image("bad", tag="bad", layers=(b"bad",)))
    write(link, content)
    return with_its_tag(R.DIGEST_INVALID, link, tree)


DAMAGES.shapes(9, "revision_link", revision_link_holds, empty=b"", garbage=GARBAGE.encode())


def index_names(tree: Tree, shape: tuple[str, R]) -> Outcome:
    child = tree.image("bad", layers=(b"child",))
    index = tree.index("bad", [shape[0], child], tag="bad")
    kept = index_rows(index, [child]) | image_rows(tree, child, tag=None)
    return kept | skipped(shape[1], tree.revision_link("bad", index), tree)


DAMAGES.shapes(
    10,
    "index_names",
    index_names,
    garbage=(GARBAGE, R.DIGEST_INVALID),
    nothing=("", R.DIGEST_INVALID),
    unknown_algorithm=(MD5, R.DIGEST_UNSUPPORTED),
)
DAMAGES.shapes(10, "index_names", index_names, stops=True, wrong_length=(SHORT, R.DIGEST_LENGTH_INVALID))


def payload_is(tree: Tree, shape: tuple[Any, R]) -> Outcome:
    payload = shape[0] if isinstance(shape[0], bytes) else encode(shape[0])
    link = tree.revision_link("bad", tree.manifest("bad", payload, tag="bad"))
    return with_its_tag(shape[1], link, tree)


IMAGE = {"schemaVersion": 2, "mediaType": OCI_IMAGE}
INDEX = {"schemaVersion": 2, "mediaType": OCI_INDEX}
DAMAGES.shapes(11, "payload", payload_is, empty=(b"", R.MANIFEST_EMPTY))
DAMAGES.shapes(
    12,
    "payload",
    payload_is,
    stops=True,
    no_json=(b"{", R.MANIFEST_MALFORMED),
    array=([], R.MANIFEST_MALFORMED),
    version_is_text=({**IMAGE, "schemaVersion": "2"}, R.MANIFEST_MALFORMED),
    size_is_text=({**IMAGE, "config": {"size": "1"}}, R.MANIFEST_MALFORMED),
    manifests_is_object=({"schemaVersion": 2, "manifests": {}}, R.MANIFEST_MALFORMED),
)
DAMAGES.shapes(
    13,
    "payload",
    payload_is,
    stops=True,
    of_unknown_type=({**IMAGE, "mediaType": "application/vnd.oci.artifact.manifest.v1+json"}, R.MANIFEST_UNSUPPORTED),
)
DAMAGES.shapes(
    14,
    "payload",
    payload_is,
    without_version=({"mediaType": OCI_IMAGE}, R.SCHEMA_UNSUPPORTED),
    of_version_3=({**IMAGE, "schemaVersion": 3}, R.SCHEMA_UNSUPPORTED),
    null=({**IMAGE, "schemaVersion": None}, R.SCHEMA_UNSUPPORTED),
)
DAMAGES.shapes(15, "payload", payload_is, of_schema_1=({"schemaVersion": 1, "fsLayers": []}, R.SCHEMA_UNSUPPORTED))


@DAMAGES.kind(16, stops=True)
def payload_over_4_mebibytes(tree: Tree) -> Outcome:
    payload = tree.blob_path(tree.manifest("bad", encode(INDEX).ljust(4 * 1024 * 1024 + 1), tag="bad"))
    return with_its_tag(R.FILE_TOO_LARGE, payload, tree)


# --- Configurations -----------------------------------------------------------------------------------------------


def image_with_config(tree: Tree, **changes: Any) -> dict[str, Any]:
    """Add an image with a layer that nothing else has, and return the descriptor of its config."""
    config = {**tree.layer("bad", b"config", media_type=OCI_CONFIG), **changes}
    tree.image("bad", tag="bad", layers=(b"only here",), config=config)
    return config


@DAMAGES.kind(16, stops=True)
def config_over_4_mebibytes(tree: Tree) -> Outcome:
    path = tree.blob_path(image_with_config(tree)["digest"])
    write(path, b" " * (4 * 1024 * 1024 + 1))
    return with_its_tag(R.FILE_TOO_LARGE, path, tree)


@DAMAGES.kind(17)
def no_config_link(tree: Tree) -> Outcome:
    link = tree.layer_link("bad", image_with_config(tree)["digest"])
    link.unlink()
    return with_its_tag(R.CONFIG_MISSING, link, tree)


@DAMAGES.kind(17)
def no_config_data(tree: Tree) -> Outcome:
    path = tree.blob_path(image_with_config(tree)["digest"])
    path.unlink()
    return with_its_tag(R.CONFIG_MISSING, path, tree)


def config_link_holds(tree: Tree, content: bytes) -> Outcome:
    link = tree.layer_link("bad", image_with_config(tree)["digest"])
    write(link, content)
    return with_its_tag(R.DIGEST_INVALID, link, tree)


DAMAGES.shapes(18, "config_link", config_link_holds, empty=b"", garbage=GARBAGE.encode())


def config_is(tree: Tree, shape: tuple[Any, R]) -> Outcome:
    config = {"mediaType": OCI_CONFIG, "size": 1, **shape[0]}
    digest = tree.image("bad", tag="bad", layers=(b"only here",), config=config)
    return with_its_tag(shape[1], tree.revision_link("bad", digest), tree)


DAMAGES.shapes(
    19,
    "config_digest",
    config_is,
    unknown_algorithm=({"digest": MD5}, R.DIGEST_UNSUPPORTED),
    absent=({}, R.DIGEST_INVALID),
)


@DAMAGES.kind(20)
def no_large_config(tree: Tree) -> Outcome:
    path = tree.blob_path(image_with_config(tree, size=256_001)["digest"])
    path.unlink()
    return with_its_tag(R.CONFIG_MISSING, path, tree)


@DAMAGES.kind(21)
def unknown_config_type(tree: Tree) -> Outcome:
    config = tree.layer("bad", b"config", media_type="application/x-unheard-of-config")
    return image_rows(tree, tree.image("bad", tag="bad", config=config))


DAMAGES.shapes(
    21, "config_type", config_is, stops=True, blank=({"digest": digest_of(b""), "mediaType": " "}, R.MEDIA_TYPE_INVALID)
)


# --- Layers -------------------------------------------------------------------------------------------------------


@DAMAGES.kind(22)
def no_layer_link(tree: Tree) -> Outcome:
    digest = tree.image("bad", tag="bad", layers=(b"lost", b"kept"))
    link = tree.layer_link("bad", digest_of(b"lost"))
    link.unlink()
    return skipped(R.LAYER_MISSING, link, tree) | image_rows(tree, digest, without={digest_of(b"lost")})


@DAMAGES.kind(23)
def no_layer_data(tree: Tree) -> Outcome:
    digest = tree.image("bad", tag="bad", layers=(b"lost", b"kept"))
    tree.blob_path(digest_of(b"lost")).unlink()
    lost = skipped(R.LAYER_MISSING, tree.layer_link("bad", digest_of(b"lost")), tree)
    return lost | image_rows(tree, digest, without={digest_of(b"lost")})


def layer_link_holds(tree: Tree, content: bytes) -> Outcome:
    tree.image("bad", tag="bad", layers=(b"first", b"second"))
    link = tree.layer_link("bad", digest_of(b"second"))
    write(link, content)
    return with_its_tag(R.DIGEST_INVALID, link, tree)


def layer_digest_is(tree: Tree, shape: tuple[str, R]) -> Outcome:
    layer = {"mediaType": OCI_LAYER, "digest": shape[0], "size": 1}
    digest = tree.image("bad", tag="bad", layers=(b"first", layer))
    return with_its_tag(shape[1], tree.revision_link("bad", digest), tree)


DAMAGES.shapes(24, "layer_link", layer_link_holds, empty=b"", garbage=GARBAGE.encode())
DAMAGES.shapes(24, "layer_digest", layer_digest_is, unknown_algorithm=(MD5, R.DIGEST_UNSUPPORTED))
DAMAGES.shapes(25, "layer_digest", layer_digest_is, stops=True, wrong_length=(SHORT, R.DIGEST_LENGTH_INVALID))


@DAMAGES.kind(26)
def unknown_layer_type(tree: Tree) -> Outcome:
    layer = tree.layer("bad", b"layer", media_type="application/x-unheard-of-layer")
    return image_rows(tree, tree.image("bad", tag="bad", layers=(layer,)))


@DAMAGES.kind(27)
def foreign_layer(tree: Tree) -> Outcome:
    layer = {"mediaType": FOREIGN_LAYER, "digest": digest_of(b"elsewhere"), "size": 1}
    return image_rows(tree, tree.image("bad", tag="bad", layers=(b"local", layer)))


# --- Indexes ------------------------------------------------------------------------------------------------------


def child_is(tree: Tree, shape: tuple[Callable[[Tree, str], Any], R]) -> Outcome:
    """Damage the second of three children; the index keeps the two others, whatever it is."""
    first, bad, last = (
        tree.image("bad", layers=(name,), config=tree.layer("bad", b"config of " + name, media_type=OCI_CONFIG))
        for name in (b"first", b"bad", b"last")
    )
    index = tree.index("bad", [first, bad, last], tag="bad")
    kept = image_rows(tree, first, tag=None) | image_rows(tree, last, tag=None) | index_rows(index, [first, last])
    lost = skipped(R.CHILD_MISSING, tree.revision_link("bad", bad), tree)
    return kept | lost | skipped(shape[1], shape[0](tree, bad), tree)


def remove(path: Any) -> Any:
    path.unlink()
    return path


def overwrite(path: Any, content: bytes) -> Any:
    write(path, content)
    return path


def rewrite_payload(tree: Tree, digest: str, content: bytes) -> Any:
    write(tree.blob_path(digest), content)
    return tree.revision_link("bad", digest)


def config_of(tree: Tree, digest: str) -> str:
    return str(json.loads(tree.blob_path(digest).read_bytes())["config"]["digest"])


def other_config(tree: Tree, digest: str, config: str) -> Any:
    content = json.loads(tree.blob_path(digest).read_bytes())
    return rewrite_payload(tree, digest, encode({**content, "config": {**content["config"], "digest": config}}))


DAMAGES.shapes(
    28,
    "child",
    child_is,
    without_link=(lambda tree, bad: remove(tree.revision_link("bad", bad)), R.MANIFEST_MISSING),
    without_payload=(lambda tree, bad: remove(tree.blob_path(bad)), R.MANIFEST_MISSING),
    with_bad_link=(lambda tree, bad: overwrite(tree.revision_link("bad", bad), b""), R.DIGEST_INVALID),
    empty=(lambda tree, bad: rewrite_payload(tree, bad, b""), R.MANIFEST_EMPTY),
    of_schema_1=(lambda tree, bad: rewrite_payload(tree, bad, b'{"schemaVersion":1}'), R.SCHEMA_UNSUPPORTED),
)
DAMAGES.shapes(
    29,
    "child",
    child_is,
    without_config=(lambda tree, bad: remove(tree.layer_link("bad", config_of(tree, bad))), R.CONFIG_MISSING),
    with_bad_config_link=(
        lambda tree, bad: overwrite(tree.layer_link("bad", config_of(tree, bad)), b""),
        R.DIGEST_INVALID,
    ),
    with_odd_config=(lambda tree, bad: other_config(tree, bad, MD5), R.DIGEST_UNSUPPORTED),
    with_bad_layer_link=(
        lambda tree, bad: overwrite(tree.layer_link("bad", digest_of(b"bad")), GARBAGE.encode()),
        R.DIGEST_INVALID,
    ),
)
DAMAGES.shapes(
    30,
    "child",
    child_is,
    stops=True,
    malformed=(lambda tree, bad: rewrite_payload(tree, bad, b"{"), R.MANIFEST_MALFORMED),
    of_unknown_type=(
        lambda tree, bad: rewrite_payload(tree, bad, encode({**IMAGE, "mediaType": "x/y"})),
        R.MANIFEST_UNSUPPORTED,
    ),
)


@DAMAGES.kind(30)
def index_in_an_index(tree: Tree) -> Outcome:
    image = tree.image("bad", layers=(b"nested",))
    inner = tree.index("bad", [image])
    outer = tree.index("bad", [inner], tag="bad")
    inner_rows = {"manifests": {("bad", inner)}, "references": {("bad", inner, image)}}
    return image_rows(tree, image, tag=None) | index_rows(outer, [inner]) | Outcome(rows=inner_rows)


@DAMAGES.kind(31, stops=True)
def cache_that_lists_manifests(tree: Tree) -> Outcome:
    config = tree.layer("bad", b"cache", media_type="application/vnd.buildkit.cacheconfig.v0")
    image = {"mediaType": DOCKER_IMAGE, "digest": digest_of(b"image"), "size": 1}
    digest = tree.manifest("bad", encode({**INDEX, "manifests": [config, image]}), tag="bad")
    return with_its_tag(R.CACHE_INDEX_MIXED, tree.revision_link("bad", digest), tree)
