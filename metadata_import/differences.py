"""What a comparison of storage and database found, in groups: each is counted in full and listed up to a limit."""

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from metadata_import import layout
from metadata_import.records import FAULTS, Skip
from metadata_import.sampling import Sample

LISTED_PER_GROUP = 1_000


class DifferenceKind(enum.StrEnum):
    """How storage and database differ in one item."""

    NOT_COMPARED = "not_compared"  # storage could not be read there
    REPOSITORY_MISSING = "repository_missing"  # in storage alone, as all that is called missing
    REPOSITORY_EXTRA = "repository_extra"  # in the database alone, as all that is called extra
    TAG_MISSING = "tag_missing"
    TAG_EXTRA = "tag_extra"
    TAG_DIFFERS = "tag_differs"  # names another manifest
    MANIFEST_MISSING = "manifest_missing"
    MANIFEST_EXTRA = "manifest_extra"
    MANIFEST_DIFFERS = "manifest_differs"  # in its payload, or in a column
    PAYLOAD_CORRUPT = "payload_corrupt"  # in storage: the content has another digest than its name says
    LAYERS_DIFFER = "layers_differ"
    REFERENCES_DIFFER = "references_differ"  # the children of an index
    LINK_MISSING = "link_missing"  # a configuration or a layer that the repository may not read
    BLOB_MISSING = "blob_missing"
    BLOB_EXTRA = "blob_extra"
    BLOB_SIZE_DIFFERS = "blob_size_differs"


@dataclass(frozen=True, slots=True)
class Difference:
    """One item in which storage and database differ, by its path in storage."""

    kind: DifferenceKind
    path: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was compared and what differs; what no import takes up is no difference."""

    compared: dict[str, int]  # by kind of item
    difference_counts: dict[DifferenceKind, int]
    differences: tuple[Difference, ...]  # the first ones of each kind
    left_out_counts: dict[str, int]  # by reason
    samples: tuple[Sample, ...] = ()  # of what was not compared whole

    @property
    def is_equal(self) -> bool:
        """Tell whether everything could be compared and nothing differs."""
        return not self.difference_counts

    def differences_by_kind(self) -> dict[DifferenceKind, list[Difference]]:
        """Return the listed differences in groups, the largest first."""
        groups: dict[DifferenceKind, list[Difference]] = {}
        for difference in self.differences:
            groups.setdefault(difference.kind, []).append(difference)
        return dict(sorted(groups.items(), key=lambda group: (-self.difference_counts[group[0]], group[0])))


@dataclass(slots=True)
class Findings:
    """Collects the report of one comparison."""

    compared: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    _counts: Counter[DifferenceKind] = field(default_factory=Counter)
    _listed: list[Difference] = field(default_factory=list)
    _left_out: Counter[str] = field(default_factory=Counter)

    def add(self, kind: DifferenceKind, path: str, detail: str = "") -> None:
        """Remember one difference."""
        self._counts[kind] += 1
        if self._counts[kind] <= LISTED_PER_GROUP:
            self._listed.append(Difference(kind, layout.printable(path), layout.printable(detail)))

    @property
    def count(self) -> int:
        """Return how many differences there are so far."""
        return self._counts.total()

    def add_skips(self, skips: Iterable[Skip]) -> None:
        """Remember what an import leaves out; where storage did not answer, that is a difference of its own."""
        for skip in skips:
            if skip.reason in FAULTS:
                self.add(DifferenceKind.NOT_COMPARED, skip.path, f"{skip.reason}: {skip.detail}".rstrip(": "))
            else:
                self._left_out[skip.reason] += 1

    def report(self) -> VerifyReport:
        """Return what was found so far."""
        return VerifyReport(
            dict(self.compared),
            dict(self._counts),
            tuple(self._listed),
            dict(self._left_out.most_common()),
            tuple(each for each in self.samples if each.sampled < each.total),
        )
