"""Random trees with random damage, and what must be true of every import of one.

The tree is read here in the plainest way, by pathlib and json alone: whatever it says is in the database or in the
report, and nothing is in the database by halves.
"""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connections

from metadata_import.differences import DifferenceKind
from metadata_import.statistics import ImportReport
from metadata_import.storage.filesystem import FilesystemDriver
from metadata_import.verifier import verify
from tests.metadata_import.registry_rows import registry_rows
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import FOREIGN_LAYER, OCI_INDEX, Tree, digest_of, encode

REPOSITORIES = ("a", "a/b", "group/app", "z")
CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
EMPTY = "DELETE FROM manifest_references; DELETE FROM top_level_namespaces; DELETE FROM blobs"
# Sizes are what manifests claim, and content is not checked against digests: a comparison tells, an import does not.
ALLOWED_DIFFERENCES = {
    DifferenceKind.NOT_COMPARED,
    DifferenceKind.BLOB_SIZE_DIFFERS,
    DifferenceKind.PAYLOAD_CORRUPT,
}


def fuzz(seed: int, directory: Path) -> list[str]:
    """Import one random tree twice; return what is wrong with that, hopefully nothing."""
    rng = random.Random(seed)
    tree = Tree(directory)
    grow(rng, tree)
    damages = [harm(rng, tree) for _ in range(rng.randint(1, 6))]
    try:
        problems = _import_twice(tree)
    finally:
        _execute(EMPTY)
    return [f"tree {seed}: {problem} (damaged: {', '.join(damages)})" for problem in problems]


def _import_twice(tree: Tree) -> list[str]:
    report = import_tree(tree.root)
    rows = registry_rows()
    problems = [*Truth(tree, report, rows).problems()]
    compared = verify(FilesystemDriver(tree.root), connections["registry"], concurrency=2)
    differences = [each for each in compared.differences if each.kind not in ALLOWED_DIFFERENCES]
    problems += [f"a comparison finds {difference}" for difference in differences]
    _execute("DELETE FROM tags")
    shutil.rmtree(tree.root / "docker/registry/lockfiles", ignore_errors=True)
    again = import_tree(tree.root)
    if registry_rows() != rows:
        problems.append("a second import changes rows")
    if set(again.skips) != set(report.skips):
        problems.append("a second import reports something else")
    return problems


def _execute(statement: str) -> None:
    with connections["registry"].cursor() as cursor:
        cursor.execute(statement)


# --- Trees --------------------------------------------------------------------------------------------------------


def grow(rng: random.Random, tree: Tree) -> None:
    """Build a healthy tree."""
    (tree.base / "blobs").mkdir(parents=True)
    for repository in rng.sample(REPOSITORIES, rng.randint(1, len(REPOSITORIES))):
        tree.repository(repository)
        images = [_image(rng, tree, repository, tag=f"t{number}") for number in range(rng.randint(0, 3))]
        children = [_image(rng, tree, repository) for _ in range(rng.randint(0, 3))]
        if images and rng.random() < 0.5:
            _image(rng, tree, repository, subject={"digest": rng.choice(images), "size": 1})
        if children:
            inner = tree.index(repository, children, tag=rng.choice((None, "index")))
            tree.index(repository, [inner, *images[:1]], tag="nested")
        if rng.random() < 0.3:
            entries = [tree.layer(repository, b"cache"), tree.layer(repository, b"cfg", media_type=CACHE_CONFIG)]
            cache = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
            tree.manifest(repository, cache, tag="cache")


def _image(rng: random.Random, tree: Tree, repository: str, *, tag: str | None = None, **more: Any) -> str:
    layers: list[Any] = [f"layer {rng.randint(0, 6)}".encode() for _ in range(rng.randint(0, 4))]
    if rng.random() < 0.2:
        layers.append({"mediaType": FOREIGN_LAYER, "digest": digest_of(b"elsewhere"), "size": 3})
    return tree.image(repository, tag=tag, layers=layers, annotations={"n": str(rng.random())}, **more)


# --- Damage -------------------------------------------------------------------------------------------------------


def flip(rng: random.Random, path: Path, _other: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(rng: random.Random, path: Path, _other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randint(0, len(content))])


def append(rng: random.Random, path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes() + rng.choice((b"\n", b" ", b"\0", b"0")))


def remove(_rng: random.Random, path: Path, _other: Path) -> None:
    path.unlink()


def remove_directory(rng: random.Random, path: Path, _other: Path) -> None:
    below = path.relative_to(path.parents[len(path.parts) - path.parts.index("v2") - 3]).parts
    shutil.rmtree(path.parents[rng.randint(0, max(0, len(below) - 2))])


def swap(_rng: random.Random, path: Path, other: Path) -> None:
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)


def turn_into_directory(_rng: random.Random, path: Path, _other: Path) -> None:
    path.unlink()
    path.mkdir()


def link_elsewhere(rng: random.Random, path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(rng.choice((other, Path("/etc/hostname"), Path("loop"))))


HARMS: tuple[Callable[[random.Random, Path, Path], None], ...] = (
    flip,
    flip,
    truncate,
    append,
    remove,
    remove_directory,
    swap,
    turn_into_directory,
    link_elsewhere,
)


def harm(rng: random.Random, tree: Tree) -> str:
    """Damage one file, and say how."""
    files = sorted(path for path in tree.base.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return "nothing"
    path, other = rng.choice(files), rng.choice(files)
    how = rng.choice(HARMS)
    how(rng, path, other)
    return f"{how.__name__} {path.relative_to(tree.base)}"


# --- What must be true --------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """One damaged tree, the report of its import and the rows."""

    tree: Tree
    report: ImportReport
    rows: dict[str, set[tuple[Any, ...]]]
    reported: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.reported = [f"{skip.path} {skip.detail}" for skip in self.report.skips]

    def problems(self) -> Iterator[str]:
        """Yield whatever is neither in the database nor in the report, or in the database by halves."""
        yield from self._repositories()
        yield from self._blobs()
        for row in self.rows["manifests"]:
            yield from self._manifest(row[0], row[1], row[2])
        yield from self._orphans()

    def _is_reported(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in self.reported)

    def _repositories(self) -> Iterator[str]:
        root = self.tree.base / "repositories"
        found = {row[0] for row in self.rows["repositories"]}
        for marker in root.rglob("_manifests"):
            path = marker.parent.relative_to(root).as_posix()
            if marker.is_dir() and path not in found:
                yield f"repository {path} is missing"
            yield from self._tags(path, marker / "tags")

    def _tags(self, path: str, directory: Path) -> Iterator[str]:
        named = {row[1]: row[2] for row in self.rows["tags"] if row[0] == path}
        for tag in directory.iterdir() if directory.is_dir() else ():
            link = self.tree.tag_link(path, tag.name)
            where = str(link.relative_to(self.tree.root))
            if tag.name not in named:
                if not self._is_reported(where.removesuffix("/current/link")):
                    yield f"tag {where} is neither imported nor reported"
            elif link.read_text() != named[tag.name]:
                yield f"tag {where} names {named[tag.name]}"

    def _blobs(self) -> Iterator[str]:
        found = {row[0] for row in self.rows["blobs"]}
        for data in (path for path in (self.tree.base / "blobs").rglob("data") if not path.is_dir()):
            digest = f"{data.parts[-4]}:{data.parts[-2]}"
            if digest not in found and not self._is_reported(data.parts[-2]):
                yield f"blob {digest} is neither imported nor reported"

    def _manifest(self, path: str, digest: str, payload: bytes) -> Iterator[str]:
        content = json.loads(payload)
        entries = content.get("manifests")
        if entries and any(entry.get("mediaType") == CACHE_CONFIG for entry in entries):
            content = {"layers": [entry for entry in entries if entry["mediaType"] != CACHE_CONFIG]}
            entries = None
        layers = {row[2] for row in self.rows["layers"] if row[:2] == (path, digest)}
        children = {row[2] for row in self.rows["references"] if row[:2] == (path, digest)}
        named = [each for each in content.get("layers") or [] if each.get("mediaType") != FOREIGN_LAYER]
        yield from self._members(path, digest, "layer", named, layers)
        yield from self._members(path, digest, "child", entries or [], children)

    def _members(
        self, path: str, digest: str, kind: str, named: list[dict[str, Any]], imported: set[str]
    ) -> Iterator[str]:
        for each in named:
            name = each.get("digest") or ""
            if (
                name not in imported
                and name != digest
                and not self._is_reported(f"/{path}/", _hex(name) or _hex(digest))
            ):
                yield f"{kind} {name} of {digest} in {path} is neither imported nor reported"
        if extra := imported - {each.get("digest") for each in named}:
            yield f"{digest} in {path} has a {kind} that it does not name: {extra}"

    def _orphans(self) -> Iterator[str]:
        """Links of a repository belong to a manifest of it."""
        used = {(row[0], row[6]) for row in self.rows["manifests"]} | {(row[0], row[2]) for row in self.rows["layers"]}
        for link in self.rows["links"] - used:
            yield f"link {link} belongs to no manifest"
        for table, column in (("layers", 1), ("references", 1), ("references", 2), ("tags", 2)):
            manifests = {row[:2] for row in self.rows["manifests"]}
            for row in self.rows[table]:
                if (row[0], row[column]) not in manifests:
                    yield f"{table} row {row} is of no manifest"


def _hex(digest: str) -> str:
    return digest.partition(":")[2]
