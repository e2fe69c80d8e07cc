"""Reads environment variables strictly: what is missing or makes no sense is an error that names the variable.

A value is taken as it is written. django-environ alone would read `500ms` as 500, `ture` as false, and a value that
begins with `$` as the name of another variable.
"""

import copy
import ipaddress
import os
import sys
import zoneinfo
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LONGEST_SECONDS = 2_000_000  # PostgreSQL counts its time-outs in milliseconds, in an int4
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
SCHEMES = ("postgres://", "postgresql://")


def text(name: str, *, default: str | None = None) -> str:
    """Return a variable; an empty one counts as missing. Raises ImproperlyConfigured without it or a default."""
    value = os.environ.get(name, "") or default
    if value is None:
        raise ImproperlyConfigured(f"Set the environment variable {name}.")
    return value


def choice(name: str, *, default: str, choices: tuple[str, ...]) -> str:
    """Return one of the choices."""
    value = text(name, default=default)
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
    return value


def boolean(name: str, *, default: bool) -> bool:
    """Return true or false."""
    value = text(name, default=str(default)).lower()
    if value not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be true or false.")
    return value in TRUE


def seconds(name: str, *, default: float) -> float:
    """Return a length of time in seconds, 0 or more."""
    value = text(name, default=str(default))
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= LONGEST_SECONDS:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a number of seconds, 0 or more.")
    return number


def positive(name: str, *, default: int) -> int:
    """Return a whole number, 1 or more."""
    value = text(name, default=str(default))
    if not (value.isdecimal() and int(value) >= 1):
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a whole number, 1 or more.")
    return int(value)


def count(name: str, *, default: int) -> int:
    """Return a whole number, 0 or more."""
    value = text(name, default=str(default))
    if not value.isdecimal():
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a whole number, 0 or more.")
    return int(value)


def names(name: str) -> list[str]:
    """Return what stands between commas."""
    return [part.strip() for part in text(name, default="").split(",") if part.strip()]


def networks(name: str, *, default: str) -> list[IPv4Network | IPv6Network]:
    """Return networks and addresses between commas; `none` is none."""
    value = text(name, default=default)
    if value == "none":
        return []
    try:
        return [ipaddress.ip_network(part.strip()) for part in value.split(",")]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}. Write networks such as 10.0.0.0/8, or none.") from error


def log_level(name: str, *, default: str) -> str:
    """Return the name of a level, in capitals."""
    value = text(name, default=default).upper()
    if value not in LOG_LEVELS:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of {', '.join(LOG_LEVELS)}.")
    return value


def log_format(*, debug: bool) -> str:
    """Return how logs are written where nothing is said: for people who look, else for programs."""
    return "console" if debug or sys.stderr.isatty() else "json"


def time_zone(name: str, *, default: str) -> str:
    """Return the name of a time zone that this machine knows."""
    value = text(name, default=default)
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise ImproperlyConfigured(f"{name} is {value!r}; there is no such time zone.") from error
    return value


def quotable(name: str, *, default: str | None = None) -> str:
    """Return what may stand between quotes in an HTTP header."""
    value = text(name, default=default)
    if not (value.isascii() and value.isprintable()) or set(value) & {'"', "\\"}:
        raise ImproperlyConfigured(f"{name} must be printable ASCII without quotes and backslashes.")
    return value


def all_or_none(values: dict[str, str]) -> None:
    """Raise unless all of these variables are set, or none is."""
    missing = [name for name, value in values.items() if not value]
    if missing and len(missing) < len(values):
        raise ImproperlyConfigured(f"{', '.join(missing)} must be set too, or none of {', '.join(values)}.")


def file_text(name: str) -> str:
    """Return what the file holds that a variable names; nothing when it is not set.

    The name stays out of the error: it may be the secret itself, put into the wrong variable.
    """
    file = text(name, default="")
    try:
        return Path(file).read_text() if file else ""
    except OSError as error:
        raise ImproperlyConfigured(f"{name} names a file that cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ImproperlyConfigured(f"{name} names a file that is not text.") from error


def writable_file(name: str) -> str:
    """Return the path of a file to write to, in a directory that is there; nothing when it is not set."""
    file = text(name, default="")
    if file and (Path(file).is_dir() or not Path(file).parent.is_dir()):
        raise ImproperlyConfigured(f"{name} is {file!r}; it must be a file in a directory that exists.")
    return file


def database(name: str, *, fallbacks: Sequence[str] = ()) -> dict[str, Any]:
    """Return Django's settings of the PostgreSQL that a URL names; the fallbacks are other variables, in order.

    The URL stays out of the error: it holds a password.
    """
    names_in_order = [name, *fallbacks]
    url = next(filter(None, map(os.environ.get, names_in_order)), "") or text(names_in_order[-1])
    try:
        config: dict[str, Any] = environ.Env.db_url_config(url) if url.startswith(SCHEMES) else {}
    except Exception as error:
        raise ImproperlyConfigured(_no_url(name)) from error
    if not config.get("NAME"):
        raise ImproperlyConfigured(_no_url(name))
    return config


def database_or(name: str, other: dict[str, Any]) -> dict[str, Any]:
    """Return the database that a URL names, or a copy of the other one where the variable is not set."""
    return database(name) if os.environ.get(name) else copy.deepcopy(other)


def registry_database(name: str, configured: dict[str, Any] | None) -> dict[str, Any]:
    """Return the registry's database: that of its own configuration if it names one, else that of the URLs."""
    named = database(name, fallbacks=["DATABASE_URL"])
    if configured is None:
        return named
    if os.environ.get(name) and not are_one_database(named, configured):
        raise ImproperlyConfigured(
            f"{name} and the database of the registry's configuration (REGISTRY_CONFIGURATION_PATH, "
            "--config, REGISTRY_DATABASE_HOST and its like) are not the same. Unset one of them."
        )
    return configured


def are_one_database(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Say whether two databases are the same one, as far as their settings tell: by host, port and name."""
    return _place(first) == _place(second)


def _place(config: dict[str, Any]) -> tuple[str, str, str]:
    host = str(config.get("HOST") or "localhost")
    return "localhost" if host in LOCAL_HOSTS else host, str(config.get("PORT") or "5432"), str(config["NAME"])


def _no_url(name: str) -> str:
    return f"{name} is not a URL of the form postgres://user:password@host:port/name."
