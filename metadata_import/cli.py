"""`database import`: parses, builds, calls, prints. Every decision is the importer's."""

import argparse
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings
from django.db import connections
from django.utils.module_loading import import_string
from rich.console import Console

from metadata_import import following, printing, tasks, verifying
from metadata_import.errors import IncompleteImportError
from metadata_import.importer import check_import, import_registry
from metadata_import.logs import Logs
from metadata_import.options import ImportOptions, Resume, reads_in_flight
from metadata_import.refusals import (
    DebugServerError,
    DistributedDryRunError,
    SampleAloneError,
    StepsRefusedError,
    WaitAloneError,
)
from metadata_import.statistics import ImportReport, Mode, as_json
from metadata_import.storage import open_driver
from metadata_import.storage.base import StorageDriver
from metadata_import.storage.parameters import open_storage

DESCRIPTION = "Import the metadata of a registry's storage tree into the metadata database."
EPILOG = """examples:
  python manage.py database import /var/lib/registry --dry-run      what would be imported; changes nothing
  python manage.py database import /var/lib/registry                import; the registry must be read-only
  python manage.py database import /var/lib/registry --step-one     manifests, while the registry still takes writes;
  python manage.py database import /var/lib/registry --step-two     then tags, and the registry must be read-only;
  python manage.py database import /var/lib/registry --step-three   then all other blobs, whenever you like
  python manage.py database import /var/lib/registry --verify       compare storage and database; writes nothing
  python manage.py database import /var/lib/registry --verify --sample 300     the same, of 300 repositories at random
  python manage.py database import --config /etc/docker/registry/config.yml
                                                                    from S3, GCS, Azure or a directory, as it says
  python manage.py database import --config /etc/docker/registry/config.yml --distributed --wait
                                                                    on many machines, each with workers

PATH is the root directory of a registry's filesystem storage, which holds docker/registry/v2. Without it the storage is
the one of the registry's own configuration (--config FILE, or variables such as REGISTRY_STORAGE_S3_BUCKET). What
cannot be imported is left out and listed at the end with its reason. An import that was stopped or killed goes on
where it was when the same command is run again. At the end of an import of tags that succeeds, the storage is marked
as managed by a database (docker/registry/lockfiles/database-in-use)."""

STEPS = {
    "pre_import": (("-p", "--pre-import", "-1", "--step-one"), Mode.PRE_IMPORT, "repositories and tagged manifests"),
    "all_repositories": (("-r", "--all-repositories", "-2", "--step-two"), Mode.ALL_REPOSITORIES, "tags"),
    "common_blobs": (("-B", "--common-blobs", "-3", "--step-three"), Mode.COMMON_BLOBS, "all other blobs"),
}
REFUSED_PAIRS = (
    ("pre_import", "all_repositories"),
    ("pre_import", "common_blobs"),
    ("all_repositories", "common_blobs"),
)
TAG_CONCURRENCY = range(1, 6)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `database import`, with its description and examples."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        type=_path,
        help="root directory of the storage, which holds docker/registry/v2; or the registry's config.yml",
    )
    _add_what(parser)
    _add_how(parser)
    _add_output(parser)


def handle(options: dict[str, Any], *, stdout: TextIO, stderr: TextIO, pending_migrations: Callable[[], int]) -> None:
    """Run the import. Raises the app's errors; an interrupt ends it with a line about how to go on."""
    path = options["path"]
    driver = open_driver("filesystem", root=path) if path else open_storage(settings.REGISTRY_CONFIG.storage)
    if options["verify"]:
        verifying.handle(driver, options, stdout=stdout, stderr=stderr, pending_migrations=pending_migrations)
        return
    _refuse_combinations(options)
    import_options = _import_options(options, is_remote=driver.is_remote)
    if options["distributed"] and not options["wait"]:
        _hand_over(driver, path or "", import_options, pending_migrations, stdout)
        return
    report = _import(driver, import_options, options, stderr, pending_migrations)
    _tell(report, options, stdout=stdout, stderr=stderr)
    if report.faults:
        raise IncompleteImportError(report.faults, dry_run=report.dry_run)


def _refuse_combinations(options: dict[str, Any]) -> None:
    if options["sample"]:
        raise SampleAloneError
    if options["distributed"] and options["dry_run"]:
        raise DistributedDryRunError
    if options["wait"] and not options["distributed"]:
        raise WaitAloneError


def _import(
    driver: StorageDriver,
    import_options: ImportOptions,
    options: dict[str, Any],
    stderr: TextIO,
    pending_migrations: Callable[[], int],
) -> ImportReport:
    lines = dict(settings.LOG_LINES)
    formatter = import_string(lines.pop("()"))(**lines)
    logs = Logs(formatter, to_stdout=options["log_to_stdout"], directory=options["log_directory"])
    try:
        with logs.written(), following.shown_progress(stderr, hidden=options["log_to_stdout"]) as on_progress:
            return import_registry(
                driver,
                connection=connections["registry"],
                pending_migrations=pending_migrations,
                options=import_options,
                on_progress=on_progress,
                queue=tasks.ImportTasks(import_options) if options["distributed"] else None,
            )
    except KeyboardInterrupt:
        print(_how_to_go_on(dry_run=import_options.dry_run), file=stderr)
        raise


def _tell(report: ImportReport, options: dict[str, Any], *, stdout: TextIO, stderr: TextIO) -> None:
    for warning in report.warnings:
        print(f"Warning: {warning}", file=stderr)
    if options["report"]:
        options["report"].write_text(json.dumps(as_json(report), indent=2) + "\n")
    if options["json"]:
        print(json.dumps(as_json(report)), file=stdout)
    elif not options["log_to_stdout"]:
        printing.print_report(report, Console(file=stdout, soft_wrap=True, highlight=False))


def _hand_over(
    driver: StorageDriver,
    path: str,
    import_options: ImportOptions,
    pending_migrations: Callable[[], int],
    stdout: TextIO,
) -> None:
    check_import(
        driver, connection=connections["registry"], pending_migrations=pending_migrations, options=import_options
    )
    job = tasks.hand_over(import_options, path=driver.root if path else "")
    print(
        f"Handed over to the workers (job {job}). Start as many as you like, on any machine:\n"
        "  python manage.py procrastinate worker\n"
        "How far it is and how it ends is on the site, under Imports, and in GET /gitlab/v1/statistics/.",
        file=stdout,
    )


def _add_what(parser: argparse.ArgumentParser) -> None:
    for destination, (names, _, help_text) in STEPS.items():
        parser.add_argument(*names, dest=destination, action="store_true", help=f"import {help_text} alone")
    parser.add_argument("-d", "--dry-run", action="store_true", help="do everything, then roll it back; write no file")
    parser.add_argument(
        "--verify", action="store_true", help="import nothing: compare storage and database, and exit 1 if they differ"
    )
    parser.add_argument(
        "--sample",
        type=_positive,
        metavar="N",
        help="with --verify: compare N repositories and N prefixes of blobs, taken at random",
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first item that is broken beyond a warning")
    _add_switch(parser, "-m", "--dynamic-media-types", help_text="create media types that the database has not seen")
    parser.add_argument(
        "--pre-import-skip-recent",
        type=_duration,
        default=timedelta(hours=72),
        metavar="DURATION",
        help="step one leaves alone what an earlier step one finished since (72h; 0: nothing)",
    )
    resume = parser.add_mutually_exclusive_group()
    resume.add_argument(
        "--resume",
        dest="resume",
        action="store_const",
        const=Resume.REQUIRED,
        default=Resume.IF_OPEN,
        help="go on with an unfinished import, and refuse to begin one; without it: go on if there is one",
    )
    resume.add_argument(
        "--restart",
        dest="resume",
        action="store_const",
        const=Resume.RESTART,
        help="give an unfinished import up and read everything again",
    )


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--concurrency",
        type=_positive,
        metavar="N",
        help="processes that share the repositories (environment: REGISTRY_IMPORT_CONCURRENCY)",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="share the work out to `manage.py procrastinate worker` processes, on as many machines as you like",
    )
    parser.add_argument(
        "--wait", action="store_true", help="with --distributed: stay, show how far it is, and print the report"
    )
    parser.add_argument("-t", "--tag-concurrency", type=_tag_concurrency, metavar="N", help="a hint for --concurrency")
    parser.add_argument("-s", "--debug-server", metavar="ADDRESS", default="", help=argparse.SUPPRESS)
    _add_switch(parser, "-i", "--import-statistics", help_text="leave a row in import_statistics")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--row-count", action="store_true", help="count the rows of the main tables at the end")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report to this file too, as JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument(
        "-l",
        "--log-to-stdout",
        action="store_true",
        help="print what happens, line by line, instead of bars and tables",
    )
    parser.add_argument(
        "--log-directory", type=Path, metavar="DIRECTORY", help="write what happens to a new file in this directory"
    )
    parser.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS, default=argparse.SUPPRESS)


def _add_switch(parser: argparse.ArgumentParser, short: str, long: str, *, help_text: str) -> None:
    """Add an option that is on by default and can be switched off, also in the form that the Go registry takes."""
    parser.add_argument(short, long, action=argparse.BooleanOptionalAction, default=True, help=help_text)
    destination = long.removeprefix("--").replace("-", "_")
    for value, action in (("false", "store_false"), ("true", "store_true")):
        names = (f"{short}={value}", f"{long}={value}")
        parser.add_argument(*names, dest=destination, action=action, default=True, help=argparse.SUPPRESS)


def _import_options(options: dict[str, Any], *, is_remote: bool = False) -> ImportOptions:
    if options["debug_server"]:
        raise DebugServerError
    concurrency = options["concurrency"] or options["tag_concurrency"] or settings.IMPORT_CONCURRENCY
    return ImportOptions(
        mode=_mode(options),
        dry_run=options["dry_run"],
        count_rows=options["row_count"],
        strict=options["strict"],
        dynamic_media_types=options["dynamic_media_types"],
        keeps_statistics=options["import_statistics"],
        resume=options["resume"],
        skip_recent=options["pre_import_skip_recent"],
        concurrency=concurrency,
        reads_in_flight=reads_in_flight(is_remote=is_remote, asked=settings.IMPORT_READS_IN_FLIGHT),
        holder=tasks.holder(),
        grace_seconds=settings.IMPORT_GRACE_SECONDS,
    )


def _mode(options: dict[str, Any]) -> Mode:
    for first, second in REFUSED_PAIRS:
        if options[first] and options[second]:
            raise StepsRefusedError(STEPS[first][0][-1], STEPS[second][0][-1])
    return next((mode for name, (_, mode, _) in STEPS.items() if options[name]), Mode.FULL)


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError("must be a whole number, 1 or more")
    return int(text)


def _tag_concurrency(text: str) -> int:
    if _positive(text) not in TAG_CONCURRENCY:
        raise argparse.ArgumentTypeError("must be a number from 1 to 5")
    return int(text)


def _duration(text: str) -> timedelta:
    """Return a duration as Go writes it, of hours, minutes and seconds."""
    match = _DURATION.fullmatch(text)
    if text != "0" and (not text or match is None):
        raise argparse.ArgumentTypeError("must be a duration such as 72h, 1h30m or 0")
    hours, minutes, seconds = (int(part or 0) for part in (match.groups() if match else ()) or (0, 0, 0))
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _how_to_go_on(*, dry_run: bool) -> str:
    if dry_run:
        return "Interrupted: everything was rolled back."
    return "Interrupted: what was done is kept. Run the same command again, and the import goes on where it was."
