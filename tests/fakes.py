"""Stand-ins for what the tests watch: they record what they are told."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from schema_migrations.planner import Step
from schema_migrations.watcher import IndexBuild


@dataclass
class RecordingReporter:
    """A migrator's reporter that remembers."""

    holders: list[str] = field(default_factory=list)
    blockers: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    builds: list[IndexBuild] = field(default_factory=list)

    def waiting(self, holder: str) -> None:
        self.holders.append(holder)

    def planned(self, steps: Sequence[Step]) -> None:
        pass

    def finished(self, step: Step, *, seconds: float) -> None:
        self.run.append(step.known.id)

    def retrying(self, step: Step, *, blockers: str, pause_seconds: float) -> None:
        self.blockers.append(blockers)

    def blocked(self, blockers: str) -> None:
        self.seen.append(blockers)

    def building(self, build: IndexBuild) -> None:
        self.builds.append(build)
