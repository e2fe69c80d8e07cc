"""`background_migrate`: parses, builds, calls, prints. Every decision is the engine's."""

import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, TextIO

import psycopg
from django.conf import settings
from django.core.management.base import CommandError
from psycopg import Connection

from background_migrations import printing, reports, services, sync_runner, wiring
from background_migrations.arguments import DEFAULT, DESCRIPTION, WATCH_SECONDS, add_arguments
from background_migrations.errors import BackgroundMigrationError
from background_migrations.jobs import Outcome
from background_migrations.printing import counted
from background_migrations.running import beating, following, metered, new_worker, seconds_since_beat, stopping
from background_migrations.sampling import Sampler
from background_migrations.sessions import REGISTRY, Session
from background_migrations.status import Status
from background_migrations.work_functions import WORK_FUNCTIONS

__all__ = ["DESCRIPTION", "add_arguments", "handle"]

EXIT_INTERRUPTED = 130
WAKING = {Status.PAUSED: "resume", Status.FAILED: "restart"}
LOOK_BACK_EVENTS = 20  # among which the last error of a migration is looked for
WHY_NONE_MOVED = {"paused": "none is active or running", "resumed": "none is paused"}


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
    if options.get("check"):
        _check(options, stdout)
        return
    with wiring.connectors(f"background_migrate {name} by {wiring.user()}")[REGISTRY]() as connection:
        services.check_database(connection)
        commands[name](options, connection, stdout, stderr)


# --- Looking -------------------------------------------------------------------------------------------------------


def _status(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    if not options["watch"]:
        _show_status(options, connection, stdout)
        return
    while True:
        printing.clear(stdout)
        _show_status(options, connection, stdout)
        stdout.flush()
        time.sleep(WATCH_SECONDS)


def _show_status(options: dict[str, Any], connection: Connection, stdout: TextIO) -> None:
    name = options["name"]
    found = reports.migration_reports(connection, defaults=wiring.defaults(), names=[name] if name else None)
    if options["json"]:
        printing.print_json({"migrations": found}, stdout=stdout)
    elif name:
        printing.print_details(
            found[0],
            controls=services.controls(connection, name),
            events=reports.event_reports(connection, name, limit=LOOK_BACK_EVENTS),
            stdout=stdout,
        )
    else:
        printing.print_statuses(found, stdout=stdout, cropped=options["watch"])


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
    if not found:
        kind = "failed job" if options["failed"] else "job" if options["after"] else "job yet"
        print(f"{options['name']} has no {kind}.", file=stdout)
        return
    printing.print_jobs(found, stdout=stdout)
    if len(found) == options["limit"]:
        print(f"There may be more: --after {found[-1].id}", file=stdout)


def _events(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    found = reports.event_reports(connection, options["name"], limit=options["limit"])
    if options["json"]:
        printing.print_json({"events": found}, stdout=stdout)
    elif not found:
        print(f"Nothing has happened to {options['name']} yet.", file=stdout)
    else:
        printing.print_events(found, stdout=stdout)


def _sample(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    migration_id = reports.migration_id(connection, options["name"])
    with closing(Session(wiring.connectors())) as session:
        sampler = Sampler(
            session=session, functions=WORK_FUNCTIONS, rules=wiring.rules(wiring.user()), options=wiring.options()
        )
        try:
            sample = sampler.sample(migration_id, rows=options["rows"])
        except (BackgroundMigrationError, psycopg.Error):
            raise
        except Exception as error:
            raise CommandError(f"The work function raised {type(error).__name__}: {error}") from error
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
    ending = ":" if names else f": {WHY_NONE_MOVED[verb]}."
    print(f"{verb.capitalize()} {counted(len(names), 'background migration')}{ending}", file=stdout)
    for name in names:
        print(f"  {name}", file=stdout)


def _restart(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    services.restart(connection, options["name"], actor=wiring.user(), grace=settings.BBM_GRACE_SECONDS)
    _print_done({"restarted": options["name"]}, f"{options['name']} is active again.", options=options, stdout=stdout)


def _retry(options: dict[str, Any], connection: Connection, stdout: TextIO, _stderr: TextIO) -> None:
    name = options["name"]
    jobs = services.retry(connection, name, actor=wiring.user(), grace=settings.BBM_GRACE_SECONDS)
    (report,) = reports.migration_reports(connection, defaults=wiring.defaults(), names=[name])
    failed = counted(jobs, f"failed job of {name}", f"failed jobs of {name}")
    text = f"{failed} will be tried again."
    if report.status in WAKING:
        text = f"{failed} will be tried again after: python manage.py background_migrate {WAKING[report.status]} {name}"
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
    printing.print_controls(found, stdout=stdout)


def _print_done(facts: dict[str, Any], text: str, *, options: dict[str, Any], stdout: TextIO) -> None:
    if options["json"]:
        printing.print_json(facts, stdout=stdout)
    else:
        print(text, file=stdout)


# --- Working -------------------------------------------------------------------------------------------------------


def _run(options: dict[str, Any], connection: Connection, stdout: TextIO, stderr: TextIO) -> None:
    services.check_may_work(connection)
    names = options["names"] or None
    reports.migration_reports(connection, defaults=wiring.defaults(), names=names)  # all of them exist
    worker = new_worker(
        wiring.rules(wiring.user(), paced=False, max_attempts=options["max_job_retry"]),
        concurrency=options["concurrency"],
    )
    with stopping(worker) as signals:
        sync_runner.prepare(connection, names, actor=wiring.user(), grace=settings.BBM_GRACE_SECONDS)
        with following(names, stderr):
            result = sync_runner.run_to_completion(worker, names)
    if options["json"]:
        printing.print_json(result, stdout=stdout)
    elif result.finished or result.unfinished:
        print(f"Finished {counted(len(result.finished), 'background migration')}.", file=stdout)
    else:
        print("There was nothing to run.", file=stdout)
    _tell_unfinished(result.unfinished, stderr)
    _exit(signals, ok=not result.unfinished)


def _worker(options: dict[str, Any], connection: Connection, stdout: TextIO, stderr: TextIO) -> None:
    services.check_may_work(connection)
    failed_before = set(_names(connection, Status.FAILED))
    with metered(options["metrics_address"], options["metrics_port"]) as meter:
        worker = new_worker(
            wiring.rules(wiring.process_name(), interval=options["interval"], meter=meter),
            concurrency=options["concurrency"],
            once=options["once"],
        )
        with stopping(worker) as signals, beating(worker):
            threads = counted(options["concurrency"], "thread")
            print(f"Working in {threads}; Ctrl-C or SIGTERM ends it.", file=stderr, flush=True)
            ended = worker.run()
    counts = worker.counts
    finished, attempts = counted(counts[Outcome.FINISHED], "job"), counted(counts[Outcome.FAILED], "attempt")
    _print_done(
        {outcome.value: counts[outcome] for outcome in Outcome},
        f"{finished} finished, {attempts} failed.",
        options=options,
        stdout=stdout,
    )
    failed: dict[str, str] = {}
    if options["once"] and not signals:
        with closing(wiring.connectors()[REGISTRY]()) as now:
            left = _names(now, Status.ACTIVE, Status.RUNNING)
            failed = dict.fromkeys(set(_names(now, Status.FAILED)) - failed_before, "it is failed")
        _tell_unfinished({**failed, **{name: worker.reasons.get(name, "it is active") for name in left}}, stderr)
    _exit(signals, ok=ended and not failed)


def _check(options: dict[str, Any], stdout: TextIO) -> None:
    seconds = seconds_since_beat()
    text = f"The worker showed that it is alive {seconds:.0f} s ago."
    _print_done({"seconds": round(seconds, 3)}, text, options=options, stdout=stdout)


def _names(connection: Connection, *statuses: Status) -> list[str]:
    found = reports.migration_reports(connection, defaults=wiring.defaults())
    return [report.name for report in found if report.status in statuses]


def _tell_unfinished(unfinished: Mapping[str, str], stderr: TextIO) -> None:
    """Say why, on a connection of its own: the server may have been away since the command began."""
    with closing(wiring.connectors()[REGISTRY]()) as connection:
        for name, reason in unfinished.items():
            events = reports.event_reports(connection, name, limit=LOOK_BACK_EVENTS)
            print(f"{name} is not finished: {printing.why(reason, events)}", file=stderr)


def _exit(signals: Sequence[int], *, ok: bool) -> None:
    """End with the exit code that tells the truth: SIGTERM is how a worker is meant to end."""
    if signal.SIGINT in signals:
        sys.exit(EXIT_INTERRUPTED)
    if not ok:
        sys.exit(1)
