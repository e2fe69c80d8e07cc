"""Manifests that no tag leads to and that name another one as their subject: signatures, attestations and the like.

Nothing in storage lists them, so each revision that is left over in a repository is read and asked for its subject: one
read, where importing an image takes twenty. Without them a registry would lose its signatures and not be told.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from metadata_import import layout
from metadata_import.errors import FileTooLargeError, PathNotFoundError, StorageError, UnusableContentError
from metadata_import.manifest_reader import PAYLOAD_LIMIT_BYTES
from metadata_import.manifests import parse_manifest
from metadata_import.records import Skip, SkipReason
from metadata_import.storage.base import StorageDriver

SUBJECT_KEY = b'"subject"'


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest by its digest, and the digest that it refers to."""

    digest: str
    subject: str


def list_revisions(driver: StorageDriver, repository: str) -> tuple[list[str], list[Skip]]:
    """Return the digests of all manifests that a repository has links for, and what could not be listed."""
    root = layout.revisions_directory(repository)
    digests: list[str] = []
    skips: list[Skip] = []
    try:
        for algorithm in [entry.name for entry in driver.list(root) if entry.name in layout.ALGORITHMS]:
            digests += [f"{algorithm}:{entry.name}" for entry in driver.list(f"{root}/{algorithm}")]
    except PathNotFoundError:
        pass
    except StorageError as error:
        skips.append(Skip(SkipReason(error.code), root, error.reason))
    return [digest for digest in digests if layout.is_digest(digest)], skips


def find_referrers(driver: StorageDriver, digests: Iterable[str]) -> tuple[list[Referrer], list[Skip]]:
    """Return those of these manifests that have a subject. Nothing needs them yet: only failing storage is a skip."""
    found: list[Referrer] = []
    skips: list[Skip] = []
    for digest in digests:
        path = layout.blob_data(digest)
        try:
            payload = driver.read(path, limit=PAYLOAD_LIMIT_BYTES)
            subject = parse_manifest(payload).subject if SUBJECT_KEY in payload.lower() else None
        except (PathNotFoundError, FileTooLargeError, UnusableContentError):
            continue
        except StorageError as error:
            skips.append(Skip(SkipReason(error.code), path, error.reason))
            continue
        if subject:
            found.append(Referrer(digest, subject))
    return found, skips


def generations(candidates: Sequence[Referrer], *, imported: set[str]) -> Iterator[list[str]]:
    """Yield the digests that refer to what is imported, then those that refer to these, and so on.

    Whoever consumes this adds to `imported` what could be imported of each generation before it asks for the next.
    """
    waiting = [each for each in candidates if each.digest not in imported]
    while ready := [each.digest for each in waiting if each.subject in imported]:
        yield ready
        asked = set(ready)
        waiting = [each for each in waiting if each.digest not in asked]
