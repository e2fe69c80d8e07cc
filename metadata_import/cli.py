"""`database import`: parses, builds, calls, prints. Every decision is the importer's."""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from django.conf import settings
from django.db import connections
from rich import box
from rich import progress as bars
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metadata_import.errors import IncompleteImportError
from metadata_import.importer import ImportOptions, Progress, import_registry
from metadata_import.records import Skip
from metadata_import.statistics import ImportReport, Step
from metadata_import.storage import open_driver

DESCRIPTION = "Import the metadata of a registry's storage tree into the metadata database."
EPILOG = """examples:
  python manage.py database import /var/lib/registry --dry-run    what would be imported; changes nothing
  python manage.py database import /var/lib/registry              import; the registry must be read-only
  python manage.py database import /var/lib/registry --json       the report as one JSON object

PATH is the root directory of the registry's filesystem storage, which holds docker/registry/v2. What cannot be
imported is left out and listed at the end with its reason. At the end of an import that succeeds, the storage is
marked as managed by a database (docker/registry/lockfiles/database-in-use)."""

SHOWN_SKIPS_PER_REASON = 5
PLAIN_PROGRESS_SECONDS = 10.0
UNITS = {Step.TAG_IMPORT: "repositories", Step.BLOB_IMPORT: "blob prefixes"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `database import`, with its description and examples."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "path", metavar="PATH", type=_path, help="root directory of the storage, which holds docker/registry/v2"
    )
    parser.add_argument("-d", "--dry-run", action="store_true", help="do everything, then roll it back; write no file")
    parser.add_argument("-c", "--row-count", action="store_true", help="count the rows of the main tables at the end")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument(
        "--concurrency",
        type=_positive,
        metavar="N",
        help="reads in flight at once (environment: REGISTRY_IMPORT_CONCURRENCY)",
    )
    parser.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS, default=argparse.SUPPRESS)


def handle(options: dict[str, Any], *, stdout: TextIO, stderr: TextIO, pending_migrations: Callable[[], int]) -> None:
    """Run the import. Raises the app's errors; an interrupt ends it with a line about what stays."""
    import_options = ImportOptions(
        dry_run=options["dry_run"],
        count_rows=options["row_count"],
        concurrency=options["concurrency"] or settings.IMPORT_CONCURRENCY,
    )
    try:
        with _shown_progress(stderr) as on_progress:
            report = import_registry(
                open_driver("filesystem", root=options["path"]),
                connection=connections["registry"],
                pending_migrations=pending_migrations,
                options=import_options,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        print(_what_stays(dry_run=import_options.dry_run), file=stderr)
        raise
    for warning in report.warnings:
        print(f"Warning: {warning}", file=stderr)
    if options["json"]:
        print(json.dumps(_as_json(report)), file=stdout)
    else:
        _print_report(report, Console(file=stdout, soft_wrap=True, highlight=False))
    if report.faults:
        raise IncompleteImportError(report.faults, dry_run=report.dry_run)


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError("must be a whole number, 1 or more")
    return int(text)


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _what_stays(*, dry_run: bool) -> str:
    if dry_run:
        return "Interrupted: everything was rolled back."
    return (
        "Interrupted: the current transaction was rolled back; what was committed before stays, the lock files are as "
        "they were. Before the next import empty the table tags (TRUNCATE tags); all other rows are found again."
    )


# --- Progress ---------------------------------------------------------------------------------------------------


@contextmanager
def _shown_progress(stream: TextIO) -> Iterator[Callable[[Progress], None]]:
    if not stream.isatty():
        yield _PlainProgress(stream)
        return
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(file=stream)) as display:
        tasks: dict[Step, bars.TaskID] = {}

        def show(progress: Progress) -> None:
            if progress.step not in tasks:
                tasks[progress.step] = display.add_task(UNITS[progress.step], total=progress.total, rate="")
            task = tasks[progress.step]
            speed = display.tasks[task].finished_speed or display.tasks[task].speed
            display.update(task, completed=progress.done, rate=f"{speed:,.0f}/s" if speed else "")

        yield show


class _PlainProgress:
    """A line now and then, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= PLAIN_PROGRESS_SECONDS:
            self._last = now
            print(
                f"{progress.done:,} of {progress.total:,} {UNITS[progress.step]}",
                file=self._stream,
                flush=True,
            )


# --- Report -----------------------------------------------------------------------------------------------------


def _print_report(report: ImportReport, console: Console) -> None:
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
    if report.table_rows is not None:
        counts = ", ".join(f"{name} {rows:,}" for name, rows in report.table_rows.items())
        console.print(f"Rows in the database: {counts}")
    _print_skips(report, console)
    if report.dry_run:
        ending = "dry run, everything was rolled back"
    elif report.is_marked:
        ending = "the storage is marked as managed by a database"
    else:
        ending = "the lock files are as they were"
    console.print(f"Done in {report.seconds:.1f} s; {ending}.")


def _print_skips(report: ImportReport, console: Console) -> None:
    for reason, skips in report.skips_by_reason().items():
        console.print(Text(f"Left out, {reason}: {len(skips):,}", style="yellow"))
        for skip in skips[:SHOWN_SKIPS_PER_REASON]:
            console.print(Text(f"  {skip.path}{f' ({skip.detail})' if skip.detail else ''}"))
        if len(skips) > SHOWN_SKIPS_PER_REASON:
            console.print(f"  and {len(skips) - SHOWN_SKIPS_PER_REASON:,} more; --json lists all")


def _as_json(report: ImportReport) -> dict[str, Any]:
    return {
        "dry_run": report.dry_run,
        "storage_driver": report.storage_driver,
        "started_at": report.started_at.isoformat(),
        "finished_at": report.finished_at.isoformat(),
        "seconds": round(report.seconds, 3),
        "steps": {times.step: {"seconds": round(times.seconds, 3)} for times in report.steps},
        "counts": {name: getattr(report.counts, name) for name in report.counts.__slots__},
        "rates": report.rates,
        "inserted_rows": report.inserted_rows,
        "table_rows": report.table_rows,
        "warnings": list(report.warnings),
        "faults": report.faults,
        "is_marked": report.is_marked,
        "skips": {
            reason: [_skip_as_json(skip) for skip in skips] for reason, skips in report.skips_by_reason().items()
        },
    }


def _skip_as_json(skip: Skip) -> dict[str, str]:
    return {"path": skip.path, "detail": skip.detail}
