"""What may be typed behind `background_migrate`: subcommands, options, and the kinds of values that they take."""

import argparse
import datetime
from collections.abc import Callable, Mapping
from typing import Any

from django.utils.dateparse import parse_datetime

from background_migrations.services import CONTROLS, LARGEST_INTEGER, LONGEST_SECONDS

WATCH_SECONDS = 2.0
MOST_ATTEMPTS = 10
MOST_THREADS = 100  # each holds a connection of the server
LARGEST_ID = 2**63 - 1
LARGEST_PORT = 2**16 - 1
DEFAULT = "default"  # sets a control back

DESCRIPTION = "Manage background migrations: large data changes, done one small batch at a time."
COMMANDS: Mapping[str, tuple[str, str]] = {
    "status": (
        "show background migrations, how far they are and what holds them up",
        "status\nstatus copy_manifests --json\nstatus --watch",
    ),
    "pause": ("pause these, or all that are active or running", "pause\npause copy_manifests"),
    "resume": ("make these active again, or all that are paused", "resume\nresume copy_manifests"),
    "run": (
        "run these, or all, to completion now, paused and failed ones too: no throttling, no pauses",
        "run\nrun copy_manifests --max-job-retry 5",
    ),
    "worker": (
        "run jobs until stopped, throttled",
        "worker --concurrency 4 --metrics-port 9188\nworker --once\nworker --check",
    ),
    "queue": (
        "insert a background migration that a work function brings along",
        "queue ResetStatusOnContainerRepositories",
    ),
    "control": (
        "show or change how one is run; the next job obeys",
        "control copy_manifests --batch-size 5000 --max-parallel-jobs 2\ncontrol copy_manifests --batch-size default",
    ),
    "retry": ("give the failed jobs of one new attempts, at once", "retry copy_manifests"),
    "restart": ("make a failed one active again; its failed jobs get new attempts", "restart copy_manifests"),
    "jobs": ("list the jobs of one", "jobs copy_manifests --failed\njobs copy_manifests --after 1200 --limit 50"),
    "sample": ("try one on a few rows and take it back", "sample copy_manifests --rows 100"),
    "events": ("show what happened to one, newest first", "events copy_manifests --limit 20"),
}
ONE_NAME = ("control", "retry", "restart", "jobs", "sample", "events")
HELP_OF_CONTROLS = {
    "batch_size": "rows of one job",
    "sub_batch_size": "rows of one transaction; 0: the whole batch",
    "interval_seconds": "pause between two jobs",
    "max_parallel_jobs": "jobs at once, on all machines together",
    "hold_until": "do not work before this time, such as 2026-12-01T20:00Z",
    "job_timeout_seconds": "longest statement of a job; 0: no end",
    "adaptive": "true: let the batch size follow the time that jobs take",
    "target_seconds": "how long a job should take then",
    "min_batch_size": "the smallest size then",
    "max_batch_size": "the largest size then",
    "shares_table": "true: work while another one works on the same table",
}
METAVARS: Mapping[type, str] = {int: "N", float: "S", bool: "true|false", datetime.datetime: "TIME"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands with their options."""
    subparsers = parser.add_subparsers(dest="background_command", required=True, metavar="|".join(COMMANDS))
    commands = {name: _add_command(subparsers, name) for name in COMMANDS}
    for name in ONE_NAME:
        commands[name].add_argument("name", help="the background migration")
    for name in ("pause", "resume", "run"):
        commands[name].add_argument("names", nargs="*", metavar="name", help="background migrations (default: all)")
    commands["status"].add_argument("name", nargs="?", help="only this one, with all that is known of it")
    _add_loops(commands)
    commands["queue"].add_argument("name", help="the work function")
    commands["queue"].add_argument(
        "--gitlab-worker-stopped", action="store_true", help="on GitLab's database: its own worker does not run"
    )
    _add_controls(commands["control"])
    for name in ("jobs", "events"):
        commands[name].add_argument(
            "--limit", type=_whole(1, LARGEST_INTEGER), default=100, metavar="N", help="at most so many (100)"
        )
    commands["jobs"].add_argument("--failed", action="store_true", help="only failed ones")
    commands["jobs"].add_argument(
        "--after", type=_whole(0, LARGEST_ID), default=0, metavar="ID", help="only those behind this job"
    )
    commands["sample"].add_argument(
        "--rows", type=_whole(1, LARGEST_INTEGER), metavar="N", help="rows (default: one sub-batch)"
    )


def _add_command(subparsers: Any, name: str) -> argparse.ArgumentParser:
    text, examples = COMMANDS[name]
    lines = "\n".join(f"  python manage.py background_migrate {line}" for line in examples.splitlines())
    command: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=text,
        description=text.capitalize() + ".",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # What is shown again and again is for people: it would not be one JSON value.
    output: Any = command.add_mutually_exclusive_group() if name == "status" else command
    output.add_argument("--json", action="store_true", help="print one JSON value instead of text")
    if name == "status":
        output.add_argument(
            "--watch", action="store_true", help=f"show it again every {WATCH_SECONDS:g} s, until Ctrl-C"
        )
    command.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS, default=argparse.SUPPRESS)
    return command


def _add_loops(commands: Mapping[str, argparse.ArgumentParser]) -> None:
    for name in ("run", "worker"):
        commands[name].add_argument(
            "--concurrency", type=_whole(1, MOST_THREADS), default=1, metavar="N", help="threads (1)"
        )
    commands["run"].add_argument(
        "-r",
        "--max-job-retry",
        type=_whole(1, MOST_ATTEMPTS),
        default=2,
        metavar="N",
        help=f"attempts of a job, 1 to {MOST_ATTEMPTS} (2)",
    )
    commands["worker"].add_argument(
        "--interval",
        type=_seconds,
        metavar="S",
        help="seconds between jobs of one migration, unless its controls or its work function say otherwise",
    )
    commands["worker"].add_argument("--once", action="store_true", help="end when nothing is left to do")
    commands["worker"].add_argument(
        "--check",
        action="store_true",
        help="run nothing: exit 0 if the worker with this REGISTRY_BBM_HEARTBEAT_FILE is alive",
    )
    commands["worker"].add_argument(
        "--metrics-port", type=_whole(1, LARGEST_PORT), metavar="PORT", help="serve Prometheus metrics there"
    )
    commands["worker"].add_argument(
        "--metrics-address", metavar="ADDRESS", default="127.0.0.1", help="on this address (127.0.0.1)"
    )


def _add_controls(parser: argparse.ArgumentParser) -> None:
    """Add an option for each control; their bounds are the services'."""
    parser.description = f"{parser.description} Without options it shows. A control set to `{DEFAULT}` is set back."
    for control, kind in CONTROLS.items():
        parser.add_argument(
            f"--{control.replace('_', '-')}",
            type=_control(kind),
            metavar=METAVARS[kind],
            help=HELP_OF_CONTROLS[control],
        )


def _whole(smallest: int, largest: int) -> Callable[[str], int]:
    """Return what reads a whole number between these, both allowed."""

    def read(text: str) -> int:
        if not (text.isdecimal() and smallest <= int(text) <= largest):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {smallest} to {largest}")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 to {LONGEST_SECONDS}")
    return seconds


def _control(kind: type) -> Callable[[str], Any]:
    """Return what reads a control's value; `default` sets it back."""

    def read(text: str) -> Any:
        if text == DEFAULT:
            return DEFAULT
        if kind is bool and text in ("true", "false"):
            return text == "true"
        if kind is datetime.datetime:
            return _time(text)
        try:
            return {int: int, float: float}[kind](text)
        except (KeyError, ValueError) as error:
            wanted = {int: "a whole number", float: "a number of seconds", bool: "true or false"}[kind]
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}, nor `{DEFAULT}`") from error

    return read


def _time(text: str) -> datetime.datetime:
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        wanted = "a time with its zone, such as 2026-12-01T20:00Z"
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}, nor `{DEFAULT}`")
    return found
