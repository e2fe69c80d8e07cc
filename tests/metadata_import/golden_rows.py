"""How the rows of golden trees are written down, and the trees themselves checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.metadata_import.registry_rows import Row, registry_rows
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import Tree, digest_of, encode

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
Golden = Callable[[Tree], Rows]


def check(root: Path, build: Golden) -> None:
    """Import a tree and compare all rows with those that it must become."""
    expected = build(Tree(root))
    report = import_tree(root)
    for table, rows in registry_rows().items():
        assert rows == expected.get(table, set()), table
    assert report.counts.tags == len(expected["tags"])


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


def bare_image(tree: Tree, path: str, config: bytes, *, tag: str | None = None, **more: Any) -> tuple[str, bytes]:
    """Store an image with a config and no layer; return its digest and payload."""
    store_blobs(tree, path, config)
    content = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": descriptor(config, OCI_CONFIG), "layers": []}
    payload = encode({**content, **more})
    return tree.manifest(path, payload, tag=tag), payload


def bare_image_row(path: str, digest: str, payload: bytes, config: bytes, **more: Any) -> Row:
    size = len(config) + len(payload)
    return image_row(path, digest, payload, size, (OCI_CONFIG, digest_of(config), config), **more)
