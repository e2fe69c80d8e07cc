"""Runs workers in a command: built from settings, ended by signals, followed on standard error."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TextIO

from django.conf import settings

from background_migrations import reports, sync_runner, wiring
from background_migrations.errors import HeartbeatUnsetError
from background_migrations.following import Follower
from background_migrations.heartbeat import Heartbeat
from background_migrations.meter import Meter
from background_migrations.records import Rules
from background_migrations.sessions import PURPOSE, Session
from background_migrations.sync_runner import RunResult
from background_migrations.work import WorkFunction
from background_migrations.work_functions import WORK_FUNCTIONS
from background_migrations.worker import Worker


def new_worker(
    rules: Rules,
    *,
    concurrency: int = 1,
    once: bool = True,
    purpose: str = PURPOSE,
    functions: Mapping[str, WorkFunction] = WORK_FUNCTIONS,
) -> Worker:
    """Return a worker over the work functions of this release; the server shows its purpose beside its sessions."""
    return Worker(
        connect=wiring.connectors(f"{purpose} {wiring.process_name()}"),
        functions=functions,
        rules=rules,
        name=wiring.process_name(),
        concurrency=concurrency,
        once=once,
        options=wiring.options(),
        stop_seconds=settings.BBM_STOP_TIMEOUT_SECONDS,
    )


@contextmanager
def metered(address: str, port: int | None) -> Iterator[Meter]:
    """Give who counts what this process does; without a port nobody does."""
    if port is None:
        yield Meter()
        return
    # What a worker counts is its own, also where the server's processes share their counts by this directory. The
    # library looks at it when it is loaded, which is a matter of time as well.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    metrics = import_module("background_migrations.metrics")
    with metrics.served(address, port, worker=wiring.process_name()) as meter:
        yield meter


@contextmanager
def beating(worker: Worker) -> Iterator[None]:
    """Show in a file that the worker is alive, where one is configured."""
    if not settings.BBM_HEARTBEAT_FILE:
        yield
        return
    heartbeat = Heartbeat(Path(settings.BBM_HEARTBEAT_FILE))
    worker.on_beat = heartbeat.beat
    try:
        yield
    finally:
        heartbeat.end()


def seconds_since_beat() -> float:
    """Return how long ago the worker of this machine showed that it is alive. Raises when that is too long."""
    if not settings.BBM_HEARTBEAT_FILE:
        raise HeartbeatUnsetError
    return Heartbeat(Path(settings.BBM_HEARTBEAT_FILE)).check(longest_seconds=settings.BBM_GRACE_SECONDS)


@contextmanager
def stopping(worker: Worker) -> Iterator[list[int]]:
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


@contextmanager
def following(names: Sequence[str] | None, stderr: TextIO) -> Iterator[None]:
    """Show how far a run is while the block runs."""
    with closing(Session(wiring.connectors())) as session:
        follower = Follower(
            lambda: reports.migration_reports(session.registry, defaults=wiring.defaults(), names=names), stream=stderr
        )
        follower.start()
        try:
            yield
        finally:
            follower.end()


def finish_now(names: Sequence[str], *, max_attempts: int, purpose: str, stderr: TextIO) -> RunResult:
    """Run what is active among these to completion; a signal ends that in good order, and then takes effect."""
    worker = new_worker(wiring.rules(wiring.user(), paced=False, max_attempts=max_attempts), purpose=purpose)
    with stopping(worker) as signals, following(names, stderr):
        result = sync_runner.run_to_completion(worker, names)
    if signals:
        signal.raise_signal(signals[0])
    return result
