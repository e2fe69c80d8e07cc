"""`database import --verify`: compares, prints the differences in groups, and fails if there are any."""

import json
from collections.abc import Callable
from typing import Any, TextIO

from django.conf import settings
from django.db import connections
from rich.console import Console
from rich.text import Text

from metadata_import import following
from metadata_import.differences import VerifyReport
from metadata_import.errors import DifferencesFoundError
from metadata_import.options import reads_in_flight
from metadata_import.refusals import PendingMigrationsError, VerifyAloneError
from metadata_import.storage.base import StorageDriver
from metadata_import.verifier import verify

SHOWN_DIFFERENCES_PER_KIND = 20
# What an import does or leaves; a comparison does neither.
REFUSED_OPTIONS = ("pre_import", "all_repositories", "common_blobs", "dry_run", "strict")


def handle(
    driver: StorageDriver,
    options: dict[str, Any],
    *,
    stdout: TextIO,
    stderr: TextIO,
    pending_migrations: Callable[[], int],
) -> None:
    """Compare storage and database. Raises DifferencesFoundError if they are not equal."""
    for name in REFUSED_OPTIONS:
        if options[name]:
            raise VerifyAloneError(f"--{name.replace('_', '-')}")
    if count := pending_migrations():
        raise PendingMigrationsError(count)
    with following.shown_progress(stderr) as on_progress:
        concurrency = reads_in_flight(is_remote=driver.is_remote, asked=settings.IMPORT_READS_IN_FLIGHT)
        report = verify(
            driver, connections["registry"], concurrency=concurrency, sample=options["sample"], on_progress=on_progress
        )
    if options["report"]:
        options["report"].write_text(json.dumps(as_json(report), indent=2) + "\n")
    if options["json"]:
        print(json.dumps(as_json(report)), file=stdout)
    else:
        _print_report(report, Console(file=stdout, soft_wrap=True, highlight=False))
    if not report.is_equal:
        raise DifferencesFoundError(sum(report.difference_counts.values()))


def as_json(report: VerifyReport) -> dict[str, Any]:
    """Return the report, with the differences that it lists."""
    return {
        "is_equal": report.is_equal,
        "compared": report.compared,
        "difference_counts": report.difference_counts,
        "differences": {
            kind: [{"path": each.path, "detail": each.detail} for each in differences]
            for kind, differences in report.differences_by_kind().items()
        },
        "left_out": report.left_out_counts,
        "samples": [
            {
                "kind": each.kind,
                "total": each.total,
                "sampled": each.sampled,
                "differing": each.differing,
                "most_differing": each.most_differing,
            }
            for each in report.samples
        ],
    }


def _print_report(report: VerifyReport, console: Console) -> None:
    compared = ", ".join(f"{name} {count:,}" for name, count in report.compared.items())
    console.print(f"Compared: {compared or 'nothing'}")
    for reason, count in report.left_out_counts.items():
        console.print(f"No import takes this up, {reason}: {count:,}")
    for kind, differences in report.differences_by_kind().items():
        count = report.difference_counts[kind]
        console.print(Text(f"{kind}: {count:,}", style="yellow"))
        for each in differences[:SHOWN_DIFFERENCES_PER_KIND]:
            console.print(Text(f"  {each.path}{f' ({each.detail})' if each.detail else ''}"))
        if count > SHOWN_DIFFERENCES_PER_KIND:
            console.print(f"  and {count - SHOWN_DIFFERENCES_PER_KIND:,} more; --json lists up to 1,000 of each kind")
    for some in report.samples:
        console.print(
            f"Of {some.total:,} {some.kind} {some.sampled:,} were compared, taken at random; {some.differing:,} differ."
            f" With 95 % confidence at most {some.most_differing:,} of all do ({some.most_differing / some.total:.2%})."
        )
    if report.is_equal:
        console.print(f"Storage and database are equal{', as far as compared' if report.samples else ''}.")
