"""Reads the manifests of one repository: payload, configuration, layers, and whatever an index or a subject leads to.

A manifest is returned complete or not at all; what is left out is recorded with its reason.
"""

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from typing import Protocol

from metadata_import import layout
from metadata_import.errors import PathNotFoundError, StorageError, UnusableContentError
from metadata_import.foresight import CONFIG_PAYLOAD_LIMIT_BYTES, LINK_LIMIT_BYTES
from metadata_import.manifests import SCHEMA_VERSION, ParsedLayer, ParsedManifest, parse_manifest
from metadata_import.records import Config, Layer, Manifest, Skip, SkipReason

PAYLOAD_LIMIT_BYTES = 4 * 1024 * 1024
REFERENCE_DEPTH_LIMIT = 16
REFERENCE_BYTES_LIMIT = 64 * 1024 * 1024  # in memory at once for one tagged manifest


class Readable(Protocol):
    """Where manifests are read."""

    def read(self, path: str, *, limit: int) -> bytes:
        """Return a file's bytes; raises as a storage driver does."""


class _LeftOutError(Exception):
    """Ends the reading of one manifest; the skip says why."""

    def __init__(self, reason: SkipReason, path: str, detail: str = "") -> None:
        super().__init__(reason)
        self.skip = Skip(reason, path, detail)


@dataclass(slots=True)
class ManifestReader:
    """Reads manifests by digest, each at most once; collects them in an order where what is named comes first."""

    driver: Readable
    has_blob: Callable[[str], bool]  # whether common storage has its data; raises as a storage driver does
    repository: str
    # Shared by all readers of one repository: images of a repository have most of their layers in common.
    layer_access: dict[str, bool] = field(default_factory=dict)
    known: Set[str] = frozenset()  # digests that earlier parts of the repository brought
    manifests: dict[str, Manifest] = field(default_factory=dict)
    skips: list[Skip] = field(default_factory=list)
    weight: int = 0
    _left_out: set[str] = field(default_factory=set)
    _weight_limit: int = 0

    def read(self, digest: str) -> bool:
        """Read a manifest and all that it leads to; False means that it was left out."""
        self._weight_limit = self.weight + REFERENCE_BYTES_LIMIT
        return self._read(digest, ancestors=())

    def _read(self, digest: str, *, ancestors: tuple[str, ...]) -> bool:
        if digest in self.manifests or digest in self.known:
            return True
        if digest in self._left_out:
            return False
        path = layout.revision_link(self.repository, digest)
        if endless := self._endless(digest, path, ancestors):
            self.skips.append(endless)
            return False
        try:
            payload = self._payload(path)
            manifest = self._manifest(digest, payload, (*ancestors, digest))
        except _LeftOutError as left_out:
            self.skips.append(left_out.skip)
        except UnusableContentError as error:
            self.skips.append(Skip(SkipReason(error.code), path, str(error)))
        except StorageError as error:
            self.skips.append(Skip(SkipReason(error.code), error.path, error.reason))
        else:
            self.manifests[digest] = manifest
            self.weight += manifest.weight
            return True
        self._left_out.add(digest)
        return False

    def _endless(self, digest: str, path: str, ancestors: tuple[str, ...]) -> Skip | None:
        """Content is not checked against its digest, so that a tree may lead anywhere, in circles too."""
        if digest in ancestors:
            return Skip(SkipReason.REFERENCE_CYCLE, path, f"named by {ancestors[-1]}, which it leads to")
        if len(ancestors) > REFERENCE_DEPTH_LIMIT:
            return Skip(SkipReason.REFERENCES_TOO_DEEP, path, f"{len(ancestors)} levels below a tag")
        if self.weight > self._weight_limit:
            return Skip(SkipReason.REFERENCES_TOO_LARGE, path, f"reached from {ancestors[0]}")
        return None

    def _payload(self, link: str) -> bytes:
        target = self._follow(link, missing=SkipReason.MANIFEST_MISSING)
        return self._blob(target, missing=SkipReason.MANIFEST_MISSING)

    def _manifest(self, digest: str, payload: bytes, ancestors: tuple[str, ...]) -> Manifest:
        parsed = parse_manifest(payload)
        config = self._config(parsed.config) if parsed.config else None
        layers = tuple(self._readable_layers(parsed.layers))
        children = tuple(child for child in parsed.children if self._read_child(child, digest, ancestors))
        return Manifest(
            digest=digest,
            media_type=parsed.media_type,
            schema_version=SCHEMA_VERSION,
            payload=payload,
            total_size=parsed.total_size,
            config=config,
            layers=layers,
            children=children,
            subject=self._subject(parsed, digest, ancestors),
            artifact_media_type=parsed.artifact_media_type,
            non_distributable_layers=parsed.non_distributable_layers,
            non_conformant=parsed.non_conformant,
        )

    def _read_named(self, named: str, digest: str, ancestors: tuple[str, ...]) -> bool:
        try:
            return self._read(layout.parse_digest(named), ancestors=ancestors)
        except UnusableContentError as error:
            link = layout.revision_link(self.repository, digest)
            self.skips.append(Skip(SkipReason(error.code), link, str(error)))
            return False

    def _read_child(self, child: str, digest: str, ancestors: tuple[str, ...]) -> bool:
        if self._read_named(child, digest, ancestors):
            return True
        if layout.is_digest(child):  # else the skip of what is no digest says all
            link = layout.revision_link(self.repository, child)
            self.skips.append(Skip(SkipReason.CHILD_MISSING, link, f"named by {digest}"))
        return False

    def _subject(self, parsed: ParsedManifest, digest: str, ancestors: tuple[str, ...]) -> str | None:
        if parsed.subject is None or self._read_named(parsed.subject, digest, ancestors):
            return parsed.subject
        link = layout.revision_link(self.repository, digest)
        self.skips.append(Skip(SkipReason.SUBJECT_MISSING, link, f"the subject {parsed.subject[:100]!r} is left out"))
        return None

    def _config(self, config: ParsedLayer) -> Config:
        link = layout.layer_link(self.repository, layout.parse_digest(config.digest))
        target = self._follow(link, missing=SkipReason.CONFIG_MISSING)
        payload = None
        if config.size <= CONFIG_PAYLOAD_LIMIT_BYTES:
            payload = self._blob(target, missing=SkipReason.CONFIG_MISSING)
        elif not self.has_blob(target):
            raise _LeftOutError(SkipReason.CONFIG_MISSING, layout.blob_data(target), "not found")
        return Config(config.digest, config.size, config.media_type, payload)

    def _readable_layers(self, layers: Iterable[ParsedLayer]) -> Iterable[Layer]:
        for layer in layers:
            link = layout.layer_link(self.repository, layout.parse_digest(layer.digest))
            readable = self.layer_access.get(layer.digest)
            if readable is None:
                readable = self.layer_access[layer.digest] = self._is_layer_readable(link)
            if readable:
                yield Layer(layer.digest, layer.size, layer.media_type)
            else:
                self.skips.append(Skip(SkipReason.LAYER_MISSING, link, "not linked, or without data"))

    def _is_layer_readable(self, link: str) -> bool:
        try:
            content = self.driver.read(link, limit=LINK_LIMIT_BYTES)
        except PathNotFoundError:
            return False
        try:
            return self.has_blob(layout.parse_link(content))
        except UnusableContentError as error:
            raise _LeftOutError(SkipReason(error.code), link, str(error)) from None

    def _follow(self, link: str, *, missing: SkipReason) -> str:
        try:
            return layout.parse_link(self.driver.read(link, limit=LINK_LIMIT_BYTES))
        except PathNotFoundError as error:
            raise _LeftOutError(missing, link, error.reason) from None
        except UnusableContentError as error:
            raise _LeftOutError(SkipReason(error.code), link, str(error)) from None

    def _blob(self, digest: str, *, missing: SkipReason) -> bytes:
        path = layout.blob_data(digest)
        try:
            return self.driver.read(path, limit=PAYLOAD_LIMIT_BYTES)
        except PathNotFoundError as error:
            raise _LeftOutError(missing, path, error.reason) from None
