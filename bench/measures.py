"""What every program here prints: one table for people, or with --json one object for machines."""

import argparse
import json
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measure:
    """One number; `ratio` is it over what it is compared with, and may be `limit` at most, or `at_least` that much."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    ratio: float | None = None
    at_least: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether its ratio is within the limit, if there is one."""
        if self.limit is None or self.ratio is None:
            return True
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit


def arguments(description: str) -> argparse.ArgumentParser:
    """Return the command line that all programs share, to be added to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def wants_json(description: str) -> bool:
    """Read the command line of a program that adds nothing."""
    return bool(arguments(description).parse_args().json)


def report(measures: list[Measure], *, as_json: bool) -> int:
    """Print the measures; return 1 when one breaks its limit."""
    if as_json:
        print(json.dumps({"measures": [asdict(measure) for measure in measures]}))
    else:
        console = Console()
        table = Table("measure", "value", "ratio", "limit", box=box.SIMPLE_HEAD if console.is_terminal else None)
        for measure in measures:
            ratio = "" if measure.ratio is None else f"{measure.ratio:.2f}"
            limit = "" if measure.limit is None else f"{'≥' if measure.at_least else '≤'} {measure.limit:.2f}"
            table.add_row(measure.name, f"{measure.value:.3f} {measure.unit}", ratio, limit)
        console.print(table)
    return int(not all(measure.is_kept for measure in measures))
