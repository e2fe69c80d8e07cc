"""Indexes, caches and referrers, each tree with the rows that it must become, written down by hand."""

from typing import Any

import pytest

from tests.metadata_import.golden_rows import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    OCI_CONFIG,
    OCI_IMAGE,
    OCI_INDEX,
    OCI_LAYER,
    Golden,
    Rows,
    bare_image,
    bare_image_row,
    blobs,
    check,
    descriptor,
    image_row,
    index_row,
    store_blobs,
)
from tests.metadata_import.trees import Tree, digest_of, encode

pytestmark = pytest.mark.usefixtures("committed_db")

TREES: list[Golden] = []


def golden(build: Golden) -> Golden:
    TREES.append(build)
    return build


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


@pytest.mark.parametrize("build", TREES)
def test_a_tree_becomes_these_rows(tmp_path, build):
    check(tmp_path, build)
