"""Each kind of damage costs what is damaged and nothing else: its rows, its tag, its line in the report."""

import pytest
from django.db import connections

from metadata_import.differences import DifferenceKind
from metadata_import.errors import StrictImportError
from metadata_import.records import SkipReason
from metadata_import.statistics import Mode
from metadata_import.storage.filesystem import FilesystemDriver
from metadata_import.verifier import verify
from tests.metadata_import import damages_to_manifests, damages_to_storage
from tests.metadata_import.damages import Damage, Outcome, image_rows
from tests.metadata_import.registry_rows import registry_rows, row_keys
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import Tree, digest_of

pytestmark = pytest.mark.usefixtures("committed_db")

KINDS = range(1, 39)
DAMAGES = sorted([*damages_to_storage.DAMAGES, *damages_to_manifests.DAMAGES], key=lambda damage: damage.number)
FOUND_DIFFERENT = (33, 37, 38)  # gone since, or of another size than claimed: a comparison says so


def named(damage: Damage) -> str:
    return f"{damage.number:02}-{damage.name}"


each_damage = pytest.mark.parametrize("damage", DAMAGES, ids=named)
# The first shape of each, where the way through an import is asked for and not the damage.
KIND_BY_KIND = {each.number: each for each in reversed(DAMAGES)}.values()
each_kind = pytest.mark.parametrize("damage", KIND_BY_KIND, ids=named)


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
    if damage.number not in FOUND_DIFFERENT:
        compared = verify(outcome.driver or FilesystemDriver(tree.root), connections["registry"], concurrency=2)
        assert set(compared.difference_counts) <= {DifferenceKind.NOT_COMPARED}


@pytest.mark.parametrize("damage", [each for each in DAMAGES if each.stops or each in KIND_BY_KIND], ids=named)
def test_a_strict_import_stops_at_damage_that_is_more_than_a_warning(tree, damage):
    sound, outcome = damaged(tree, damage)
    if damage.stops:
        with pytest.raises(StrictImportError) as caught:
            import_tree(tree.root, driver=outcome.driver, strict=True)
        assert (caught.value.reason, caught.value.path) in outcome.skips
    else:
        import_tree(tree.root, driver=outcome.driver, strict=True)
        assert found_keys() == expected_keys(sound | outcome)


@each_kind
@pytest.mark.parametrize("modes", [(Mode.PRE_IMPORT, Mode.ALL_REPOSITORIES), (Mode.ALL_REPOSITORIES,)])
def test_tags_come_out_the_same_whichever_steps_are_run(tree, damage, modes):
    sound, outcome = damaged(tree, damage)
    for mode in modes:
        import_tree(tree.root, driver=outcome.driver, mode=mode)
    assert found_keys() == expected_keys(sound | outcome)
    found = row_keys(registry_rows())
    assert found["blobs"] == {(digest,) for _path, digest in found["links"]}  # none of what was left out


# --- Where no media type is to be created -------------------------------------------------------------------------

UNHEARD_OF = "application/x-unheard-of"


def test_an_unknown_type_of_a_layer_becomes_the_general_one(tree):
    digest = tree.image("bad", tag="t", layers=(tree.layer("bad", b"layer", media_type=UNHEARD_OF),))
    assert import_tree(tree.root, dynamic_media_types=False).skips == ()
    ((_, _, layer, _, media_type),) = registry_rows()["layers"]
    assert (layer, media_type) == (digest_of(b"layer"), "application/octet-stream")
    assert row_keys(registry_rows())["tags"] == {("bad", "t", digest)}


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.PRE_IMPORT])
def test_an_unknown_type_of_a_config_costs_the_image(tree, mode):
    config = tree.layer("bad", b"config", media_type=UNHEARD_OF)
    bad = tree.image("bad", tag="bad", config=config, layers=(b"only here",))
    sound = image_rows(tree, tree.image("bad", tag="fine", layers=(b"fine",)), tag="fine")
    report = import_tree(tree.root, dynamic_media_types=False, mode=mode)
    skips = {(skip.reason, skip.path) for skip in report.skips}
    assert (SkipReason.MEDIA_TYPE_UNKNOWN, str(tree.revision_link("bad", bad).relative_to(tree.root))) in skips
    found = registry_rows()
    for table in ("manifests", "layers", "links"):
        assert row_keys(found)[table] == sound.rows[table]
    assert ((digest_of(b"only here"),) in row_keys(found)["blobs"]) == (mode is Mode.FULL)


def test_an_unknown_type_of_a_config_stops_a_strict_import(tree):
    config = tree.layer("bad", b"config", media_type=UNHEARD_OF)
    tree.image("bad", tag="bad", config=config)
    with pytest.raises(StrictImportError):
        import_tree(tree.root, dynamic_media_types=False, strict=True)
    assert registry_rows()["manifests"] == set()
