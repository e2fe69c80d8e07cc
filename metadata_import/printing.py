"""The report of an import, for people and for programs."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metadata_import.records import Skip
from metadata_import.statistics import ImportReport

SHOWN_SKIPS_PER_REASON = 5


def print_report(report: ImportReport, console: Console) -> None:
    """Print what was done, what was left out and how it ended."""
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None)
    table.add_column("")
    for heading in ("visited", "rows inserted", "per second"):
        table.add_column(heading, justify="right")
    for name, rate in report.rates.items():
        inserted = report.inserted_rows.get(name, 0)
        table.add_row(name, f"{getattr(report.counts, name):,}", f"{inserted:,}", f"{rate:,.0f}")
    for name in ("repository_blobs", "layers", "manifest_references"):
        table.add_row(name, "", f"{report.inserted_rows.get(name, 0):,}", "")
    console.print(table)
    if report.recent_repositories:
        console.print(f"Left alone, since an earlier run has them: {report.recent_repositories:,} repositories")
    if report.table_rows is not None:
        counts = ", ".join(f"{name} {rows:,}" for name, rows in report.table_rows.items())
        console.print(f"Rows in the database: {counts}")
    _print_skips(report, console)
    attempts = f" (attempt {report.attempts}; counts include those before)" if report.attempts > 1 else ""
    console.print(f"Done in {report.seconds:.1f} s{attempts}; {_ending(report)}.")


def as_json(report: ImportReport) -> dict[str, Any]:
    """Return the whole report, every skip included."""
    return {
        "mode": str(report.mode),
        "dry_run": report.dry_run,
        "attempts": report.attempts,
        "storage_driver": report.storage_driver,
        "root": report.root,
        "started_at": report.started_at.isoformat(),
        "finished_at": report.finished_at.isoformat(),
        "seconds": round(report.seconds, 3),
        "steps": {times.step: {"seconds": round(times.seconds, 3)} for times in report.steps},
        "counts": {name: getattr(report.counts, name) for name in report.counts.__slots__},
        "rates": report.rates,
        "inserted_rows": report.inserted_rows,
        "recent_repositories": report.recent_repositories,
        "table_rows": report.table_rows,
        "warnings": list(report.warnings),
        "faults": report.faults,
        "is_marked": report.is_marked,
        "skips": {
            reason: [_skip_as_json(skip) for skip in skips] for reason, skips in report.skips_by_reason().items()
        },
    }


def _print_skips(report: ImportReport, console: Console) -> None:
    for reason, skips in report.skips_by_reason().items():
        console.print(Text(f"Left out, {reason}: {len(skips):,}", style="yellow"))
        for skip in skips[:SHOWN_SKIPS_PER_REASON]:
            console.print(Text(f"  {skip.path}{f' ({skip.detail})' if skip.detail else ''}"))
        if len(skips) > SHOWN_SKIPS_PER_REASON:
            console.print(f"  and {len(skips) - SHOWN_SKIPS_PER_REASON:,} more; --json lists all")


def _ending(report: ImportReport) -> str:
    if report.dry_run:
        return "dry run, everything was rolled back"
    if report.is_marked:
        return "the storage is marked as managed by a database"
    return "the storage is not marked as managed by a database"


def _skip_as_json(skip: Skip) -> dict[str, str]:
    return {"path": skip.path, "detail": skip.detail}
