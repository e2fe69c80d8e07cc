"""Storage paths and what they mean. Paths are relative to the driver's root and have no leading slash."""

import hashlib
import re

from metadata_import.errors import DigestLengthError, InvalidDigestError, UnstorableDigestError, UnsupportedDigestError

REGISTRY_ROOT = "docker/registry"
VERSION_ROOT = f"{REGISTRY_ROOT}/v2"
REPOSITORIES_ROOT = f"{VERSION_ROOT}/repositories"
BLOBS_ROOT = f"{VERSION_ROOT}/blobs"
FILESYSTEM_LOCK = f"{REGISTRY_ROOT}/lockfiles/filesystem-in-use"
DATABASE_LOCK = f"{REGISTRY_ROOT}/lockfiles/database-in-use"

MANIFESTS_DIRECTORY = "_manifests"
BLOB_FILE = "data"
LINK_FILE = "link"
NAME_LENGTH_LIMIT = 255
PREFIX_LENGTH = 2  # characters of a checksum that share the blobs out

# By algorithm: the byte that stands for it in a digest column, and the length of its checksum in hex.
ALGORITHMS = {"sha256": (b"\x01", 64), "sha512": (b"\x02", 128)}

# Registries know one more, for which the database has no byte.
KNOWN_LENGTHS = {"sha384": 96} | {name: length for name, (_byte, length) in ALGORITHMS.items()}

_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]+")
_STORABLE_DIGEST = re.compile("|".join(f"{name}:[0-9a-f]{{{length}}}" for name, (_byte, length) in ALGORITHMS.items()))
_LOWER_HEX = re.compile(r"[0-9a-f]+")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_HOST_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*(?::[0-9]+)?"
_REPOSITORY_NAME = re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*")


def repository_directory(repository: str) -> str:
    """Return where a repository lies."""
    return f"{REPOSITORIES_ROOT}/{repository}"


def tags_directory(repository: str) -> str:
    """Return the directory with one child per tag."""
    return f"{REPOSITORIES_ROOT}/{repository}/_manifests/tags"


def tag_link(repository: str, tag: str) -> str:
    """Return the link file that names a tag's manifest."""
    return f"{REPOSITORIES_ROOT}/{repository}/_manifests/tags/{tag}/current/link"


def revision_link(repository: str, digest: str) -> str:
    """Return the link file that lets a repository read a manifest."""
    return f"{REPOSITORIES_ROOT}/{repository}/_manifests/revisions/{digest.replace(':', '/', 1)}/link"


def revisions_directory(repository: str) -> str:
    """Return the directory with the links of a repository's manifests, one directory per algorithm."""
    return f"{REPOSITORIES_ROOT}/{repository}/_manifests/revisions"


def layers_directory(repository: str) -> str:
    """Return the directory with the links of a repository's layers, one directory per algorithm."""
    return f"{REPOSITORIES_ROOT}/{repository}/_layers"


def layer_link(repository: str, digest: str) -> str:
    """Return the link file that lets a repository read a layer or a configuration."""
    return f"{REPOSITORIES_ROOT}/{repository}/_layers/{digest.replace(':', '/', 1)}/link"


def repository_of(path: str) -> str:
    """Return the repository that a path below the repositories' root lies in, which has such a name; else nothing."""
    inside = path.removeprefix(f"{REPOSITORIES_ROOT}/")
    return inside.partition("/_")[0] if inside != path else ""


def blob_data(digest: str) -> str:
    """Return the file with a blob's bytes."""
    algorithm, _, checksum = digest.partition(":")
    return f"{BLOBS_ROOT}/{algorithm}/{checksum[:PREFIX_LENGTH]}/{checksum}/{BLOB_FILE}"


def blob_prefix(digest: str) -> str:
    """Return the directory that a blob shares with those of the same beginning."""
    algorithm, _, checksum = digest.partition(":")
    return f"{BLOBS_ROOT}/{algorithm}/{checksum[:PREFIX_LENGTH]}"


def is_repository_name(name: str) -> bool:
    """Tell whether a registry accepts this as the name of a repository."""
    return len(name) <= NAME_LENGTH_LIMIT and _REPOSITORY_NAME.fullmatch(name) is not None


def is_storable_name(name: str) -> bool:
    """Tell whether a text column can hold this name: encodable, without NUL, not empty, not over 255 characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(name) <= NAME_LENGTH_LIMIT and "\0" not in name


def is_digest(text: str) -> bool:
    """Tell whether this is a digest that the database can hold."""
    return _STORABLE_DIGEST.fullmatch(text) is not None


def is_digest_of(digest: str, content: bytes) -> bool:
    """Tell whether content has this digest."""
    algorithm, _, checksum = digest.partition(":")
    return hashlib.new(algorithm, content).hexdigest() == checksum


def parse_digest(text: str) -> str:
    """Return the text if it is a digest that the database can hold.

    Raises InvalidDigestError for what is no digest, DigestLengthError, UnsupportedDigestError for an algorithm that
    registries do not know, UnstorableDigestError for one that the database does not know.
    """
    if not is_digest(text):
        raise _digest_error(text)
    return text


def _digest_error(text: str) -> InvalidDigestError | DigestLengthError | UnsupportedDigestError | UnstorableDigestError:
    algorithm, _, checksum = text.partition(":")
    if not (algorithm and checksum):
        return InvalidDigestError(text)
    if algorithm not in KNOWN_LENGTHS:
        return UnsupportedDigestError(text) if _DIGEST.fullmatch(text) else InvalidDigestError(text)
    if len(checksum) != KNOWN_LENGTHS[algorithm]:
        return DigestLengthError(text, expected=KNOWN_LENGTHS[algorithm])
    return UnstorableDigestError(text) if _LOWER_HEX.fullmatch(checksum) else InvalidDigestError(text)


def parse_link(content: bytes) -> str:
    """Return the digest in a link file, which holds that and nothing else; raises as parse_digest does."""
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidDigestError(content.decode(errors="replace")) from None
    return parse_digest(text)


def digest_from_blob_path(path: str) -> str:
    """Return the digest that the path of a blob's data file spells; raises as parse_digest does.

    The directory of two hex characters between algorithm and checksum may be missing.
    """
    parts = path.split("/")[:-1]
    if len(parts) > 1 and parts[-2] == parts[-1][:PREFIX_LENGTH]:  # the two characters
        del parts[-2]
    return parse_digest(":".join(parts[-2:]))


def encode_blob_prefix(path: str) -> bytes | None:
    """Return how the digests of the blobs below a prefix begin in the database; None for an odd directory."""
    algorithm, _, two_characters = path.removeprefix(f"{BLOBS_ROOT}/").partition("/")
    if algorithm not in ALGORITHMS or len(two_characters) != PREFIX_LENGTH:
        return None
    if _LOWER_HEX.fullmatch(two_characters) is None:
        return None
    return ALGORITHMS[algorithm][0] + bytes.fromhex(two_characters)


def encode_digest(digest: str) -> bytes:
    """Return the digest as the database holds it: a byte for the algorithm, then the checksum."""
    algorithm, _, checksum = digest.partition(":")
    return ALGORITHMS[algorithm][0] + bytes.fromhex(checksum)


def decode_digest(stored: bytes) -> str:
    """Return the digest that the database holds as these bytes."""
    names = {byte: name for name, (byte, _length) in ALGORITHMS.items()}
    return f"{names.get(bytes(stored[:1]), 'unknown')}:{bytes(stored[1:]).hex()}"


def printable(text: str) -> str:
    """Spell out what is no text, or would control a terminal: names of files may hold anything."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def expected_root(root: str, *, children: frozenset[str]) -> str | None:
    """Return the root to give instead of one that lies inside a registry's tree, or None if it seems right.

    `children` are the names in the directory given. Where its own path does not end as such a tree's does,
    the answer describes the tree that is wanted.
    """
    if "docker" in children:
        return None
    above, inside, _ = f"{root}/".partition(f"/{REGISTRY_ROOT}/")
    if inside:
        return above or "/"
    if root.endswith("/docker") and "registry" in children:
        return root.removesuffix("/docker") or "/"
    if (children and children <= {"v2", "lockfiles"}) or children == {"repositories", "blobs"}:
        return f"a directory that holds {VERSION_ROOT}"
    return None
