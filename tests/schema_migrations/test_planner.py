"""The planner is pure: every case is a list of migrations, what is applied, and the steps that follow."""

from dataclasses import replace

import pytest

from schema_migrations.errors import (
    ConflictingOptionsError,
    InvalidLimitError,
    IrreversibleMigrationError,
    SkippedRequirementError,
)
from schema_migrations.planner import Selection, plan_down, plan_up, select
from tests.schema_migrations.declared import POST, known

A, B, C = known(1, "a"), known(2, "b"), known(5, "c")
X, Y = known(3, "x", POST), known(4, "y", POST)
ALL = (A, B, C, X, Y)


def names(steps):
    return [step.known.id.partition("_")[2] for step in steps]


def ids(*migrations):
    return {each.id for each in migrations}


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, ["a", "b", "c", "x", "y"]),
        ({"limit": 2}, ["a", "b"]),
        ({"limit": 99}, ["a", "b", "c"]),
        ({"post_deploy_limit": 1}, ["x"]),
        ({"limit": 1, "post_deploy_limit": 1}, ["a", "x"]),
        ({"skip_post_deployment": True}, ["a", "b", "c"]),
        ({"limit": 1, "skip_post_deployment": True}, ["a"]),
    ],
)
def test_options_select_what_goes_up(options, steps):
    selection = select(**{"limit": None, "post_deploy_limit": None, **options})
    assert names(plan_up(ALL, applied=set(), selection=selection)) == steps


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, ["y", "x", "c", "b", "a"]),
        ({"limit": 2}, ["c", "b"]),
        ({"post_deploy_limit": 1}, ["y"]),
        ({"limit": 1, "post_deploy_limit": 1}, ["y", "c"]),
    ],
)
def test_options_select_what_goes_down(options, steps):
    selection = select(**{"limit": None, "post_deploy_limit": None, **options})
    assert names(plan_down(ALL, applied=ids(*ALL), selection=selection)) == steps


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("option", ["limit", "post_deploy_limit"])
def test_a_limit_below_one_is_refused(option, value):
    with pytest.raises(InvalidLimitError, match=option.replace("_", "-")):
        select(**{"limit": None, "post_deploy_limit": None, option: value})


def test_skipping_and_limiting_post_deployment_contradict_each_other():
    with pytest.raises(ConflictingOptionsError):
        select(limit=None, post_deploy_limit=1, skip_post_deployment=True)


def test_a_hole_is_filled_in_order():
    assert names(plan_up(ALL, applied=ids(B, Y), selection=Selection())) == ["a", "c", "x"]


def test_unknown_applied_ids_matter_to_neither_direction():
    applied = {"99999999999999_from_the_future", *ids(A)}
    assert names(plan_up((A, B), applied=applied, selection=Selection())) == ["b"]
    assert names(plan_down((A, B), applied=applied, selection=Selection())) == ["a"]


def test_a_required_post_deployment_migration_comes_first_with_those_before_it():
    needy = known(6, "needy", requires=[Y.id])
    steps = plan_up((A, needy, X, Y), applied=set(), selection=Selection(1, 0))
    assert names(steps) == ["a"]
    steps = plan_up((A, needy, X, Y), applied=ids(A), selection=Selection(1, 0))
    assert names(steps) == ["x", "y", "needy"]
    assert [step.pulled_in_by for step in steps] == [needy.id, needy.id, None]


def test_a_post_deployment_migration_alone_pulls_in_what_it_requires():
    needy = known(6, "needy", POST, requires=[B.id])
    assert names(plan_up((A, B, C, needy), applied=set(), selection=Selection(0, 1))) == ["a", "b", "needy"]


def test_what_is_pulled_in_does_not_count_against_the_limit():
    needy = known(6, "needy", requires=[X.id])
    assert names(plan_up((needy, known(7, "last"), X), applied=set(), selection=Selection(2, 0))) == [
        "x",
        "needy",
        "last",
    ]


def test_a_skipped_requirement_is_refused_and_names_both():
    needy = known(6, "needy", requires=[X.id])
    with pytest.raises(SkippedRequirementError) as caught:
        plan_up((A, needy, X), applied=set(), selection=Selection(None, 0, forbid_post_deployment=True))
    assert caught.value.migration_id == needy.id
    assert caught.value.required == (X.id,)


def test_a_skipped_requirement_that_is_applied_does_not_matter():
    needy = known(6, "needy", requires=[X.id])
    selection = Selection(None, 0, forbid_post_deployment=True)
    assert names(plan_up((A, needy, X), applied=ids(X), selection=selection)) == ["a", "needy"]


def test_down_undoes_dependents_first():
    needy = known(6, "needy", POST, requires=[C.id])
    newest = known(7, "newest", POST)
    every = (A, B, C, needy, newest)
    steps = plan_down(every, applied=ids(*every), selection=Selection(1, 0))
    assert names(steps) == ["newest", "needy", "c"]


def test_what_queues_a_required_background_migration_is_pulled_in_and_undone_last():
    needy = replace(known(6, "needy"), implied=(X.id,))
    every = (A, needy, X, Y)
    steps = plan_up(every, applied=ids(A), selection=Selection(1, 0))
    assert [(step.known.id, step.pulled_in_by) for step in steps] == [(X.id, needy.id), (needy.id, None)]
    steps = plan_down(every, applied=ids(*every), selection=Selection(0, 2))
    assert names(steps) == ["y", "needy", "x"]
    with pytest.raises(SkippedRequirementError, match=X.id):
        plan_up(every, applied=ids(A), selection=Selection(None, 0, forbid_post_deployment=True))


def test_down_leaves_dependents_alone_that_are_not_applied():
    needy = known(6, "needy", POST, requires=[C.id])
    assert names(plan_down((C, needy), applied=ids(C), selection=Selection())) == ["c"]


def test_down_stops_before_anything_when_a_step_is_irreversible():
    final = known(6, "final", down=[], irreversible="The column's rows are gone.")
    with pytest.raises(IrreversibleMigrationError, match="rows are gone"):
        plan_down((A, final), applied=ids(A, final), selection=Selection())
    assert names(plan_down((A, final), applied=ids(A), selection=Selection())) == ["a"]
