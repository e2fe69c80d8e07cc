"""What the bundled PostgreSQL needs when root starts it: an account of its own and programs it can reach.

PostgreSQL refuses to run as root, and the checkout with its wheel may lie where only root may look. Nothing
here changes the owner or the mode of a directory that it did not make itself.
"""

import fcntl
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STATE_DIRECTORY = Path("/var/lib/registry-metadata-manager")
ACCOUNT_NAMES = ("postgres", "registry-postgres")
CREATED_ACCOUNT = "registry-postgres"
LAST_RESORT_ACCOUNT = "nobody"
# The rest of the wheel (headers, static libraries) serves only to compile against it.
LEFT_OUT = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "doc", "*.a")
EVERYONE_READS = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
EVERYONE_ENTERS = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True)
class Account:
    """An account of the operating system, as far as running a program under it asks."""

    name: str
    uid: int
    gid: int


def choose_account(directory: Path) -> Account:
    """The owner of ``directory`` where that is not root, else the first of our accounts, made if need be."""
    if directory.exists() and (owner := directory.stat().st_uid):
        return _account(pwd.getpwuid(owner))
    return _existing_account() or _created_account() or _account(pwd.getpwnam(LAST_RESORT_ACCOUNT))


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _existing_account() -> Account | None:
    for name in ACCOUNT_NAMES:
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    return None


def _created_account() -> Account | None:
    if (useradd := shutil.which("useradd")) is None:
        return None
    options = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    # It may fail: another process may just have made the account, and there is a last resort.
    subprocess.run([useradd, *options, CREATED_ACCOUNT], check=False, capture_output=True)
    return _existing_account()


def blocking_directory(path: Path, *, account: Account) -> Path | None:
    """The topmost directory on the way to ``path``, itself included, that the account may not enter."""
    for directory in (*reversed(path.parents), path):
        if directory.exists() and not _may_enter(directory.stat(), account):
            return directory
    return None


def _may_enter(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def make_open_directories(path: Path) -> None:
    """Make ``path`` and its missing parents, open to all whatever the umask; leave existing ones alone."""
    for directory in reversed([path, *path.parents]):
        if not directory.exists():
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)


def install_programs(package: Path, *, version: str) -> Path:
    """Copy the wheel's package, once per version, to where every account can reach it; return the copy.

    The copy appears at its name only when it is complete; processes that ask at once wait for the first.
    """
    installed = STATE_DIRECTORY / f"programs-{version}"
    if not installed.exists():
        make_open_directories(STATE_DIRECTORY)
        lock_file = STATE_DIRECTORY / "programs.lock"
        lock_file.touch(mode=0o600)
        with lock_file.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not installed.exists():
                _copy_programs(package, installed)
    return installed / package.name


def _copy_programs(package: Path, installed: Path) -> None:
    partial = installed.with_name(f"{installed.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    # The programs look for their libraries next to the package, so both keep their places.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, partial / source.name, ignore=LEFT_OUT)
    for path in _tree(partial):
        mode = path.stat().st_mode
        entered = EVERYONE_ENTERS if mode & stat.S_IXUSR else 0
        path.chmod(mode | EVERYONE_READS | entered)
    # After a power cut the name must not be there without the files.
    os.sync()
    partial.rename(installed)


def _tree(directory: Path) -> Iterator[Path]:
    yield directory
    yield from directory.rglob("*")
