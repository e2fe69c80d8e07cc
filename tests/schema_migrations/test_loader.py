"""The loader finds and sorts migrations and refuses what does not fit together."""

import pytest

from schema_migrations.errors import (
    DependencyCycleError,
    DuplicateBackgroundMigrationError,
    DuplicateVersionError,
    MalformedMigrationError,
    UnknownBackgroundMigrationError,
    UnknownRequirementError,
)
from schema_migrations.loader import load_migrations
from tests.schema_migrations.declared import PRE, folders, known, module

FIRST, SECOND, THIRD = "20260101000001_first", "20260101000002_second", "20260101000003_third"


def test_migrations_come_by_phase_and_version(tmp_path):
    paths = folders(tmp_path, {f"pre/{THIRD}.py": module(), f"pre/{FIRST}.py": module(), f"post/{SECOND}.py": module()})
    assert [each.id for each in load_migrations(paths)] == [FIRST, THIRD, SECOND]


def test_init_files_are_not_migrations(tmp_path):
    assert load_migrations(folders(tmp_path, {"pre/__init__.py": "", "post/__init__.py": ""})) == ()


@pytest.mark.parametrize(
    ("file", "body", "reason"),
    [
        ("pre/first.py", module(), "its name must be"),
        ("pre/2026_first.py", module(), "its name must be"),
        (f"pre/{FIRST}.py", "", "it must define `migration"),
        (f"pre/{FIRST}.py", "migration = 3", "it must define `migration"),
        (f"pre/{FIRST}.py", "migration = (", "SyntaxError"),
        (f"pre/{FIRST}.py", "import nowhere_at_all", "ModuleNotFoundError"),
        (f"pre/{FIRST}.py", module(surprise=1), "TypeError"),
        (f"pre/{FIRST}.py", module(up="SELECT 1"), "`up` must be a list"),
        (f"pre/{FIRST}.py", module(down=["  "]), "`down` must be a list"),
        (f"pre/{FIRST}.py", module(requires="second"), "`requires` must be a list"),
        (f"pre/{FIRST}.py", module(queued_background_migrations="copy"), "`queued_background_migrations` must be"),
        (f"pre/{FIRST}.py", module(required_background_migrations=[1]), "`required_background_migrations` must be"),
        (f"pre/{FIRST}.py", module(up=None), "`up` must be a list"),
        (f"pre/{FIRST}.py", "raise SystemExit(3)", "SystemExit"),
        (f"pre/{FIRST}.py", module(up=["CREATE INDEX CONCURRENTLY ON a (b)"]), "needs a name"),
        (f"pre/{FIRST}.py", module(up=["CREATE INDEX /* soon */ CONCURRENTLY i ON a (b)"]), "needs a name"),
        (f"pre/{FIRST}.py", module(irreversible="Rows are gone."), "`down` must stay empty"),
        (f"pre/{FIRST}.py", module(down=[]), "it needs a `down`"),
    ],
)
def test_a_malformed_file_is_refused_by_name(tmp_path, file, body, reason):
    with pytest.raises(MalformedMigrationError) as caught:
        load_migrations(folders(tmp_path, {file: body}))
    assert reason in str(caught.value)
    assert file.removeprefix("pre/") in str(caught.value)


def test_an_editor_s_hidden_files_are_passed_over(tmp_path):
    paths = folders(tmp_path, {f"pre/.#{FIRST}.py": "garbage", f"pre/{FIRST}.py": module()})
    assert [each.id for each in load_migrations(paths)] == [FIRST]


def test_one_version_in_both_phases_is_refused(tmp_path):
    paths = folders(tmp_path, {f"pre/{FIRST}.py": module(), "post/20260101000001_other.py": module()})
    with pytest.raises(DuplicateVersionError, match=r"first.*other"):
        load_migrations(paths)


def test_a_requirement_must_exist(tmp_path):
    paths = folders(tmp_path, {f"pre/{FIRST}.py": module(requires=[SECOND])})
    with pytest.raises(UnknownRequirementError, match=SECOND):
        load_migrations(paths)


def test_two_that_require_each_other_are_refused(tmp_path):
    paths = folders(
        tmp_path,
        {f"pre/{FIRST}.py": module(requires=[SECOND]), f"post/{SECOND}.py": module(requires=[FIRST])},
    )
    with pytest.raises(DependencyCycleError, match="circle"):
        load_migrations(paths)


def test_a_requirement_against_the_order_of_its_phase_is_a_circle(tmp_path):
    paths = folders(tmp_path, {f"pre/{FIRST}.py": module(requires=[SECOND]), f"pre/{SECOND}.py": module()})
    with pytest.raises(DependencyCycleError):
        load_migrations(paths)


def queues(*names, **declared):
    return module(queued_background_migrations=list(names), **declared)


def needs(*names, **declared):
    return module(required_background_migrations=list(names), **declared)


@pytest.mark.parametrize(
    ("name", "hint"), [("copy_tag_ids", "Did you mean 'copy_tags_ids'?"), ("unheard_of", "Is its name right?")]
)
def test_a_background_migration_that_none_queues_is_refused_by_name(tmp_path, name, hint):
    paths = folders(tmp_path, {f"pre/{FIRST}.py": queues("copy_tags_ids", "fill"), f"pre/{SECOND}.py": needs(name)})
    with pytest.raises(UnknownBackgroundMigrationError) as caught:
        load_migrations(paths)
    assert f"{SECOND} requires background migration '{name}'" in str(caught.value)
    assert hint in str(caught.value)


def test_a_background_migration_is_queued_by_one_alone(tmp_path):
    paths = folders(tmp_path, {f"pre/{FIRST}.py": queues("copy"), f"post/{SECOND}.py": queues("copy")})
    with pytest.raises(DuplicateBackgroundMigrationError, match=rf"{FIRST} and {SECOND} both queue .* 'copy'"):
        load_migrations(paths)


def test_whoever_requires_background_migrations_comes_after_those_that_queue_them(tmp_path):
    paths = folders(
        tmp_path,
        {
            f"pre/{FIRST}.py": queues("one", "two"),
            f"pre/{SECOND}.py": needs("one", "three", "two", requires=[FIRST]),
            f"post/{THIRD}.py": queues("three"),
        },
    )
    requires = {each.id: each.requires for each in load_migrations(paths)}
    assert requires == {FIRST: (), SECOND: (FIRST, FIRST, THIRD), THIRD: ()}


def test_what_is_required_before_it_is_queued_is_a_circle(tmp_path):
    paths = folders(tmp_path, {f"pre/{FIRST}.py": needs("copy"), f"pre/{SECOND}.py": queues("copy")})
    with pytest.raises(DependencyCycleError, match=rf"{FIRST}.*{SECOND}"):
        load_migrations(paths)


def test_a_background_migration_cannot_be_required_by_the_one_that_queues_it(tmp_path):
    both = module(queued_background_migrations=["copy"], required_background_migrations=["copy"])
    with pytest.raises(DependencyCycleError):
        load_migrations(folders(tmp_path, {f"pre/{FIRST}.py": both}))


def test_a_shared_migration_cannot_require_a_background_migration_of_one_that_is_left_out(tmp_path):
    paths = folders(
        tmp_path, {f"pre/{FIRST}.py": queues("copy", own_database_only=True), f"pre/{SECOND}.py": needs("copy")}
    )
    assert len(load_migrations(paths)) == 2
    with pytest.raises(UnknownBackgroundMigrationError):
        load_migrations(paths, own_database=False)


def test_what_only_an_own_database_needs_is_left_out_elsewhere(tmp_path):
    paths = folders(tmp_path, {f"pre/{FIRST}.py": module(), f"pre/{SECOND}.py": module(own_database_only=True)})
    assert [each.id for each in load_migrations(paths, own_database=False)] == [FIRST]


def test_a_shared_migration_cannot_require_one_that_is_left_out(tmp_path):
    paths = folders(
        tmp_path,
        {f"pre/{FIRST}.py": module(own_database_only=True), f"post/{SECOND}.py": module(requires=[FIRST])},
    )
    with pytest.raises(UnknownRequirementError):
        load_migrations(paths, own_database=False)


def test_the_checksum_follows_the_statements_and_the_mode():
    assert known(1, "a").checksum == known(2, "a").checksum
    assert known(1, "a").checksum != known(1, "b").checksum
    assert known(1, "a").checksum != known(1, "a", transactional=False).checksum
    background = {"queued_background_migrations": ["copy"], "required_background_migrations": ["fill"]}
    assert known(1, "a").checksum == known(1, "a", requires=["b"], **background).checksum
    assert known(1, "a").phase is PRE
