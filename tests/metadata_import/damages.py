"""What damages to a tree are made of, and what an import is to make of each.

A damage is done to the repository `bad`, which also holds a sound image under the tag `fine`. Its number is that of its
kind; kinds that come in several shapes appear several times. `stops` tells whether a strict import ends there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from metadata_import.records import SkipReason as R
from metadata_import.storage.base import StorageDriver
from tests.fakes import MemoryDriver
from tests.metadata_import.trees import FOREIGN_LAYER, Tree

MD5 = "md5:" + "0" * 32
SHA384 = "sha384:" + "0" * 96
SHORT = "sha256:00"
GARBAGE = "latest"
BASE = "docker/registry/v2"


@dataclass
class Outcome:
    """What an import leaves of what was damaged, beside the sound image: the keys of rows, by table, and the skips."""

    skips: set[tuple[R, str]] = field(default_factory=set)
    rows: dict[str, set[tuple[Any, ...]]] = field(default_factory=dict)
    driver: StorageDriver | None = None  # where the filesystem's cannot show the damage

    def __or__(self, other: "Outcome") -> "Outcome":
        tables = self.rows.keys() | other.rows.keys()
        rows = {table: self.rows.get(table, set()) | other.rows.get(table, set()) for table in tables}
        return Outcome(self.skips | other.skips, rows, self.driver or other.driver)


@dataclass(frozen=True)
class Damage:
    """One kind of damage."""

    number: int
    name: str
    stops: bool
    make: Callable[[Tree], Outcome]


Make = Callable[[Tree], Outcome]


class Damages(list[Damage]):
    """Some kinds of damage, in the order of their numbers."""

    def kind(self, number: int, *, stops: bool = False) -> Callable[[Make], Make]:
        """Add what a function does to a tree."""

        def add(make: Make) -> Make:
            self.append(Damage(number, make.__name__, stops, make))
            return make

        return add

    def shapes(self, number: int, name: str, make: Callable[..., Outcome], *, stops: bool = False, **each: Any) -> None:
        """Add what a function does with each of these arguments, named by its keyword."""
        for shape, argument in each.items():
            self.append(Damage(number, f"{name}-{shape}", stops, partial(_call, make, argument)))


def _call(make: Callable[..., Outcome], argument: Any, tree: Tree) -> Outcome:
    return make(tree, argument)


# --- What is left, by its rows ------------------------------------------------------------------------------------


def image_rows(tree: Tree, digest: str, *, tag: str | None = "bad", without: set[str] | None = None) -> Outcome:
    """Return the rows of an image, whose payload must be whole still, save those of some layers."""
    content = json.loads(tree.blob_path(digest).read_bytes())
    foreign = {layer["digest"] for layer in content["layers"] if layer["mediaType"] == FOREIGN_LAYER}
    layers = {layer["digest"] for layer in content["layers"]} - (without or set()) - foreign
    rows: dict[str, set[tuple[Any, ...]]] = {
        "manifests": {("bad", digest)},
        "layers": {("bad", digest, layer) for layer in layers},
        "links": {("bad", blob) for blob in {content["config"]["digest"], *layers}},
    }
    if tag:
        rows["tags"] = {("bad", tag, digest)}
    return Outcome(rows=rows)


def index_rows(digest: str, children: list[str]) -> Outcome:
    references = {("bad", digest, child) for child in children}
    return Outcome(
        rows={"manifests": {("bad", digest)}, "references": references, "tags": {("bad", "bad", digest)}},
    )


def skipped(reason: R, path: Any, tree: Tree) -> Outcome:
    return Outcome({(reason, str(path.relative_to(tree.root)))})


def with_its_tag(reason: R, path: Any, tree: Tree) -> Outcome:
    """Return the outcome of a manifest that is left out, and so is the tag on it."""
    tag = skipped(R.TAG_WITHOUT_MANIFEST, tree.tag_link("bad", "bad"), tree)
    return skipped(reason, path, tree) | tag


def in_memory(tree: Tree, *, broken: Any) -> MemoryDriver:
    files = {name.removeprefix(f"{tree.root}/"): content for name, content in tree.files().items()}
    return MemoryDriver(files, broken={str(broken.relative_to(tree.root)): "Input/output error"})
