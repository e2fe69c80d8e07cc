"""The report of an import, for people."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
