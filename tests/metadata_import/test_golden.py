"""Trees of every kind, each with the rows that it must become, written down by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.metadata_import.registry_rows import Row, registry_rows
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import FOREIGN_LAYER, Tree, digest_of, encode, write

pytestmark = pytest.mark.usefixtures("committed_db")

DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCTETS = "application/octet-stream"

Rows = dict[str, set[Row]]
TREES: list[Callable[[Tree], Rows]] = []


def golden(build: Callable[[Tree], Rows]) -> Callable[[Tree], Rows]:
    TREES.append(build)
    return build


@pytest.mark.parametrize("build", TREES)
def test_a_tree_becomes_these_rows(tmp_path, build):
    tree = Tree(tmp_path)
    expected = build(tree)
    report = import_tree(tmp_path)
    found = registry_rows()
    for table, rows in found.items():
        assert rows == expected.get(table, set()), table
    assert report.counts.tags == len(expected["tags"])


# --- How rows are written down ------------------------------------------------------------------------------------


def image_row(path: str, digest: str, payload: bytes, total_size: int, config: tuple[Any, ...], **more: Any) -> Row:
    """Return an image's row; the config is its media type, digest and stored payload."""
    row = {"type": OCI_IMAGE, "odd": False, "foreign": False, "subject": None, "artifact": None, **more}
    facts = (row["odd"], row["foreign"], row["subject"], row["artifact"])
    return (path, digest, payload, row["type"], total_size, *config, *facts, 2)


def index_row(path: str, digest: str, payload: bytes, media_type: str = OCI_INDEX) -> Row:
    return (path, digest, payload, media_type, 0, None, None, None, False, False, None, None, 2)


def blobs(*contents: bytes) -> set[Row]:
    """Return the rows of blobs that are as large as they should be."""
    return {(digest_of(content), len(content), OCTETS) for content in contents}


def descriptor(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(content), "digest": digest_of(content), **more}


def store_blobs(tree: Tree, repository: str, *contents: bytes) -> None:
    for content in contents:
        tree.layer(repository, content)


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


def bare_image(tree: Tree, path: str, config: bytes, *, tag: str | None = None, **more: Any) -> tuple[str, bytes]:
    """Store an image with a config and no layer; return its digest and payload."""
    store_blobs(tree, path, config)
    content = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": descriptor(config, OCI_CONFIG), "layers": []}
    payload = encode({**content, **more})
    return tree.manifest(path, payload, tag=tag), payload


def bare_image_row(path: str, digest: str, payload: bytes, config: bytes, **more: Any) -> Row:
    size = len(config) + len(payload)
    return image_row(path, digest, payload, size, (OCI_CONFIG, digest_of(config), config), **more)


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


# --- Indexes ------------------------------------------------------------------------------------------------------


def store_index(tree: Tree, entries: list[Any], *, tag: str | None = None, **more: Any) -> tuple[str, bytes]:
    payload = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **more})
    return tree.manifest("app", payload, tag=tag), payload


def entry(digest: str, media_type: str = OCI_IMAGE) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": 1}


@golden
def oci_index(tree: Tree) -> Rows:
    amd, amd_payload = bare_image(tree, "app", b"amd64")
    arm, arm_payload = bare_image(tree, "app", b"arm64", tag="arm")
    index, payload = store_index(tree, [entry(amd), entry(arm), entry(amd)], tag="t")
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", index), ("app", "arm", arm)},
        "manifests": {
            bare_image_row("app", amd, amd_payload, b"amd64"),
            bare_image_row("app", arm, arm_payload, b"arm64"),
            index_row("app", index, payload),
        },
        "references": {("app", index, amd), ("app", index, arm)},
        "links": {("app", digest_of(b"amd64")), ("app", digest_of(b"arm64"))},
        "blobs": blobs(b"amd64", b"arm64", amd_payload, arm_payload, payload),
    }


@golden
def docker_list_without_its_second_image(tree: Tree) -> Rows:
    image, image_payload = bare_image(tree, "app", b"amd64")
    index, payload = store_index(
        tree, [entry(image, DOCKER_IMAGE), entry(digest_of(b"lost"), DOCKER_IMAGE)], tag="t", mediaType=DOCKER_LIST
    )
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", index)},
        "manifests": {
            bare_image_row("app", image, image_payload, b"amd64"),
            index_row("app", index, payload, DOCKER_LIST),
        },
        "references": {("app", index, image)},
        "links": {("app", digest_of(b"amd64"))},
        "blobs": blobs(b"amd64", image_payload, payload),
    }


@golden
def index_in_an_index(tree: Tree) -> Rows:
    image, image_payload = bare_image(tree, "app", b"{}")
    inner, inner_payload = store_index(tree, [entry(image)])
    outer, outer_payload = store_index(tree, [entry(inner, OCI_INDEX), entry(image)], tag="t")
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", outer)},
        "manifests": {
            bare_image_row("app", image, image_payload, b"{}"),
            index_row("app", inner, inner_payload),
            index_row("app", outer, outer_payload),
        },
        "references": {("app", outer, inner), ("app", outer, image), ("app", inner, image)},
        "links": {("app", digest_of(b"{}"))},
        "blobs": blobs(b"{}", image_payload, inner_payload, outer_payload),
    }


@golden
def index_of_nothing(tree: Tree) -> Rows:
    payload = b'{"schemaVersion":2,"manifests":[]}'
    digest = tree.manifest("app", payload, tag="t")
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", digest)},
        "manifests": {index_row("app", digest, payload)},
        "blobs": blobs(payload),
    }


@golden
def index_of_blobs_that_is_no_cache(tree: Tree) -> Rows:
    store_blobs(tree, "app", b"blob")
    index, payload = store_index(tree, [descriptor(b"blob", OCI_LAYER)], tag="t")
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", index)},
        "manifests": {index_row("app", index, payload)},
        "blobs": blobs(b"blob", payload),
    }


@golden
def buildkit_cache(tree: Tree) -> Rows:
    config_type = "application/vnd.buildkit.cacheconfig.v0"
    store_blobs(tree, "app", b"cache", b"layer")
    layer = descriptor(b"layer", OCI_LAYER, annotations={"b": "<2>", "a": "1"})
    index, payload = store_index(tree, [layer, descriptor(b"cache", config_type)], tag="cache")
    as_image = f"""{{
   "schemaVersion": 2,
   "mediaType": "application/vnd.oci.image.manifest.v1+json",
   "config": {{
      "mediaType": "application/vnd.buildkit.cacheconfig.v0",
      "size": 5,
      "digest": "{digest_of(b"cache")}"
   }},
   "layers": [
      {{
         "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
         "size": 5,
         "digest": "{digest_of(b"layer")}",
         "annotations": {{
            "a": "1",
            "b": "\\u003c2\\u003e"
         }}
      }}
   ]
}}"""
    config = (config_type, digest_of(b"cache"), b"cache")
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "cache", index)},
        "manifests": {image_row("app", index, payload, 5 + 5 + len(as_image), config, odd=True)},
        "layers": {("app", index, digest_of(b"layer"), 5, OCI_LAYER)},
        "links": {("app", digest_of(b"cache")), ("app", digest_of(b"layer"))},
        "blobs": blobs(b"cache", b"layer", payload),
    }


# --- Referrers ----------------------------------------------------------------------------------------------------


@golden
def untagged_signature(tree: Tree) -> Rows:
    image, image_payload = bare_image(tree, "app", b"{}", tag="t")
    kind = "application/vnd.example.signature"
    signed = {"subject": {"mediaType": OCI_IMAGE, "digest": image, "size": 1}, "artifactType": kind}
    signature, signature_payload = bare_image(tree, "app", b"signature", **signed)
    bare_image(tree, "app", b"untagged")
    untagged_payload = encode(
        {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": descriptor(b"untagged", OCI_CONFIG), "layers": []}
    )
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "t", image)},
        "manifests": {
            bare_image_row("app", image, image_payload, b"{}"),
            bare_image_row("app", signature, signature_payload, b"signature", subject=image, artifact=kind),
        },
        "links": {("app", digest_of(b"{}")), ("app", digest_of(b"signature"))},
        "blobs": blobs(b"{}", b"signature", b"untagged", image_payload, signature_payload, untagged_payload),
    }


@golden
def tagged_index_of_a_subject_that_no_tag_names(tree: Tree) -> Rows:
    subject, subject_payload = bare_image(tree, "app", b"{}")
    index, payload = store_index(tree, [], tag="sbom", subject=entry(subject), artifactType="application/x-sbom")
    row = index_row("app", index, payload)
    return {
        "repositories": {("app", "app", "app", None)},
        "tags": {("app", "sbom", index)},
        "manifests": {
            bare_image_row("app", subject, subject_payload, b"{}"),
            (*row[:10], subject, "application/x-sbom", 2),
        },
        "links": {("app", digest_of(b"{}"))},
        "blobs": blobs(b"{}", subject_payload, payload),
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
