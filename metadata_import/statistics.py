"""What one import did, for its row in import_statistics and for its report."""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from metadata_import.records import FAULTS, Skip


class Step(enum.StrEnum):
    """The steps of an import; a name is also the prefix of its columns in import_statistics."""

    PRE_IMPORT = "pre_import"  # repositories and the manifests that tags name
    TAG_IMPORT = "tag_import"  # the tags
    BLOB_IMPORT = "blob_import"  # whatever else common storage holds


class ImportKind(enum.StrEnum):
    """What one item of a run is."""

    REPOSITORY = "repository"
    BLOB_PREFIX = "blob_prefix"  # a directory of common storage


class Mode(enum.StrEnum):
    """Which steps a run takes."""

    FULL = "full"
    PRE_IMPORT = "step one"
    ALL_REPOSITORIES = "step two"
    COMMON_BLOBS = "step three"

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return its steps in their order."""
        return {
            Mode.FULL: tuple(Step),
            Mode.PRE_IMPORT: (Step.PRE_IMPORT,),
            Mode.ALL_REPOSITORIES: (Step.TAG_IMPORT,),
            Mode.COMMON_BLOBS: (Step.BLOB_IMPORT,),
        }[self]

    @property
    def kinds(self) -> tuple[ImportKind, ...]:
        """Return what is gone through, in order: a full run reads each repository once, for both of its steps."""
        kinds = [_KINDS[step] for step in self.steps]
        return tuple(dict.fromkeys(kinds))

    @property
    def writes_tags(self) -> bool:
        """Tell whether tags are written, and with them the mark that a database manages the storage."""
        return Step.TAG_IMPORT in self.steps


_KINDS = {
    Step.PRE_IMPORT: ImportKind.REPOSITORY,
    Step.TAG_IMPORT: ImportKind.REPOSITORY,
    Step.BLOB_IMPORT: ImportKind.BLOB_PREFIX,
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What was visited. Manifests count once per repository, and only those that a tag names."""

    repositories: int = 0
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    blobs_size_bytes: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Return both together."""
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __sub__(self, other: "Counts") -> "Counts":
        """Return what came after the other."""
        return Counts(*(getattr(self, each.name) - getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class StepTimes:
    """When a step ran, over all attempts; a failed one has an error and an end."""

    step: Step
    started_at: datetime
    finished_at: datetime | None = None
    error: str | None = None
    seconds: float = 0.0  # of this attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What one import did; it counts the attempts before, but rates and seconds are those of the last one."""

    storage_driver: str
    root: str
    mode: Mode
    dry_run: bool
    attempts: int
    started_at: datetime
    finished_at: datetime | None  # none while it runs
    seconds: float
    steps: tuple[StepTimes, ...]
    counts: Counts
    newly_counted: Counts
    inserted_rows: dict[str, int]  # by table
    skip_counts: Mapping[str, int]  # by reason
    skips: tuple[Skip, ...] = ()
    recent_repositories: int = 0  # left alone, since an earlier run has them
    table_rows: dict[str, int] | None = None  # by table, where they were asked for
    warnings: tuple[str, ...] = ()
    is_marked: bool = False  # whether the storage now says that a database manages it

    @property
    def rates(self) -> dict[str, float]:
        """Return how many were visited per second, within the step that visits them."""
        seconds = {times.step: times.seconds for times in self.steps}
        of_repositories = seconds.get(Step.TAG_IMPORT, seconds.get(Step.PRE_IMPORT, 0.0))
        return {
            "repositories": _rate(self.newly_counted.repositories, of_repositories),
            "tags": _rate(self.newly_counted.tags, of_repositories),
            "manifests": _rate(self.newly_counted.manifests, of_repositories),
            "blobs": _rate(self.newly_counted.blobs, seconds.get(Step.BLOB_IMPORT, 0.0)),
        }

    @property
    def faults(self) -> int:
        """Return how many items were left out though they may be sound; all of them where no tag is left."""
        nothing_left = not (self.counts.tags or self.recent_repositories)
        if self.mode is not Mode.COMMON_BLOBS and nothing_left:
            return sum(self.skip_counts.values())
        return sum(count for reason, count in self.skip_counts.items() if reason in FAULTS)

    def skips_by_reason(self) -> dict[str, list[Skip]]:
        """Return the skips in groups, the largest first."""
        groups: dict[str, list[Skip]] = {}
        for skip in self.skips:
            groups.setdefault(skip.reason, []).append(skip)
        return {reason: groups[reason] for reason, _ in largest_first(self.skip_counts)}


def count_skips(skips: Iterable[Skip]) -> dict[str, int]:
    """Return how many there are for each reason."""
    return Counter(str(skip.reason) for skip in skips)


def largest_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return reasons and their counts in the order in which they are shown."""
    return sorted(counts.items(), key=lambda group: (-group[1], group[0]))


def facts(report: ImportReport) -> dict[str, Any]:
    """Return the report as JSON has it, but for the skips, which may be many."""
    return {
        "mode": str(report.mode),
        "dry_run": report.dry_run,
        "attempts": report.attempts,
        "storage_driver": report.storage_driver,
        "root": report.root,
        "started_at": report.started_at.isoformat(),
        "finished_at": report.finished_at.isoformat() if report.finished_at else None,
        "seconds": round(report.seconds, 3),
        "steps": {times.step: {"seconds": round(times.seconds, 3)} for times in report.steps},
        "counts": asdict(report.counts),
        "rates": report.rates,
        "inserted_rows": report.inserted_rows,
        "recent_repositories": report.recent_repositories,
        "table_rows": report.table_rows,
        "warnings": list(report.warnings),
        "faults": report.faults,
        "is_marked": report.is_marked,
        "skip_counts": dict(largest_first(report.skip_counts)),
    }


def as_json(report: ImportReport) -> dict[str, Any]:
    """Return the whole report, every skip included."""
    skips = {
        reason: [skip_as_json(skip.path, skip.detail) for skip in skips]
        for reason, skips in report.skips_by_reason().items()
    }
    return {**facts(report), "skips": skips}


def skip_as_json(path: str, detail: str) -> dict[str, str]:
    """Return one skip as it stands below its reason."""
    return {"path": path, "detail": detail}


def statistics_row(report: ImportReport) -> dict[str, Any]:
    """Return the columns of import_statistics for a run that has ended."""
    row: dict[str, Any] = {"started_at": report.started_at, "finished_at": report.finished_at}
    for times in report.steps:
        row |= {
            f"{times.step}": True,
            f"{times.step}_started_at": times.started_at,
            f"{times.step}_finished_at": times.finished_at,
            f"{times.step}_error": times.error,
        }
    return row | {
        "repositories_count": report.counts.repositories,
        "tags_count": report.counts.tags,
        "manifests_count": report.counts.manifests,
        "blobs_count": report.counts.blobs,
        "blobs_size_bytes": report.counts.blobs_size_bytes,
        "storage_driver": report.storage_driver,
    }


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0
