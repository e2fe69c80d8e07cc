"""`background_migrate`: parses, builds, calls, prints. Every decision is the engine's."""

import argparse
import datetime
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from django.conf import settings
from django.utils.dateparse import parse_datetime
from psycopg import Connection

from background_migrations import printing, reports, services, sync_runner, wiring
from background_migrations.jobs import Outcome
from background_migrations.records import Rules
from background_migrations.sampling import Sampler
from background_migrations.sessions import REGISTRY, Session
from background_migrations.status import Status
from background_migrations.work_functions import WORK_FUNCTIONS
from background_migrations.worker import Worker

EXIT_INTERRUPTED = 130
WATCH_SECONDS = 2.0
MOST_ATTEMPTS = 10
DEFAULT = "default"  # sets a control back

DESCRIPTION = "Manage background migrations: large data changes, done one small batch at a time."
COMMANDS: Mapping[str, tuple[str, str]] = {
    "status": (
        "show background migrations, how far they are and what holds them up",
        "status\nstatus copy_manifests --json\nstatus --watch",
    ),
    "pause": ("pause these, or all that are active or running", "pause\npause copy_manifests"),
    "resume": ("resume these, or all that are paused", "resume\nresume copy_manifests"),
    "run": (
        "run these, or all, to completion now: no throttling, no pauses",
        "run\nrun copy_manifests --max-job-retry 5",
    ),
    "worker": ("run jobs until stopped, throttled", "worker --concurrency 4\nworker --once"),
    "queue": (
        "insert a background migration that a work function brings along",
        "queue ResetStatusOnContainerRepositories",
    ),
    "control": (
        "show or change how one is run; the next job obeys",
        "control copy_manifests --batch-size 5000 --max-parallel-jobs 2\ncontrol copy_manifests --batch-size default",
    ),
    "retry": ("give the failed jobs of one new attempts", "retry copy_manifests"),
    "restart": ("make a failed one active again; its failed jobs get new attempts", "restart copy_manifests"),
    "jobs": ("list the jobs of one", "jobs copy_manifests --failed"),
    "sample": ("try one on a few rows and take it back", "sample copy_manifests --rows 100"),
    "events": ("show what happened to one, newest first", "events copy_manifests"),
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands with their options."""
    subparsers = parser.add_subparsers(dest="background_command", required=True, metavar="|".join(COMMANDS))
    commands = {name: _add_command(subparsers, name) for name in COMMANDS}
    for name in ONE_NAME:
        commands[name].add_argument("name", help="the background migration")
    for name in ("pause", "resume", "run"):
        commands[name].add_argument("names", nargs="*", metavar="name", help="background migrations (default: all)")
    commands["status"].add_argument("name", nargs="?", help="only this one, with all that is known of it")
    commands["status"].add_argument("--watch", action="store_true", help=f"show it again every {WATCH_SECONDS:g} s")
    commands["run"].add_argument(
        "-r", "--max-job-retry", type=_attempts, default=2, metavar="N", help="attempts of a job, 1 to 10 (2)"
    )
    for name, default in (("run", 1), ("worker", 1)):
        commands[name].add_argument("--concurrency", type=_positive, default=default, metavar="N", help="threads (1)")
    commands["worker"].add_argument(
        "--interval", type=_seconds, metavar="S", help="seconds between jobs of one migration, unless it says otherwise"
    )
    commands["worker"].add_argument("--once", action="store_true", help="end when nothing is left to do")
    commands["queue"].add_argument("name", help="the work function")
    commands["queue"].add_argument(
        "--gitlab-worker-stopped", action="store_true", help="on GitLab's database: its own worker does not run"
    )
    for control, kind in services.CONTROLS.items():
        commands["control"].add_argument(
            f"--{control.replace('_', '-')}",
            type=_control_type(kind),
            metavar={int: "N", float: "S", bool: "true|false", datetime.datetime: "TIME"}[kind],
            help=HELP_OF_CONTROLS[control],
        )
    for name in ("jobs", "events"):
        commands[name].add_argument("--limit", type=_positive, default=100, metavar="N", help="at most so many (100)")
    commands["jobs"].add_argument("--failed", action="store_true", help="only failed ones")
    commands["jobs"].add_argument("--after", type=int, default=0, metavar="ID", help="only those behind this job")
    commands["sample"].add_argument("--rows", type=_positive, metavar="N", help="rows (default: one sub-batch)")


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
    command.add_argument("--json", action="store_true", help="print JSON instead of text")
    command.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS, default=argparse.SUPPRESS)
    return command


def handle(options: dict[str, Any], *, stdout: TextIO, stderr: TextIO) -> None:
    """Run one subcommand. Raises the app's errors; SystemExit carries any other exit code."""
    commands: Mapping[str, Callable[[dict[str, Any], Connection, TextIO, TextIO], None]] = {
        "status": _status,
        "pause": _pause,
        "resume": _resume,
        "run": _run,
        "worker": _worker,
        "queue": _queue,
        "control": _control,
        "retry": _retry,
        "restart": _restart,
        "jobs": _jobs,
        "sample": _sample,
        "events": _events,
    }
    name = options["background_command"]
    with wiring.connectors(f"background_migrate {name} by {wiring.user()}")[REGISTRY]() as connection:
        services.check_database(connection)
        commands[name](options, connection, stdout, stderr)


# --- Looking -------------------------------------------------------------------------------------------------------


def _status(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    names = [options["name"]] if options["name"] else None
    while True:
        found = reports.migration_reports(connection, defaults=wiring.defaults(), names=names)
        if options["watch"] and stdout.isatty():
            print("\033[H\033[2J", end="", file=stdout)
        if options["json"]:
            printing.print_json({"migrations": found}, stdout=stdout)
        elif names:
            printing.print_details(found[0], stdout=stdout)
        else:
            printing.print_statuses(found, stdout=stdout)
        if not options["watch"]:
            return
        stdout.flush()
        time.sleep(WATCH_SECONDS)


def _jobs(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    found = reports.job_reports(
        connection,
        options["name"],
        grace=settings.BBM_GRACE_SECONDS,
        failed_only=options["failed"],
        after=options["after"],
        limit=options["limit"],
    )
    if options["json"]:
        printing.print_json({"jobs": found}, stdout=stdout)
        return
    printing.print_jobs(found, stdout=stdout)
    if len(found) == options["limit"]:
        print(f"There may be more: --after {found[-1].id}", file=stdout)


def _events(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    found = reports.event_reports(connection, options["name"], limit=options["limit"])
    if options["json"]:
        printing.print_json({"events": found}, stdout=stdout)
    else:
        printing.print_events(found, stdout=stdout)


def _sample(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    migration_id = reports.migration_id(connection, options["name"])
    session = Session(wiring.connectors())
    try:
        sample = Sampler(
            session=session,
            functions=WORK_FUNCTIONS,
            rules=wiring.rules(wiring.user()),
            options=wiring.options(),
        ).sample(migration_id, rows=options["rows"])
    finally:
        session.close()
    if options["json"]:
        printing.print_json(sample, stdout=stdout)
    else:
        printing.print_sample(sample, stdout=stdout)


# --- Changing ------------------------------------------------------------------------------------------------------


def _pause(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    moved = services.pause(connection, options["names"] or None, actor=wiring.user())
    _print_moved("paused", moved, options=options, stdout=stdout)


def _resume(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    moved = services.resume(connection, options["names"] or None, actor=wiring.user())
    _print_moved("resumed", moved, options=options, stdout=stdout)


def _print_moved(verb: str, names: Sequence[str], *, options: dict[str, Any], stdout: TextIO) -> None:
    if options["json"]:
        printing.print_json({verb: names}, stdout=stdout)
        return
    print(f"{verb.capitalize()} {len(names)} background migrations{':' if names else '.'}", file=stdout)
    for name in names:
        print(f"  {name}", file=stdout)


def _restart(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    services.restart(connection, options["name"], actor=wiring.user())
    _print_done({"restarted": options["name"]}, f"{options['name']} is active again.", options=options, stdout=stdout)


def _retry(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    name = options["name"]
    jobs = services.retry(connection, name, actor=wiring.user())
    (report,) = reports.migration_reports(connection, defaults=wiring.defaults(), names=[name])
    text = f"{jobs} failed jobs of {name} will be tried again."
    if report.status is Status.FAILED:
        text = f"{jobs} failed jobs of {name} have new attempts, once it is active: background_migrate restart {name}"
    _print_done({"retried": name, "jobs": jobs}, text, options=options, stdout=stdout)


def _queue(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    name = options["name"]
    function = WORK_FUNCTIONS.get(name)
    alias = function.database if function else REGISTRY
    with wiring.connectors()[alias]() as target:
        migration_id = services.queue(
            connection,
            name,
            target=target,
            actor=wiring.user(),
            shipped=wiring.shipped(gitlab_worker_stopped=options["gitlab_worker_stopped"]),
        )
    _print_done(
        {"queued": name, "id": migration_id}, f"Queued {name}, id {migration_id}.", options=options, stdout=stdout
    )


def _control(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    given = {control: options[control] for control in services.CONTROLS if options[control] is not None}
    changes = {control: None if value is DEFAULT else value for control, value in given.items()}
    if changes:
        found = services.set_controls(connection, options["name"], changes, actor=wiring.user())
    else:
        found = services.controls(connection, options["name"])
    if options["json"]:
        printing.print_json(found, stdout=stdout)
        return
    printing.print_facts(
        {control.replace("_", "-"): DEFAULT if value is None else value for control, value in found.items()},
        stdout=stdout,
    )


def _print_done(facts: dict[str, Any], text: str, *, options: dict[str, Any], stdout: TextIO) -> None:
    if options["json"]:
        printing.print_json(facts, stdout=stdout)
    else:
        print(text, file=stdout)


# --- Working -------------------------------------------------------------------------------------------------------


def _run(options: dict[str, Any], connection: Connection, stdout: TextIO, stderr: TextIO) -> None:
    names = options["names"] or None
    reports.migration_reports(connection, defaults=wiring.defaults(), names=names)  # all of them exist
    worker = _new_worker(
        wiring.rules(wiring.user(), paced=False, max_attempts=options["max_job_retry"]),
        concurrency=options["concurrency"],
        once=True,
    )
    with _stopping(worker) as signals:
        sync_runner.prepare(connection, names, actor=wiring.user())
        with _following(names, stderr):
            result = sync_runner.run_to_completion(worker, connection, names)
    if options["json"]:
        printing.print_json(result, stdout=stdout)
    else:
        print(f"Finished {len(result.finished)} background migrations.", file=stdout)
        for name, reason in result.unfinished.items():
            print(f"{name} is not finished: {reason}. See: background_migrate events {name}", file=stderr)
    _exit(signals, ok=not result.unfinished)


def _worker(options: dict[str, Any], _connection: Connection, stdout: TextIO, stderr: TextIO) -> None:
    worker = _new_worker(
        wiring.rules(wiring.process_name(), interval=options["interval"]),
        concurrency=options["concurrency"],
        once=options["once"],
    )
    with _stopping(worker) as signals:
        print(f"Working in {options['concurrency']} thread(s); Ctrl-C or SIGTERM ends it.", file=stderr, flush=True)
        ended = worker.run()
    counts = worker.counts
    facts = {outcome.value: counts[outcome] for outcome in Outcome}
    _print_done(
        facts,
        f"{counts[Outcome.FINISHED]} jobs finished, {counts[Outcome.FAILED]} attempts failed.",
        options=options,
        stdout=stdout,
    )
    _exit(signals, ok=ended)


def _new_worker(rules: Rules, *, concurrency: int, once: bool) -> Worker:
    return Worker(
        connect=wiring.connectors(f"background_migrate {wiring.process_name()}"),
        functions=WORK_FUNCTIONS,
        rules=rules,
        name=wiring.process_name(),
        concurrency=concurrency,
        once=once,
        options=wiring.options(),
        stop_seconds=settings.BBM_STOP_TIMEOUT_SECONDS,
    )


@contextmanager
def _following(names: Sequence[str] | None, stderr: TextIO) -> Iterator[None]:
    """Print how far a run is while the block runs."""
    with wiring.connectors()[REGISTRY]() as connection:
        follower = printing.Follower(
            lambda: reports.migration_reports(connection, defaults=wiring.defaults(), names=names), stream=stderr
        )
        follower.start()
        try:
            yield
        finally:
            follower.end()


@contextmanager
def _stopping(worker: Worker) -> Iterator[list[int]]:
    """Let SIGTERM and Ctrl-C end the worker after its sub-batches; give the signals that came."""
    came: list[int] = []

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        worker.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(signals: Sequence[int], *, ok: bool) -> None:
    """End with the exit code that tells the truth: SIGTERM is how a worker is meant to end."""
    if signal.SIGINT in signals:
        sys.exit(EXIT_INTERRUPTED)
    if not ok:
        sys.exit(1)


# --- Types of options ----------------------------------------------------------------------------------------------


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def _attempts(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MOST_ATTEMPTS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST_ATTEMPTS}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= services.LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return seconds


def _control_type(kind: type) -> Callable[[str], Any]:
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a time with its zone, such as 2026-12-01T20:00Z")
    return found
