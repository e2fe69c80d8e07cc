"""Manifest payloads: of which kind they are and what they refer to. Pure: whether that exists is not asked here."""

import re
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from metadata_import import cache_index, layout
from metadata_import.cache_index import CACHE_CONFIG, OCI_IMAGE, CacheEntry, CacheIndex
from metadata_import.errors import (
    EmptyManifestError,
    InvalidMediaTypeError,
    MalformedManifestError,
    UnsupportedManifestError,
    UnsupportedSchemaError,
)

DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCTET_STREAM = "application/octet-stream"

# Layers that registries do not hold, by the kind of image that may name them.
FOREIGN_LAYERS = {
    DOCKER_IMAGE: frozenset({"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}),
    OCI_IMAGE: frozenset(
        {
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        }
    ),
}

SCHEMA_VERSION = 2
MEDIA_TYPE_LENGTH_LIMIT = 255
LARGEST_SIZE = 2**63 - 1  # of a bigint


class Descriptor(msgspec.Struct, frozen=True, gc=False):
    """What a manifest says of one thing it refers to; a JSON null counts as absent."""

    digest: str | None = None
    size: int | None = None
    media_type: str | None = msgspec.field(name="mediaType", default=None)


class _Head(msgspec.Struct, frozen=True, gc=False):
    schema_version: int | None = msgspec.field(name="schemaVersion", default=None)
    media_type: str | None = msgspec.field(name="mediaType", default=None)
    manifests: msgspec.Raw = msgspec.Raw(b"null")


class _Image(msgspec.Struct, frozen=True, gc=False):
    config: Descriptor | None = None
    layers: list[Descriptor | None] | None = None
    subject: Descriptor | None = None
    artifact_type: str | None = msgspec.field(name="artifactType", default=None)


class _Index(msgspec.Struct, frozen=True, gc=False):
    manifests: list[Descriptor | None] | None = None
    subject: Descriptor | None = None
    artifact_type: str | None = msgspec.field(name="artifactType", default=None)


@dataclass(frozen=True, slots=True)
class ParsedLayer:
    """A layer that the registry should hold; its digest is not validated."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class ParsedManifest:
    """An image (with a config) or an index (without). Digests are as written, not validated."""

    media_type: str
    total_size: int
    config: ParsedLayer | None = None
    layers: tuple[ParsedLayer, ...] = ()
    children: tuple[str, ...] = ()
    subject: str | None = None
    artifact_media_type: str | None = None
    non_distributable_layers: bool = False
    non_conformant: bool = False  # a cache: an image whose payload is an index


_Shape = TypeVar("_Shape")

_KEYS = frozenset(
    {
        b"schemaVersion",
        b"mediaType",
        b"config",
        b"layers",
        b"manifests",
        b"digest",
        b"size",
        b"subject",
        b"artifactType",
        b"annotations",
        b"urls",
    }
)
_KEYS_BY_LOWER = {key.lower(): key for key in _KEYS}
_ANY_KEY = re.compile(rb'"([A-Za-z]{4,13})"\s*:')

_HEAD = msgspec.json.Decoder(_Head)
_IMAGE = msgspec.json.Decoder(_Image)
_INDEX = msgspec.json.Decoder(_Index)
_CACHE_INDEX = msgspec.json.Decoder(CacheIndex)


def parse_manifest(payload: bytes) -> ParsedManifest:
    """Return what a payload says.

    Raises EmptyManifestError, MalformedManifestError, UnsupportedSchemaError, UnsupportedManifestError,
    MixedCacheIndexError or InvalidMediaTypeError, for whatever bytes it is given.
    """
    if not payload:
        raise EmptyManifestError
    size, payload = len(payload), _usual_spelling(payload)
    head = _decode(_HEAD, payload)
    if head.schema_version != SCHEMA_VERSION:
        raise UnsupportedSchemaError(head.schema_version)
    media_type = head.media_type or (OCI_IMAGE if bytes(head.manifests) == b"null" else OCI_INDEX)
    if media_type in (DOCKER_IMAGE, OCI_IMAGE):
        return _parse_image(_decode(_IMAGE, payload), media_type=media_type, payload_size=size)
    if media_type not in (DOCKER_LIST, OCI_INDEX):
        raise UnsupportedManifestError(media_type)
    index = _decode(_INDEX, payload)
    if any(child and child.media_type == CACHE_CONFIG for child in index.manifests or ()):
        return _parse_cache(_decode(_CACHE_INDEX, payload), index)
    return _parse_index(index, media_type=media_type)


def _usual_spelling(payload: bytes) -> bytes:
    """Return the payload with its keys as they should be: registries take them in any case, as Go's decoder does."""
    found = _ANY_KEY.findall(payload)
    if _KEYS.issuperset(found) or not any(key not in _KEYS and key.lower() in _KEYS_BY_LOWER for key in found):
        return payload
    return _ANY_KEY.sub(lambda match: b'"%s":' % _KEYS_BY_LOWER.get(match[1].lower(), match[1]), payload)


def _parse_image(image: _Image, *, media_type: str, payload_size: int) -> ParsedManifest:
    config = image.config or Descriptor()
    descriptors = [layer or Descriptor() for layer in image.layers or ()]
    local = [layer for layer in descriptors if layer.media_type not in FOREIGN_LAYERS[media_type]]
    sizes = [_size(descriptor) for descriptor in (config, *descriptors)]
    total_size = sum(sizes) + payload_size
    if total_size > LARGEST_SIZE:
        raise MalformedManifestError("the sizes add up to more than 64 bits hold")
    return ParsedManifest(
        media_type=media_type,
        total_size=total_size,
        config=ParsedLayer(config.digest or "", sizes[0], _storable_media_type(config.media_type or "")),
        layers=tuple(
            ParsedLayer(layer.digest or "", _size(layer), _layer_media_type(layer.media_type or "")) for layer in local
        ),
        subject=_subject(image.subject),
        artifact_media_type=_artifact_media_type(image.artifact_type),
        non_distributable_layers=len(local) < len(descriptors),
    )


def _parse_index(index: _Index, *, media_type: str) -> ParsedManifest:
    return ParsedManifest(
        media_type=media_type,
        total_size=0,  # the sizes of its images are counted with them
        children=tuple((child and child.digest) or "" for child in index.manifests or ()),
        subject=_subject(index.subject),
        artifact_media_type=_artifact_media_type(index.artifact_type),
    )


def _parse_cache(cache: CacheIndex, index: _Index) -> ParsedManifest:
    config, layers = cache_index.split_entries(cache)
    image = _Image(
        config=_as_descriptor(config),
        layers=[_as_descriptor(layer) for layer in layers],
        subject=index.subject,
        artifact_type=index.artifact_type,
    )
    size = cache_index.image_size(config, layers)
    return replace(_parse_image(image, media_type=OCI_IMAGE, payload_size=size), non_conformant=True)


def _as_descriptor(entry: CacheEntry) -> Descriptor:
    return Descriptor(digest=entry.digest, size=entry.size, media_type=entry.media_type)


def _decode(decoder: msgspec.json.Decoder[_Shape], payload: bytes) -> _Shape:
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedManifestError(str(error)) from error


def _size(descriptor: Descriptor) -> int:
    size = descriptor.size or 0
    if not 0 <= size <= LARGEST_SIZE:
        raise MalformedManifestError(f"a descriptor has the size {size}")
    return size


def _subject(descriptor: Descriptor | None) -> str | None:
    return (descriptor.digest or "") if descriptor else None


def _artifact_media_type(media_type: str | None) -> str | None:
    return _storable_media_type(media_type) if media_type else None


def _layer_media_type(media_type: str) -> str:
    """A layer keeps its place in the image even under a type that the database cannot hold."""
    return media_type if _is_storable(media_type) else OCTET_STREAM


def _storable_media_type(media_type: str) -> str:
    if not _is_storable(media_type):
        raise InvalidMediaTypeError(media_type)
    return media_type


def _is_storable(media_type: str) -> bool:
    return layout.is_storable_name(media_type) and bool(media_type.strip())
