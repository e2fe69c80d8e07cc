"""Shows how far an import is: one bar over all of it on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich import progress as bars
from rich.console import Console

from metadata_import.importer import Progress, ignore_progress
from metadata_import.statistics import ImportKind

PLAIN_PROGRESS_SECONDS = 10.0
UNITS = {ImportKind.REPOSITORY: "repositories", ImportKind.BLOB_PREFIX: "blob prefixes"}
IDLE = "; no worker takes tasks, start one on any machine: python manage.py procrastinate worker"
# Measured: where a run does both, the repositories take some five times as long as the rest of the blobs.
WEIGHTS = {ImportKind.REPOSITORY: 0.85, ImportKind.BLOB_PREFIX: 0.15}


@contextmanager
def shown_progress(stream: TextIO, *, hidden: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Give what is to be told of progress."""
    if hidden:
        yield ignore_progress
        return
    if not stream.isatty():
        yield _PlainProgress(stream)
        return
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(file=stream)) as display:
        task = display.add_task("import", total=1.0, rate="")
        speed = _Speed()

        def show(progress: Progress) -> None:
            display.update(task, completed=overall(progress), description=describe(progress), rate=speed(progress))

        yield show


def overall(progress: Progress) -> float:
    """Return the share of the whole run that is done."""
    before = progress.kinds[: progress.kinds.index(progress.kind)]
    whole = sum(WEIGHTS[kind] for kind in progress.kinds)
    here = progress.done / progress.total if progress.total else 1.0
    return (sum(WEIGHTS[kind] for kind in before) + WEIGHTS[progress.kind] * here) / whole


def describe(progress: Progress) -> str:
    """Return in words how far the present part is, and what it lacks."""
    return f"{_describe_part(progress)}{IDLE if progress.is_idle else ''}"


def _describe_part(progress: Progress) -> str:
    done = f"{progress.done:,} of {progress.total:,} {UNITS[progress.kind]}"
    if progress.kind is ImportKind.REPOSITORY:
        return f"{done}, {progress.counts.tags:,} tags"
    return f"{done}, {progress.counts.blobs:,} blobs"


class _Speed:
    """Tags or blobs per second since the present part began."""

    def __init__(self) -> None:
        self._kind: ImportKind | None = None
        self._began = 0.0

    def __call__(self, progress: Progress) -> str:
        if progress.kind is not self._kind:
            self._kind, self._began = progress.kind, time.monotonic()
            return ""
        seconds = max(time.monotonic() - self._began, 0.001)
        is_repository = progress.kind is ImportKind.REPOSITORY
        count, unit = (progress.counts.tags, "tags") if is_repository else (progress.counts.blobs, "blobs")
        return f"{count / seconds:,.0f} {unit}/s"


class _PlainProgress:
    """A line now and then, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last, self._speed = stream, time.monotonic(), _Speed()

    def __call__(self, progress: Progress) -> None:
        now, speed = time.monotonic(), self._speed(progress)
        if now - self._last >= PLAIN_PROGRESS_SECONDS:
            self._last = now
            line = f"{overall(progress):.0%}: {describe(progress)}{f', {speed}' if speed else ''}"
            print(line, file=self._stream, flush=True)
