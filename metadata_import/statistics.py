"""What one import did: collected while it runs, for its row in import_statistics and for its report."""

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from metadata_import.records import FAULTS, BlobPart, RepositoryPart, Skip, SkipReason, Written


class Step(enum.StrEnum):
    """The steps of an import; a name is also the prefix of its columns in import_statistics."""

    PRE_IMPORT = "pre_import"  # repositories and the manifests that tags name
    TAG_IMPORT = "tag_import"  # the tags
    BLOB_IMPORT = "blob_import"  # whatever else common storage holds


@dataclass(frozen=True, slots=True)
class Counts:
    """What was visited. Manifests count once per repository, and only those that a tag names."""

    repositories: int = 0
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    blobs_size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StepTimes:
    """When a step ran; a failed one has an error and an end."""

    step: Step
    started_at: datetime
    finished_at: datetime | None = None
    error: str | None = None

    @property
    def seconds(self) -> float:
        """Return how long the step ran."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else 0.0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What one finished import did."""

    storage_driver: str
    dry_run: bool
    started_at: datetime
    finished_at: datetime
    steps: tuple[StepTimes, ...]
    counts: Counts
    inserted_rows: dict[str, int]  # by table
    skips: tuple[Skip, ...]
    table_rows: dict[str, int] | None = None  # by table, where they were asked for
    warnings: tuple[str, ...] = ()
    is_marked: bool = False  # whether the storage now says that a database manages it

    @property
    def seconds(self) -> float:
        """Return how long the whole run took."""
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def rates(self) -> dict[str, float]:
        """Return how many were visited per second, within the step that visits them."""
        seconds = {times.step: times.seconds for times in self.steps}
        of_step = {
            "repositories": (self.counts.repositories, Step.TAG_IMPORT),
            "tags": (self.counts.tags, Step.TAG_IMPORT),
            "manifests": (self.counts.manifests, Step.TAG_IMPORT),
            "blobs": (self.counts.blobs, Step.BLOB_IMPORT),
        }
        return {name: _rate(count, seconds.get(step, 0.0)) for name, (count, step) in of_step.items()}

    @property
    def faults(self) -> int:
        """Return how many items were left out though they may be sound; all of them where no tag is left."""
        if self.skips and not self.counts.tags:
            return len(self.skips)
        return sum(skip.reason in FAULTS for skip in self.skips)

    def skips_by_reason(self) -> dict[SkipReason, list[Skip]]:
        """Return the skips in groups, the largest first."""
        groups: dict[SkipReason, list[Skip]] = {}
        for skip in self.skips:
            groups.setdefault(skip.reason, []).append(skip)
        return dict(sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])))


class Statistics:
    """Collects what one run does."""

    def __init__(self, *, storage_driver: str, dry_run: bool, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._storage_driver, self._dry_run = storage_driver, dry_run
        self._started_at = clock()
        self._steps: dict[Step, StepTimes] = {}
        self._counted: Counter[str] = Counter()
        self._inserted_rows: Counter[str] = Counter()
        # One child of two indexes is read, and found wanting, twice: a dict keeps the first of equals.
        self._skips: dict[tuple[SkipReason, str], Skip] = {}
        self._repository: str | None = None
        self._tagged: set[str] = set()

    def start(self, *steps: Step) -> None:
        """Note that these steps run from now on, side by side."""
        self._steps |= {step: StepTimes(step, self._clock()) for step in steps}

    def finish(self, *, error: str | None = None) -> None:
        """Note that the running steps ended, by this error if there is one; between steps the last one gets it."""
        running = [step for step, times in self._steps.items() if times.finished_at is None]
        for step, times in self._steps.items():
            if step in running or (error and not running and step is [*self._steps][-1]):
                self._steps[step] = StepTimes(step, times.started_at, self._clock(), error)

    def add_repositories(self, parts: Sequence[RepositoryPart], written: Written) -> None:
        """Count parts that were written."""
        lost = sum(skip.reason is SkipReason.TAG_WITHOUT_MANIFEST for skip in written.skips)
        for part in parts:
            self._begin_repository(part.path)
            digests = {tag.digest for tag in part.tags}
            self._counted["manifests"] += len(digests - self._tagged)
            self._tagged |= digests
            self._counted["tags"] += len(part.tags)
            self.add_skips(part.skips)
        self._counted["tags"] -= lost
        self._add_written(written)

    def add_blobs(self, parts: Sequence[BlobPart], written: Written) -> None:
        """Count blobs that were found, new to the database or not."""
        for part in parts:
            self._counted["blobs"] += len(part.blobs)
            self._counted["blobs_size_bytes"] += sum(blob.size for blob in part.blobs)
            self.add_skips(part.skips)
        self._add_written(written)

    def add_skips(self, skips: Iterable[Skip]) -> None:
        """Remember what was left out, each item once for each reason."""
        for skip in skips:
            self._skips.setdefault((skip.reason, skip.path), _printable(skip))

    def report(
        self, *, warnings: Sequence[str] = (), table_rows: dict[str, int] | None = None, is_marked: bool = False
    ) -> ImportReport:
        """Return the report of the run as it is now."""
        return ImportReport(
            storage_driver=self._storage_driver,
            dry_run=self._dry_run,
            started_at=self._started_at,
            finished_at=self._clock(),
            steps=tuple(self._steps.values()),
            counts=Counts(**self._counted),
            inserted_rows=dict(self._inserted_rows),
            skips=tuple(self._skips.values()),
            table_rows=table_rows,
            warnings=tuple(warnings),
            is_marked=is_marked,
        )

    def _begin_repository(self, path: str) -> None:
        if path != self._repository:
            self._repository, self._tagged = path, set()
            self._counted["repositories"] += 1

    def _add_written(self, written: Written) -> None:
        self._inserted_rows.update(written.rows)
        self.add_skips(written.skips)


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


def _printable(skip: Skip) -> Skip:
    """File names need not be text: spell out what is none, so that a report can be written anywhere."""
    return Skip(skip.reason, _escaped(skip.path), _escaped(skip.detail))


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
