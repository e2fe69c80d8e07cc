"""What every program here prints: one table for people, or with --json one object for machines."""

import argparse
import json
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measure:
    """One number; `ratio` is it over what it is compared with, and `limit` what that ratio must stay under."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    ratio: float | None = None


def wants_json(description: str) -> bool:
    """Read the command line that all programs share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return bool(parser.parse_args().json)


def report(measures: list[Measure], *, as_json: bool) -> int:
    """Print the measures; return 1 when one is over its limit."""
    if as_json:
        print(json.dumps({"measures": [asdict(measure) for measure in measures]}))
    else:
        console = Console()
        table = Table("measure", "value", "ratio", "limit", box=box.SIMPLE_HEAD if console.is_terminal else None)
        for measure in measures:
            ratio = "" if measure.ratio is None else f"{measure.ratio:.2f}"
            limit = "" if measure.limit is None else f"{measure.limit:.2f}"
            table.add_row(measure.name, f"{measure.value:.3f} {measure.unit}", ratio, limit)
        console.print(table)
    return int(any(each.limit and each.ratio and each.ratio > each.limit for each in measures))
