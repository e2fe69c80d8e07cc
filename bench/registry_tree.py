"""Builds the storage trees that the import is measured on: many repositories, images of eight layers, half shared.

The layers' blobs are sparse: their sizes matter to an import, their bytes do not.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAGS = 50
OWN_LAYERS = 4
SHARED_LAYERS = 4
SHARED_EVERY = 16  # so many repositories have the same shared layers
GROUPS = 10
REPOSITORIES = 200  # at scale 1

OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class RegistryTree:
    """A tree of so many repositories below one root directory."""

    root: Path
    repositories: int = REPOSITORIES

    @property
    def base(self) -> Path:
        """Return the directory of the layout's version."""
        return self.root / "docker/registry/v2"

    def build(self) -> None:
        """Write the whole tree, unless it is there."""
        done = self.root / "complete"
        if done.exists():
            return
        for number in range(self.repositories):
            for tag in range(TAGS):
                self._image(number, tag)
        done.touch()

    def name_of(self, number: int) -> str:
        """Return the name of one repository."""
        return f"group{number % GROUPS}/project{number}"

    def _image(self, number: int, tag: int) -> None:
        repository = self.base / "repositories" / self.name_of(number)
        config = json.dumps({"architecture": "amd64", "os": "linux", "of": [number, tag], "history": HISTORY}).encode()
        layers = [self._layer(name) for name in _layer_names(number, tag)]
        described_config = self._blob(config, OCI_CONFIG)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": described_config,
            "layers": layers,
        }
        described = self._blob(json.dumps(manifest, indent=3).encode(), OCI_IMAGE)
        for linked in (described_config, *layers):
            _write_link(repository / "_layers", linked["digest"])
        _write_link(repository / "_manifests/revisions", described["digest"])
        _write_link(repository / f"_manifests/tags/v1.{tag}/index", described["digest"])
        current = repository / f"_manifests/tags/v1.{tag}/current/link"
        current.parent.mkdir()
        current.write_text(described["digest"])

    def _layer(self, name: str) -> dict[str, Any]:
        checksum = hashlib.sha256(name.encode()).hexdigest()
        size = 1_000_000 + int(checksum[:5], 16)
        path = self._place(checksum)
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(size)
        return {"mediaType": OCI_LAYER, "size": size, "digest": f"sha256:{checksum}"}

    def _blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        checksum = hashlib.sha256(content).hexdigest()
        self._place(checksum).write_bytes(content)
        return {"mediaType": media_type, "size": len(content), "digest": f"sha256:{checksum}"}

    def _place(self, checksum: str) -> Path:
        path = self.base / "blobs/sha256" / checksum[:2] / checksum / "data"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


HISTORY = [{"created": "2026-01-01T00:00:00Z", "created_by": f"RUN step {step} of a build file"} for step in range(8)]


def _layer_names(number: int, tag: int) -> Iterator[str]:
    for layer in range(SHARED_LAYERS):
        yield f"shared {number // REPOSITORIES} {number % SHARED_EVERY} {tag} {layer}"
    for layer in range(OWN_LAYERS):
        yield f"own {number} {tag} {layer}"


def _write_link(directory: Path, digest: str) -> None:
    path = directory / digest.replace(":", "/") / "link"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(digest)
