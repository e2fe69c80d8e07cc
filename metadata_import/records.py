"""What travels through an import: read from storage by the reader, written to PostgreSQL by the store."""

import enum
from dataclasses import dataclass, field
from datetime import datetime


class SkipReason(enum.StrEnum):
    """Why one item of the tree was left out."""

    REPOSITORY_NAME_INVALID = "repository_name_invalid"  # breaks the grammar of names, or is over 255 characters
    REPOSITORY_UNREADABLE = "repository_unreadable"  # its tags cannot be listed; only its bare row is written
    SYMBOLIC_LINK = "symbolic_link"  # a link where a directory is expected; links are not walked
    STRAY_FILE = "stray_file"  # a file among the tags, where each child is a directory
    TAG_NAME_INVALID = "tag_name_invalid"  # no text, or over 255 characters
    TAG_LINK_MISSING = "tag_link_missing"  # the tag has no current/link
    TAG_WITHOUT_MANIFEST = "tag_without_manifest"  # the manifest that it names was left out
    MANIFEST_MISSING = "manifest_missing"  # no revision link, or no payload
    MANIFEST_EMPTY = "manifest_empty"  # a payload of zero bytes
    MANIFEST_MALFORMED = "manifest_malformed"  # no JSON, or not of the shape that its kind requires
    CACHE_INDEX_MIXED = "cache_index_mixed"  # an index that holds a BuildKit cache, and manifests too
    SCHEMA_UNSUPPORTED = "schema_unsupported"  # schema 1, or an unknown schema version
    MANIFEST_UNSUPPORTED = "manifest_unsupported"  # an unknown media type
    CONFIG_MISSING = "config_missing"  # the configuration is not linked, or has no data
    LAYER_MISSING = "layer_missing"  # a layer is not linked or has no data; the manifest is kept
    CHILD_MISSING = "child_missing"  # an image that an index names was left out; the index is kept
    SUBJECT_MISSING = "subject_missing"  # the subject was left out; the manifest is kept
    DIGEST_INVALID = "digest_invalid"  # a link or a descriptor holds no digest
    DIGEST_LENGTH_INVALID = "digest_length_invalid"  # as one with a newline at its end
    DIGEST_UNSUPPORTED = "digest_unsupported"  # of an algorithm that registries do not know
    DIGEST_UNSTORABLE = "digest_unstorable"  # sha384, for which the database has no form
    MEDIA_TYPE_INVALID = "media_type_invalid"  # blank, over 255 characters, or no text
    MEDIA_TYPE_UNKNOWN = "media_type_unknown"  # not in the table, and none is to be created
    MEDIA_TYPES_EXHAUSTED = "media_types_exhausted"  # the table has no id left for another type
    REFERENCE_CYCLE = "reference_cycle"  # an index or subject that leads back to itself
    REFERENCES_TOO_DEEP = "references_too_deep"  # indexes in indexes, or subjects of subjects, beyond the limit
    REFERENCES_TOO_LARGE = "references_too_large"  # what one tag leads to is beyond the limit
    FILE_TOO_LARGE = "file_too_large"  # a manifest or configuration over 4 MiB
    BLOB_PATH_INVALID = "blob_path_invalid"  # a data file below blobs/ whose path spells no digest
    PATH_NOT_FOUND = "path_not_found"  # gone between listing and reading
    OUTSIDE_ROOT = "outside_root"  # leads out of the storage root
    STORAGE_UNREADABLE = "storage_unreadable"  # permission, or an I/O error
    DATABASE_REFUSED = "database_refused"  # PostgreSQL did not accept the rows of this repository


# These say nothing bad of what was left out: a registry that reads the storage itself may well serve it.
FAULTS = frozenset(
    {
        SkipReason.REPOSITORY_UNREADABLE,
        SkipReason.STORAGE_UNREADABLE,
        SkipReason.DATABASE_REFUSED,
        SkipReason.SYMBOLIC_LINK,
        SkipReason.OUTSIDE_ROOT,
        SkipReason.CACHE_INDEX_MIXED,
        SkipReason.MEDIA_TYPES_EXHAUSTED,
        SkipReason.REFERENCES_TOO_DEEP,
        SkipReason.REFERENCES_TOO_LARGE,
    }
)

# What the registry's own import passes over with a warning; at anything else it stops, and so does a strict one.
TOLERATED = frozenset(
    {
        SkipReason.TAG_LINK_MISSING,
        SkipReason.TAG_WITHOUT_MANIFEST,
        SkipReason.MANIFEST_MISSING,
        SkipReason.MANIFEST_EMPTY,
        SkipReason.SCHEMA_UNSUPPORTED,
        SkipReason.CONFIG_MISSING,
        SkipReason.LAYER_MISSING,
        SkipReason.CHILD_MISSING,
        SkipReason.SUBJECT_MISSING,
        SkipReason.DIGEST_INVALID,
        SkipReason.DIGEST_UNSUPPORTED,
        SkipReason.PATH_NOT_FOUND,
    }
)


@dataclass(frozen=True, slots=True)
class Skip:
    """One item left out, where it lies and why."""

    reason: SkipReason
    path: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob of common storage, with the size of its file."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image, as its descriptor says."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of an image; no payload if it is too large to keep."""

    digest: str
    size: int
    media_type: str
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image or index, complete: what it refers to was found readable, or is left out of it."""

    digest: str
    media_type: str
    schema_version: int
    payload: bytes
    total_size: int
    config: Config | None = None
    layers: tuple[Layer, ...] = ()
    children: tuple[str, ...] = ()  # digests, in listed order
    subject: str | None = None
    artifact_media_type: str | None = None
    non_distributable_layers: bool = False
    non_conformant: bool = False

    @property
    def weight(self) -> int:
        """Return the bytes that this record keeps in memory, roughly."""
        named = 1 + len(self.layers) + len(self.children)
        return len(self.payload) + len((self.config and self.config.payload) or b"") + 300 * named


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag, the digest of the manifest that it names, and since when, as far as the storage knows."""

    name: str
    digest: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RepositoryPart:
    """Some tags of one repository and every manifest they need that no earlier part brought."""

    path: str
    manifests: tuple[Manifest, ...] = ()
    tags: tuple[Tag, ...] = ()
    skips: tuple[Skip, ...] = ()
    is_last: bool = True
    is_readable: bool = True  # False: the tags could not be listed

    @property
    def namespace(self) -> str:
        """Return the name of the top-level namespace."""
        return self.path.split("/", 1)[0]

    @property
    def name(self) -> str:
        """Return the last segment of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def weight(self) -> int:
        """Return the bytes that this record keeps in memory, roughly."""
        return sum(manifest.weight for manifest in self.manifests) + 300 * (1 + len(self.tags) + len(self.skips))


@dataclass(frozen=True, slots=True)
class BlobPart:
    """The blobs below one prefix of common storage, or some of them."""

    prefix: str
    blobs: tuple[Blob, ...] = ()
    skips: tuple[Skip, ...] = ()
    is_last: bool = True

    @property
    def weight(self) -> int:
        """Return the bytes that this record keeps in memory, roughly."""
        return 300 * (1 + len(self.blobs) + len(self.skips))


@dataclass(frozen=True, slots=True)
class Written:
    """What one write changed: rows inserted by table, and what had to be left out."""

    rows: dict[str, int] = field(default_factory=dict)
    skips: tuple[Skip, ...] = ()
