"""Reads the registry's own configuration: its config.yml, and the variables `REGISTRY_…` that stand above the file.

Its section about the database is read into Django's settings; what the one about storage means is for the import.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from django.core.exceptions import ImproperlyConfigured

PATH_VARIABLE = "REGISTRY_CONFIGURATION_PATH"
OPTION = "--config"
STORAGE, DATABASE = "REGISTRY_STORAGE_", "REGISTRY_DATABASE_"
OUR_OWN = frozenset({"REGISTRY_DATABASE_URL"})  # a variable of this project, and no key of that file
# Two of them have an underscore in their names, so they are known and not guessed.
STORAGE_SECTIONS = ("azure_v2", "s3_v2", "azure", "filesystem", "gcs", "s3")
CONFIG_SUFFIXES = (".yml", ".yaml")
VALUE_OPTIONS = frozenset({"--report", "--log-directory"})  # a file after one of these is not what to import
DATABASE_KEYS = {"dbname": "NAME"} | {key: key.upper() for key in ("host", "port", "user", "password")}
DATABASE_OPTIONS = {key: key for key in ("sslmode", "sslcert", "sslkey", "sslrootcert")}
SECRETS = frozenset({"secretkey", "sessiontoken", "accountkey", "secret", "private_key"})
SECONDS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0}


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """What a registry is told about its storage and its database, and by which file."""

    path: str = ""
    # Both hold secrets, which no picture of the settings is to show.
    storage: dict[str, Any] = field(default_factory=dict, repr=False)
    database: dict[str, Any] = field(default_factory=dict, repr=False)

    def as_django(self) -> dict[str, Any] | None:
        """Return the database as Django's settings, or None where it is not named."""
        given = {key: value for key, value in self.database.items() if value not in (None, "")}
        if not given.keys() & {"host", "dbname"}:
            return None
        if "dbname" not in given:
            raise ImproperlyConfigured(f"{self._named('database.dbname')} is missing.")
        settings: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql"}
        settings |= {ours: str(given[key]) for key, ours in DATABASE_KEYS.items() if key in given}
        options: dict[str, Any] = {ours: str(given[key]) for key, ours in DATABASE_OPTIONS.items() if key in given}
        if "connecttimeout" in given:
            options["connect_timeout"] = self._seconds(str(given["connecttimeout"]))
        return settings | {"OPTIONS": options}

    def secrets(self) -> list[str]:
        """Return the values of the storage that must never be shown, at whatever depth they stand."""
        return list(_secrets(self.storage))

    def _seconds(self, text: str) -> int:
        number = text.rstrip("ms")
        unit = text.removeprefix(number)
        if unit not in SECONDS or not number.isdecimal():
            raise ImproperlyConfigured(
                f"{self._named('database.connecttimeout')} is {text!r}; it must be a length of time such as 5s."
            )
        return max(1, round(int(number) * SECONDS[unit]))

    def _named(self, key: str) -> str:
        return f"{key} of {self.path}" if self.path else f"REGISTRY_{key.upper().replace('.', '_')}"


def read(environment: Mapping[str, str]) -> RegistryConfig:
    """Return what file and variables say together. Raises ImproperlyConfigured, without the file's content."""
    path = environment.get(PATH_VARIABLE, "")
    document = _read_file(path) if path else {}
    sections = {name: _section(document, name, path) for name in ("storage", "database")}
    _override(sections, environment)
    return RegistryConfig(path, sections["storage"], sections["database"])


def take_option(arguments: list[str]) -> tuple[list[str], str]:
    """Return a command line without its `--config FILE`, which every command understands, and that file or nothing.

    `database import FILE.yml` means the same file, as the registry's own command has it.
    """
    left: list[str] = []
    path = ""
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            return [*left, word, *words], path
        if name == OPTION:
            path = value if equals else next(words, "")
            if not path:
                raise ImproperlyConfigured(
                    f"{OPTION} needs the name of a file, such as /etc/docker/registry/config.yml."
                )
        elif _is_config_of_import(left, word):
            path = path or word
        else:
            left.append(word)
    return left, path


def _is_config_of_import(before: list[str], word: str) -> bool:
    if before[:2] != ["database", "import"] or before[-1] in VALUE_OPTIONS or word.startswith("-"):
        return False
    return word.endswith(CONFIG_SUFFIXES) and not Path(word).is_dir()


def _read_file(path: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ImproperlyConfigured(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ImproperlyConfigured(f"The configuration {path} is not YAML{line}.") from None
    if document is not None and not isinstance(document, dict):
        raise ImproperlyConfigured(f"The configuration {path} holds no keys.")
    return document or {}


def _secrets(section: dict[str, Any]) -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _secrets(value)
        elif key in SECRETS:
            yield str(value)


def _section(document: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    section = document.get(name) or {}
    if isinstance(section, str) and name == "storage":  # the short form of a driver without parameters
        return {section: {}}
    if not isinstance(section, dict):
        raise ImproperlyConfigured(f"{name} of {path} must hold keys.")
    return {str(key): value for key, value in section.items()}


def _override(sections: dict[str, dict[str, Any]], environment: Mapping[str, str]) -> None:
    for variable, text in environment.items():
        if variable in OUR_OWN:
            continue
        if variable.startswith(DATABASE):
            sections["database"][variable.removeprefix(DATABASE).lower()] = _value(variable, text)
        elif variable.startswith(STORAGE):
            path = variable.removeprefix(STORAGE).lower()
            driver = next((each for each in STORAGE_SECTIONS if path.startswith(f"{each}_")), None)
            if driver:
                parameters = sections["storage"].get(driver)
                sections["storage"][driver] = (parameters if isinstance(parameters, dict) else {}) | {
                    path.removeprefix(f"{driver}_"): _value(variable, text)
                }
    if chosen := environment.get(STORAGE.rstrip("_")):
        others = {key: value for key, value in sections["storage"].items() if key not in STORAGE_SECTIONS}
        sections["storage"] = others | {chosen: sections["storage"].get(chosen) or {}}


def _value(variable: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ImproperlyConfigured(f"{variable} holds no value that YAML knows; put it into quotes.") from None
