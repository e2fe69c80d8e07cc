"""Turns what is known, what is applied and how much is wanted into a list of steps. Pure: no database, no clock."""

import enum
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from schema_migrations.errors import (
    ConflictingOptionsError,
    InvalidLimitError,
    IrreversibleMigrationError,
    SkippedRequirementError,
)
from schema_migrations.loader import KnownMigration
from schema_migrations.migration import Phase


class Direction(enum.Enum):
    """Which way a step goes."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class Step:
    """One migration to run; `pulled_in_by` names the one that needs it when nobody asked for it itself."""

    known: KnownMigration
    direction: Direction
    pulled_in_by: str | None = None

    @property
    def statements(self) -> Sequence[str]:
        """The SQL that this step executes, in order."""
        migration = self.known.migration
        return migration.up if self.direction is Direction.UP else migration.down


@dataclass(frozen=True)
class Selection:
    """How many migrations of each phase are asked for: None is all, 0 is none but those that another one needs."""

    pre_deployment: int | None = None
    post_deployment: int | None = None
    forbid_post_deployment: bool = False

    def limit(self, phase: Phase) -> int | None:
        """Return the limit of one phase."""
        return self.pre_deployment if phase is Phase.PRE_DEPLOYMENT else self.post_deployment


def select(*, limit: int | None, post_deploy_limit: int | None, skip_post_deployment: bool = False) -> Selection:
    """Read the options: one limit given alone selects its phase alone. Raises on a limit below 1 or a contradiction."""
    for option, value in (("--limit", limit), ("--post-deploy-limit", post_deploy_limit)):
        if value is not None and value < 1:
            raise InvalidLimitError(option, value=value)
    if skip_post_deployment and post_deploy_limit is not None:
        raise ConflictingOptionsError
    if skip_post_deployment:
        return Selection(limit, 0, forbid_post_deployment=True)
    if limit is None and post_deploy_limit is None:
        return Selection()
    return Selection(0 if limit is None else limit, 0 if post_deploy_limit is None else post_deploy_limit)


def plan_up(known: Sequence[KnownMigration], *, applied: Collection[str], selection: Selection) -> tuple[Step, ...]:
    """Return the steps that apply what is pending: pre-deployment first, each phase by version.

    What a migration requires comes before it, with everything pending before that in its own phase, and does not
    count against the limits. Ids that are applied but unknown do not matter.
    """
    by_id = {each.id: each for each in known}

    def before(each: KnownMigration) -> Iterable[KnownMigration]:
        for requirement in each.requires:
            yield from _until(_of_phase(known, by_id[requirement].phase), by_id[requirement])

    pending = [each for each in known if each.id not in applied]
    steps = _order(pending, direction=Direction.UP, phases=tuple(Phase), selection=selection, before=before)
    if selection.forbid_post_deployment:
        _refuse_skipped(steps)
    return steps


def plan_down(known: Sequence[KnownMigration], *, applied: Collection[str], selection: Selection) -> tuple[Step, ...]:
    """Return the steps that undo what is applied: post-deployment first, newest first.

    Migrations that require an undone one are undone before it. Only known ones are touched. Raises when a step is
    irreversible.
    """

    def before(each: KnownMigration) -> Iterable[KnownMigration]:
        for dependent in known:
            if each.id in dependent.requires:
                yield from _until(reversed(_of_phase(known, dependent.phase)), dependent)

    undoable = [each for each in reversed(known) if each.id in applied]
    phases = (Phase.POST_DEPLOYMENT, Phase.PRE_DEPLOYMENT)
    steps = _order(undoable, direction=Direction.DOWN, phases=phases, selection=selection, before=before)
    for step in steps:
        if step.known.migration.irreversible:
            raise IrreversibleMigrationError(step.known.id, reason=step.known.migration.irreversible)
    return steps


def _order(
    candidates: Sequence[KnownMigration],
    *,
    direction: Direction,
    phases: Sequence[Phase],
    selection: Selection,
    before: Callable[[KnownMigration], Iterable[KnownMigration]],
) -> tuple[Step, ...]:
    """Take up to the limit of each phase, every one after those that go before it."""
    steps: dict[str, Step] = {}
    eligible = {each.id for each in candidates}

    def add(each: KnownMigration, *, pulled_in_by: str | None) -> None:
        if each.id in steps or each.id not in eligible:
            return
        for other in before(each):
            add(other, pulled_in_by=each.id)
        steps[each.id] = Step(each, direction, pulled_in_by)

    for phase in phases:
        taken = 0
        limit = selection.limit(phase)
        for each in _of_phase(candidates, phase):
            if limit is not None and taken >= limit:
                break
            if each.id not in steps:
                add(each, pulled_in_by=None)
                taken += 1
    return tuple(steps.values())


def _of_phase(known: Sequence[KnownMigration], phase: Phase) -> list[KnownMigration]:
    return [each for each in known if each.phase is phase]


def _until(stream: Iterable[KnownMigration], last: KnownMigration) -> Iterable[KnownMigration]:
    for each in stream:
        yield each
        if each is last:
            return


def _refuse_skipped(steps: Sequence[Step]) -> None:
    skipped = [step for step in steps if step.known.phase is Phase.POST_DEPLOYMENT]
    if skipped:
        wanted_by = next(step.pulled_in_by for step in reversed(skipped) if step.pulled_in_by)
        raise SkippedRequirementError(wanted_by, required=[step.known.id for step in skipped])
