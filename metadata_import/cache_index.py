"""BuildKit caches that were pushed as an index: registries keep them as an image, and count its size as if it had been
written by Go's JSON encoder. Pure: payload bytes are decoded elsewhere.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from metadata_import.errors import MixedCacheIndexError

CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST_MEDIA_TYPES = frozenset(
    {
        OCI_IMAGE,
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
# Go escapes these within strings, Python does not.
_GO_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


class CacheEntry(msgspec.Struct, frozen=True, gc=False):
    """One entry of a cache index, with all that its size as an image depends on."""

    media_type: str | None = msgspec.field(name="mediaType", default=None)
    size: int | None = None
    digest: str | None = None
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None


class CacheIndex(msgspec.Struct, frozen=True, gc=False):
    """An index whose entries are blobs."""

    manifests: list[CacheEntry | None] | None = None


def split_entries(index: CacheIndex) -> tuple[CacheEntry, list[CacheEntry]]:
    """Return the last configuration of a cache and its layers; raises MixedCacheIndexError if manifests are listed."""
    entries = [entry or CacheEntry() for entry in index.manifests or ()]
    if any(entry.media_type in MANIFEST_MEDIA_TYPES for entry in entries):
        raise MixedCacheIndexError
    configs = [entry for entry in entries if entry.media_type == CACHE_CONFIG]
    return configs[-1], [entry for entry in entries if entry.media_type != CACHE_CONFIG]


def image_size(config: CacheEntry, layers: Sequence[CacheEntry]) -> int:
    """Return how many bytes the image that stands for a cache would have."""
    image = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": _descriptor(config),
        "layers": [_descriptor(layer) for layer in layers] or None,
    }
    text = json.dumps(image, indent=3, separators=(",", ": "), ensure_ascii=False)
    return len(text.translate(_GO_ESCAPES).encode())


def _descriptor(entry: CacheEntry) -> dict[str, Any]:
    members = {
        "mediaType": entry.media_type,
        "size": entry.size,
        "digest": entry.digest,
        "urls": entry.urls,
        "annotations": dict(sorted((entry.annotations or {}).items())),
    }
    return {name: value for name, value in members.items() if value}
