"""The `storage:` section of a registry's configuration → a driver and its parameters.

What concerns writing alone is ignored in silence; what would change what is read, and cannot be had, is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

from metadata_import.refusals import NoStorageError, StorageKeyError, UnknownStorageDriverError
from metadata_import.storage import STORAGE_DRIVERS, open_driver
from metadata_import.storage.base import StorageDriver

# Sections beside the driver's.
NO_DRIVERS = frozenset({"cache", "delete", "maintenance", "middleware", "redirect"})
SECOND_VERSIONS = {"azure_v2": "azure", "s3_v2": "s3"}
DEFAULT_ROOT = "/var/lib/registry"
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")
IDENTITIES = ("shared_key", "client_secret", "default_credentials")


def open_storage(section: Mapping[str, Any]) -> StorageDriver:
    """Return the driver that a configuration names. Raises RefusedError, which names the key and never a secret."""
    names = [name for name in section if name not in NO_DRIVERS]
    if not names:
        raise NoStorageError
    if len(names) > 1:
        raise StorageKeyError("storage", f"names more than one driver: {', '.join(sorted(names))}")
    (given,) = names
    name = SECOND_VERSIONS.get(given, given)
    if name not in STORAGE_DRIVERS:
        raise UnknownStorageDriverError(given, known=sorted([*STORAGE_DRIVERS, *SECOND_VERSIONS]))
    parameters = section[given] or {}
    if not isinstance(parameters, Mapping):
        raise StorageKeyError(f"storage.{given}", "must hold keys")
    return open_driver(name, **_READERS[name](_Keys(given, parameters)))


class _Keys:
    """The keys of one driver, read one by one."""

    def __init__(self, driver: str, given: Mapping[str, Any]) -> None:
        self._driver = driver
        self._given = {str(key): value for key, value in given.items() if value not in (None, "")}

    def __contains__(self, key: str) -> bool:
        return key in self._given

    def text(self, key: str, default: str = "") -> str:
        """Return a text; a number that was meant as one is one too."""
        value = self._given.get(key, default)
        if isinstance(value, bool | dict | list):
            raise self.error(key, "must be a text")
        return str(value)

    def required(self, key: str) -> str:
        """Return a text that has to be there."""
        if key not in self._given:
            raise self.error(key, "is missing")
        return self.text(key)

    def boolean(self, key: str) -> bool | None:
        """Return true or false, or None where nothing is said."""
        value = str(self._given.get(key, "")).lower()
        if value not in (*TRUE, *FALSE, ""):
            raise self.error(key, "must be true or false")
        return value in TRUE if value else None

    def number(self, key: str) -> float | None:
        """Return a number, 0 or more, or None where nothing is said."""
        value = str(self._given.get(key, ""))
        if value and not value.replace(".", "", 1).isdecimal():
            raise self.error(key, "must be a number, 0 or more")
        return float(value) if value else None

    def mapping(self, key: str) -> dict[str, Any] | None:
        """Return keys below a key, or None."""
        value = self._given.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.error(key, "must hold keys")
        return value

    def texts(self, *keys: str) -> dict[str, Any]:
        """Return those of these texts that are given."""
        return {key: self.text(key) for key in keys if key in self._given}

    def booleans(self, *keys: str) -> dict[str, Any]:
        """Return those of these that are said to be true or false."""
        return {key: value for key in keys if (value := self.boolean(key)) is not None}

    def error(self, key: str, problem: str) -> StorageKeyError:
        """Return the error that names this key."""
        return StorageKeyError(f"storage.{self._driver}.{key}", problem)


def _filesystem(keys: _Keys) -> dict[str, Any]:
    return {"root": keys.text("rootdirectory", DEFAULT_ROOT)}


def _s3(keys: _Keys) -> dict[str, Any]:
    if ("accesskey" in keys) != ("secretkey" in keys):
        raise keys.error("accesskey", "and secretkey are given together or not at all")
    if keys.boolean("v4auth") is False:
        raise keys.error("v4auth", "is false: the old way of signing is not known here; leave it out")
    parameters: dict[str, Any] = {"bucket": keys.required("bucket")}
    parameters |= keys.texts("region", "regionendpoint", "accesskey", "secretkey", "sessiontoken", "rootdirectory")
    parameters |= keys.booleans("pathstyle", "secure", "skipverify", "anonymous")
    if rate := keys.number("maxrequestspersecond"):
        parameters["maxrequestspersecond"] = rate
    return parameters | _retries(keys)


def _gcs(keys: _Keys) -> dict[str, Any]:
    if "keyfile" in keys and "credentials" in keys:
        raise keys.error("keyfile", "and credentials cannot both be given")
    parameters: dict[str, Any] = {"bucket": keys.required("bucket"), **keys.texts("keyfile", "rootdirectory")}
    if credentials := keys.mapping("credentials"):
        parameters["credentials"] = credentials
    return parameters | keys.booleans("anonymous")


def _azure(keys: _Keys) -> dict[str, Any]:
    legacy, trimmed = keys.boolean("legacyrootprefix"), keys.boolean("trimlegacyrootprefix")
    if legacy is not None and legacy == trimmed:
        raise keys.error("legacyrootprefix", "and trimlegacyrootprefix contradict each other")
    if legacy or trimmed is False:
        key = "legacyrootprefix" if legacy else "trimlegacyrootprefix"
        raise keys.error(key, "asks for names that begin with a slash, which cannot be read here; copy the blobs first")
    parameters = {"accountname": keys.required("accountname"), "container": keys.required("container")}
    parameters |= keys.texts("realm", "serviceurl", "rootdirectory") | keys.booleans("anonymous") | _retries(keys)
    return parameters | _azure_identity(keys, anonymous="anonymous" in parameters)


def _azure_identity(keys: _Keys, *, anonymous: bool) -> dict[str, Any]:
    kind = keys.text("credentials_type", "shared_key")
    if kind not in IDENTITIES:
        raise keys.error("credentials_type", f"must be one of {', '.join(IDENTITIES)}")
    if kind == "client_secret":
        return {key: keys.required(key) for key in ("tenant_id", "client_id", "secret")}
    if kind == "default_credentials" or anonymous:
        return {}
    return {"accountkey": keys.required("accountkey")}


def _retries(keys: _Keys) -> dict[str, Any]:
    retries = keys.number("maxretries")
    return {} if retries is None else {"maxretries": int(retries)}


_READERS: dict[str, Callable[[_Keys], dict[str, Any]]] = {
    "azure": _azure,
    "filesystem": _filesystem,
    "gcs": _gcs,
    "s3": _s3,
}
