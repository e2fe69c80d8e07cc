"""Each kind of damage costs what is damaged and nothing else: its rows, its tag, its line in the report."""

import pytest

from metadata_import.records import TOLERATED
from tests.metadata_import import damages_to_manifests, damages_to_storage
from tests.metadata_import.damages import Damage, Outcome, image_rows
from tests.metadata_import.registry_rows import registry_rows, row_keys
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import Tree

pytestmark = pytest.mark.usefixtures("committed_db")

KINDS = range(1, 39)
DAMAGES = sorted([*damages_to_storage.DAMAGES, *damages_to_manifests.DAMAGES], key=lambda damage: damage.number)
each_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: f"{damage.number:02}-{damage.name}")


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path / "root")


def damaged(tree: Tree, damage: Damage) -> tuple[Outcome, Outcome]:
    """Build a tree with this damage; return what is left of the sound image, and what of the damaged one."""
    sound = image_rows(tree, tree.image("bad", tag="fine", layers=(b"fine",)), tag="fine")
    return sound | Outcome(rows={"repositories": {("bad",)}}), damage.make(tree)


def expected_keys(outcome: Outcome) -> dict[str, set]:
    tables = ("repositories", "tags", "manifests", "layers", "references", "links")
    return {table: outcome.rows.get(table, set()) for table in tables}


def found_keys() -> dict[str, set]:
    keys = row_keys(registry_rows())
    del keys["blobs"]
    return keys


def test_there_is_a_test_for_each_kind_of_damage():
    assert sorted({damage.number for damage in DAMAGES}) == list(KINDS)


@each_damage
def test_damage_costs_what_is_damaged_and_is_reported(tree, damage):
    sound, outcome = damaged(tree, damage)
    report = import_tree(tree.root, driver=outcome.driver)
    assert {(skip.reason, skip.path) for skip in report.skips} == outcome.skips
    assert found_keys() == expected_keys(sound | outcome)


@each_damage
def test_a_strict_import_stops_at_some_damage(tree, damage):
    _, outcome = damaged(tree, damage)
    assert damage.stops == any(reason not in TOLERATED for reason, _path in outcome.skips)
