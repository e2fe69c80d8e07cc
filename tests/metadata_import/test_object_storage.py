"""Imports from real object storage: the rows of a directory, whatever stands between."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.db import connections

from metadata_import import foresight, importer, layout, presence, reader
from metadata_import.storage.base import StorageDriver
from metadata_import.storage.filesystem import FilesystemDriver
from metadata_import.verifier import verify
from tests.conftest import EMPTY_TABLES
from tests.metadata_import import fuzzing
from tests.metadata_import.registry_rows import registry_rows
from tests.metadata_import.runs import import_tree
from tests.metadata_import.test_resume import grow
from tests.metadata_import.trees import Tree
from tests.object_servers import SERVERS, Open, new_bucket, upload
from tests.slow_proxy import SlowProxy

pytestmark = pytest.mark.usefixtures("committed_db")

READS_IN_FLIGHT = 32
LAYERS = 600
FUZZED_TREES = {"azure": 2, "gcs": 2, "s3": 6}
DRIVERS = [pytest.param(name, marks=pytest.mark.e2e if name == "azure" else ()) for name in SERVERS]


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], Open]]:
    """Give what opens storages by the name of a driver; each server is started once, when it is needed."""
    with ExitStack() as running:
        started: dict[str, Open] = {}

        def opener(name: str) -> Open:
            if name not in started:
                started[name] = running.enter_context(SERVERS[name]())
            return started[name]

        yield opener


@dataclass(frozen=True)
class Copy:
    """A tree that lies in a bucket of S3 too."""

    tree: Tree
    bucket: str
    open_bucket: Open

    def through(self, proxy: SlowProxy) -> StorageDriver:
        return self.open_bucket(port=proxy.port, bucket=self.bucket)


@pytest.fixture(scope="module")
def copy(servers, tmp_path_factory) -> Copy:
    """A tree of some repositories, in a bucket; tests read it and leave it as it is, lock files aside."""
    tree = Tree(tmp_path_factory.mktemp("copy"))
    grow(tree)
    as_objects(tree.root)
    open_bucket = servers("s3")
    bucket = new_bucket(open_bucket.port)
    upload(tree.root, open_bucket(bucket=bucket))
    return Copy(tree, bucket, open_bucket)


def outcome_of(driver: StorageDriver, **options: Any) -> tuple[dict, set]:
    """Import a storage into empty tables; return what is in them and what was left out."""
    with connections["registry"].cursor() as cursor:
        cursor.execute(EMPTY_TABLES)
    report = import_tree(Path(), driver=driver, reads_in_flight=READS_IN_FLIGHT, **options)
    driver.delete(layout.DATABASE_LOCK)
    return registry_rows(), {(skip.reason, skip.path) for skip in report.skips}


def as_objects(root: Path) -> None:
    """Take from a tree what object storage cannot hold: links, and directories without a file."""
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_symlink():
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def copied(root: Path, driver: StorageDriver) -> StorageDriver:
    upload(root, driver)
    return driver


@pytest.mark.parametrize("name", DRIVERS)
def test_damaged_trees_give_the_rows_and_skips_of_a_directory(servers, tmp_path, monkeypatch, name):
    # So that small trees are read as large ones are: in parts, and what listings tell of them is not all.
    monkeypatch.setattr(presence, "LISTED_PER_PREFIX", 1)
    monkeypatch.setattr(foresight, "LISTED_LINKS", 4)
    monkeypatch.setattr(reader, "REMOTE_PART_WEIGHT_LIMIT_BYTES", 3_000)
    for seed in range(FUZZED_TREES[name]):
        rng, tree = Random(seed), Tree(tmp_path / str(seed))
        fuzzing.grow(rng, tree)
        damages = [fuzzing.harm(rng, tree) for _ in range(rng.randint(1, 6))]
        tree.image("sound", tag="sound")  # without a file in it a directory of blobs or repositories does not exist
        as_objects(tree.root)
        expected = outcome_of(FilesystemDriver(tree.root))
        assert outcome_of(copied(tree.root, servers(name)())) == expected, (seed, damages)


@pytest.mark.parametrize("name", DRIVERS)
def test_a_comparison_finds_what_an_import_left_equal_and_what_was_taken_since(servers, tmp_path, name):
    tree = Tree(tmp_path)
    for tag in ("one", "two"):
        tree.image("group/app", tag=tag, layers=(tag.encode(),))
    driver = copied(tree.root, servers(name)())
    outcome_of(driver)
    assert verify(driver, connections["registry"], concurrency=READS_IN_FLIGHT).is_equal
    driver.delete(layout.tag_link("group/app", "one"))
    report = verify(driver, connections["registry"], concurrency=READS_IN_FLIGHT)
    assert report.difference_counts == {"tag_extra": 1}


@pytest.mark.parametrize(
    "weather",
    [
        {"latency": 0.02, "jitter": 0.02},
        {"latency": 0.1},
        {"resets": 0.01, "latency": 0.005},
        {"refusals": 0.005, "burst": 10, "latency": 0.005},
    ],
    ids=["20 ms and jitter", "100 ms", "cut connections", "bursts of refusals"],
)
def test_a_far_and_unreliable_storage_gives_the_same_rows(copy, weather):
    expected = outcome_of(FilesystemDriver(copy.tree.root))
    with SlowProxy(copy.open_bucket.port, **weather).serving() as proxy:
        assert outcome_of(copy.through(proxy)) == expected
        assert 1 < proxy.most_at_once <= READS_IN_FLIGHT + reader.REMOTE_PARTS
        assert bool(proxy.cut) == ("resets" in weather)
        assert bool(proxy.refused) == ("refusals" in weather)


def test_listings_stand_for_a_question_about_each_layer(servers, tmp_path):
    asked = []
    for count in (1, LAYERS):
        tree = Tree(tmp_path / str(count))
        tree.image("a", tag="t", layers=tuple(b"%d" % number for number in range(count)))
        open_bucket, bucket = servers("s3"), new_bucket(servers("s3").port)
        upload(tree.root, open_bucket(bucket=bucket))
        with SlowProxy(open_bucket.port).serving() as proxy:
            rows, skips = outcome_of(open_bucket(port=proxy.port, bucket=bucket))
        assert (len(rows["layers"]), skips) == (count, set())
        asked.append(proxy.requests)
    # To see what is there and to import it, each prefix is listed once.
    assert asked[1] - asked[0] < 2 * 256 + 10 < LAYERS


def test_processes_share_an_object_storage(copy, monkeypatch):
    monkeypatch.setattr(importer, "ITEMS_PER_PROCESS", 2)
    expected = outcome_of(FilesystemDriver(copy.tree.root))
    assert outcome_of(copy.open_bucket(bucket=copy.bucket), concurrency=2) == expected
