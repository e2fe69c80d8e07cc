"""What a sample tells of the whole: pure arithmetic."""

from dataclasses import dataclass
from math import exp, lgamma

RISK = 0.05


@dataclass(frozen=True, slots=True)
class Sample:
    """Some items of a kind, taken at random, of which some differ."""

    kind: str  # in plural
    total: int
    sampled: int = 0
    differing: int = 0

    @property
    def most_differing(self) -> int:
        """Return how many of all may differ at most, with 95 % confidence: more would have shown nearly always."""
        low, high = self.differing, self.total - self.sampled + self.differing
        while low < high:
            middle = (low + high + 1) // 2
            if _likelihood(self.total, middle, self.sampled, self.differing) > RISK:
                low = middle
            else:
                high = middle - 1
        return low


def _likelihood(total: int, differing: int, sampled: int, seen: int) -> float:
    """Return how likely so many or fewer are seen in a sample without repetition (hypergeometric distribution)."""
    least = max(0, sampled - (total - differing))
    ways = (
        exp(_log_ways(differing, count) + _log_ways(total - differing, sampled - count) - _log_ways(total, sampled))
        for count in range(least, min(seen, differing) + 1)
    )
    return sum(ways)


def _log_ways(items: int, chosen: int) -> float:
    return lgamma(items + 1) - lgamma(chosen + 1) - lgamma(items - chosen + 1)
