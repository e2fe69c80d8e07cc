"""Images, repositories and blobs, each tree with the rows that it must become, written down by hand."""

from typing import Any

import pytest

from tests.metadata_import.golden_rows import (
    DOCKER_CONFIG,
    DOCKER_IMAGE,
    DOCKER_LAYER,
    OCI_CONFIG,
    OCI_IMAGE,
    OCI_LAYER,
    OCTETS,
    Golden,
    Rows,
    bare_image,
    bare_image_row,
    blobs,
    check,
    descriptor,
    image_row,
    store_blobs,
)
from tests.metadata_import.trees import FOREIGN_LAYER, Tree, digest_of, encode, write

pytestmark = pytest.mark.usefixtures("committed_db")

TREES: list[Golden] = []


def golden(build: Golden) -> Golden:
    TREES.append(build)
    return build


# --- Images -------------------------------------------------------------------------------------------------------


@golden
def docker_image(tree: Tree) -> Rows:
    config, one, two = b"{}", b"first", b"second!"
    store_blobs(tree, "app", config, one, two)
    payload = encode(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_IMAGE,
            "config": descriptor(config, DOCKER_CONFIG),
            "layers": [descriptor(one, DOCKER_LAYER), descriptor(two, DOCKER_LAYER)],
        }
    )
    digest = tree.manifest("app", payload, tag="1.0")
    row = image_row(
        "app", digest, payload, 2 + 5 + 7 + len(payload), (DOCKER_CONFIG, digest_of(config), b"{}"), type=DOCKER_IMAGE
    )
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "1.0", digest)},
        "manifests": {row},
        "layers": {
            ("app", digest, digest_of(one), 5, DOCKER_LAYER),
            ("app", digest, digest_of(two), 7, DOCKER_LAYER),
        },
        "links": {("app", digest_of(config)), ("app", digest_of(one)), ("app", digest_of(two))},
        "blobs": blobs(config, one, two, payload),
    }


@golden
def oci_image_without_media_type(tree: Tree) -> Rows:
    config, layer = b'{"os":"linux"}', b"layer"
    store_blobs(tree, "group/app", config, layer)
    content = {"schemaVersion": 2, "config": descriptor(config, OCI_CONFIG), "layers": [descriptor(layer, OCI_LAYER)]}
    payload = encode(content)
    digest = tree.manifest("group/app", payload, tag="latest")
    return {
        "repositories": {("group/app", "app", "group", None)},
        "tags": {("group/app", "latest", digest)},
        "manifests": {
            image_row("group/app", digest, payload, 14 + 5 + len(payload), (OCI_CONFIG, digest_of(config), config))
        },
        "layers": {("group/app", digest, digest_of(layer), 5, OCI_LAYER)},
        "links": {("group/app", digest_of(config)), ("group/app", digest_of(layer))},
        "blobs": blobs(config, layer, payload),
    }


@golden
def large_config(tree: Tree) -> Rows:
    kept, dropped = b"k" * 256_000, b"d" * 256_001
    small, small_payload = bare_image(tree, "app", kept, tag="kept")
    large, large_payload = bare_image(tree, "app", dropped, tag="dropped")
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "kept", small), ("app", "dropped", large)},
        "manifests": {
            bare_image_row("app", small, small_payload, kept),
            image_row(
                "app", large, large_payload, 256_001 + len(large_payload), (OCI_CONFIG, digest_of(dropped), None)
            ),
        },
        "links": {("app", digest_of(kept)), ("app", digest_of(dropped))},
        "blobs": blobs(kept, dropped, small_payload, large_payload),
    }


def layered_image(tree: Tree, *layers: dict[str, Any]) -> tuple[str, bytes]:
    """Store an image `app:t` with the config {} and these descriptors, whose blobs may be missing."""
    store_blobs(tree, "app", b"{}")
    content = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": descriptor(b"{}", OCI_CONFIG), "layers": layers}
    payload = encode(content)
    return tree.manifest("app", payload, tag="t"), payload


def layered_rows(digest: str, payload: bytes, total_size: int, **more: Any) -> Rows:
    config = (OCI_CONFIG, digest_of(b"{}"), b"{}")
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", digest)},
        "manifests": {image_row("app", digest, payload, total_size, config, **more)},
    }


@golden
def foreign_layer(tree: Tree) -> Rows:
    store_blobs(tree, "app", b"local")
    digest, payload = layered_image(
        tree,
        {"mediaType": FOREIGN_LAYER, "size": 1_000, "digest": digest_of(b"elsewhere")},
        descriptor(b"local", OCI_LAYER),
    )
    return {
        **layered_rows(digest, payload, 2 + 1_000 + 5 + len(payload), foreign=True),
        "layers": {("app", digest, digest_of(b"local"), 5, OCI_LAYER)},
        "links": {("app", digest_of(b"{}")), ("app", digest_of(b"local"))},
        "blobs": blobs(b"{}", b"local", payload),
    }


@golden
def layer_listed_twice(tree: Tree) -> Rows:
    store_blobs(tree, "app", b"same")
    digest, payload = layered_image(tree, descriptor(b"same", OCI_LAYER), descriptor(b"same", DOCKER_LAYER))
    return {
        **layered_rows(digest, payload, 2 + 4 + 4 + len(payload)),
        "layers": {("app", digest, digest_of(b"same"), 4, OCI_LAYER)},
        "links": {("app", digest_of(b"{}")), ("app", digest_of(b"same"))},
        "blobs": blobs(b"{}", b"same", payload),
    }


@golden
def layer_without_data(tree: Tree) -> Rows:
    store_blobs(tree, "app", b"here")
    digest, payload = layered_image(tree, descriptor(b"here", OCI_LAYER), descriptor(b"gone!", OCI_LAYER))
    return {
        **layered_rows(digest, payload, 2 + 4 + 5 + len(payload)),
        "layers": {("app", digest, digest_of(b"here"), 4, OCI_LAYER)},
        "links": {("app", digest_of(b"{}")), ("app", digest_of(b"here"))},
        "blobs": blobs(b"{}", b"here", payload),
    }


@golden
def types_that_the_database_has_not_seen(tree: Tree) -> Rows:
    store_blobs(tree, "app", b"chart", b"meta")
    payload = encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": descriptor(b"meta", "application/x-golden-config"),
            "layers": [descriptor(b"chart", "application/x-golden-chart")],
        }
    )
    digest = tree.manifest("app", payload, tag="t")
    config = ("application/x-golden-config", digest_of(b"meta"), b"meta")
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", digest)},
        "manifests": {image_row("app", digest, payload, 4 + 5 + len(payload), config)},
        "layers": {("app", digest, digest_of(b"chart"), 5, "application/x-golden-chart")},
        "links": {("app", digest_of(b"meta")), ("app", digest_of(b"chart"))},
        "blobs": blobs(b"meta", b"chart", payload),
    }


@golden
def digests_of_sha512(tree: Tree) -> Rows:
    config = tree.layer("app", b"{}", media_type=OCI_CONFIG, algorithm="sha512")
    layer = tree.layer("app", b"layer", algorithm="sha512")
    payload = encode({"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": config, "layers": [layer]})
    digest = tree.blob(payload, algorithm="sha512")
    tree.manifest("app", payload, tag="t", digest=digest)
    of_config, of_layer = (digest_of(content, algorithm="sha512") for content in (b"{}", b"layer"))
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", digest)},
        "manifests": {image_row("app", digest, payload, 2 + 5 + len(payload), (OCI_CONFIG, of_config, b"{}"))},
        "layers": {("app", digest, of_layer, 5, OCI_LAYER)},
        "links": {("app", of_config), ("app", of_layer)},
        "blobs": {(of_config, 2, OCTETS), (of_layer, 5, OCTETS), (digest, len(payload), OCTETS)},
    }


# --- Repositories and blobs ---------------------------------------------------------------------------------------


@golden
def repositories_in_repositories(tree: Tree) -> Rows:
    for path in ("a", "a/b", "a/b/c", "a/1b", "registry.Example.com/x", "bare"):
        tree.repository(path)
    image, payload = bare_image(tree, "a", b"{}", tag="one")
    tree.tag("a", "two", image)
    bare_image(tree, "a/b/c", b"{}", tag="one")
    return {
        "repositories": {
            ("a", "a", "a", None),
            ("a/b", "b", "a", None),
            ("a/b/c", "c", "a", None),
            ("a/1b", "1b", "a", None),
            ("registry.Example.com/x", "x", "registry.Example.com", None),
            ("bare", "bare", "bare", None),
        },
        "tags": {("a", "one", image), ("a", "two", image), ("a/b/c", "one", image)},
        "manifests": {bare_image_row(path, image, payload, b"{}") for path in ("a", "a/b/c")},
        "links": {("a", digest_of(b"{}")), ("a/b/c", digest_of(b"{}"))},
        "blobs": blobs(b"{}", payload),
    }


@golden
def sizes_claimed_differently(tree: Tree) -> Rows:
    rows: Rows = {table: set() for table in ("repositories", "tags", "manifests", "layers", "links")}
    payloads = []
    for path, claimed in (("a", 10), ("b", 20)):
        store_blobs(tree, path, b"{}", b"layer")
        layer = {**descriptor(b"layer", OCI_LAYER), "size": claimed}
        payload = encode({"schemaVersion": 2, "config": descriptor(b"{}", OCI_CONFIG), "layers": [layer]})
        payloads.append(payload)
        digest = tree.manifest(path, payload, tag="t")
        config = (OCI_CONFIG, digest_of(b"{}"), b"{}")
        rows["repositories"].add((path, path, path, None))
        rows["tags"].add((path, "t", digest))
        rows["manifests"].add(image_row(path, digest, payload, 2 + claimed + len(payload), config))
        rows["layers"].add((path, digest, digest_of(b"layer"), 10, OCI_LAYER))
        rows["links"] |= {(path, digest_of(b"{}")), (path, digest_of(b"layer"))}
    return {**rows, "blobs": blobs(b"{}", *payloads) | {(digest_of(b"layer"), 10, OCTETS)}}


@golden
def revision_link_that_names_another_manifest(tree: Tree) -> Rows:
    image, payload = bare_image(tree, "app", b"{}")
    asked_for = digest_of(b"asked for")
    write(tree.revision_link("app", asked_for), image.encode())
    tree.tag("app", "t", asked_for)
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", asked_for)},
        "manifests": {bare_image_row("app", asked_for, payload, b"{}")},
        "links": {("app", digest_of(b"{}"))},
        "blobs": blobs(b"{}", payload),
    }


@golden
def blobs_that_nothing_names(tree: Tree) -> Rows:
    tree.repository("bare")
    tree.blob(b"loose")
    tree.blob(b"")
    return {"repositories": {("bare", "bare", "bare", None)}, "tags": set(), "blobs": blobs(b"loose", b"")}


@pytest.mark.parametrize("build", TREES)
def test_a_tree_becomes_these_rows(tmp_path, build):
    check(tmp_path, build)
