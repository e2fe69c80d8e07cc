"""Builds storage trees by hand, whole or broken, without the code under test."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def digest_of(content: bytes, *, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def stored(digest: str) -> bytes:
    """Return a sha256 digest as the database holds it."""
    return b"\x01" + bytes.fromhex(digest.removeprefix("sha256:"))


@dataclass(frozen=True)
class Tree:
    """A storage root, and ways to add to it."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / "docker" / "registry" / "v2"

    def repository(self, name: str) -> Path:
        path = self.base / "repositories" / name
        (path / "_manifests" / "tags").mkdir(parents=True, exist_ok=True)
        return path

    def blob_path(self, digest: str) -> Path:
        algorithm, _, checksum = digest.partition(":")
        return self.base / "blobs" / algorithm / checksum[:2] / checksum / "data"

    def layer_link(self, repository: str, digest: str) -> Path:
        return self.repository(repository) / "_layers" / digest.replace(":", "/") / "link"

    def revision_link(self, repository: str, digest: str) -> Path:
        return self.repository(repository) / "_manifests" / "revisions" / digest.replace(":", "/") / "link"

    def tag_link(self, repository: str, tag: str) -> Path:
        return self.repository(repository) / "_manifests" / "tags" / tag / "current" / "link"

    def blob(self, content: bytes, *, algorithm: str = "sha256") -> str:
        digest = digest_of(content, algorithm=algorithm)
        write(self.blob_path(digest), content)
        return digest

    def layer(
        self, repository: str, content: bytes, *, media_type: str = OCI_LAYER, algorithm: str = "sha256"
    ) -> dict[str, Any]:
        digest = self.blob(content, algorithm=algorithm)
        write(self.layer_link(repository, digest), digest.encode())
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def manifest(self, repository: str, content: bytes, *, tag: str | None = None, digest: str = "") -> str:
        """Store a payload, under a digest of its own choice if one is given."""
        digest = digest or digest_of(content)
        write(self.blob_path(digest), content)
        write(self.revision_link(repository, digest), digest.encode())
        if tag is not None:
            self.tag(repository, tag, digest)
        return digest

    def tag(self, repository: str, tag: str, digest: str) -> None:
        write(self.tag_link(repository, tag), digest.encode())

    def image(
        self, repository: str, *, tag: str | None = None, layers: Sequence[Any] = (b"a", b"b"), **more: Any
    ) -> str:
        """Store an image whose config is its own; layers are contents or descriptors, `more` goes into the manifest."""
        config = self.layer(repository, encode({"tag": tag, "of": repository}), media_type=OCI_CONFIG)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": config,
            "layers": [each if isinstance(each, dict) else self.layer(repository, each) for each in layers],
            **more,
        }
        return self.manifest(repository, encode(manifest), tag=tag)

    def index(self, repository: str, children: list[str], *, tag: str | None = None, digest: str = "") -> str:
        manifests = [{"mediaType": OCI_IMAGE, "digest": child, "size": 1} for child in children]
        content = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
        return self.manifest(repository, content, tag=tag, digest=digest)

    def files(self) -> dict[str, bytes]:
        """Return every file below the root, to compare before and after."""
        return {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
