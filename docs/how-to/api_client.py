"""A client of the REST API with the standard library alone: copy it, or read it as an example.

    REGISTRY_TOKEN=eyJ… python api_client.py https://registry-admin.example.com

prints how far the migrations are.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 20


class ApiError(Exception):
    """The API refused or failed; `status` is the HTTP status, `code` is stable."""

    def __init__(self, status: int, *, code: str, message: str, detail: object) -> None:
        super().__init__(f"{status} {code}: {message}" + (f" ({detail})" if detail else ""))
        self.status, self.code, self.detail = status, code, detail


@dataclass(frozen=True)
class MigrationStatus:
    """What GitLab Rails shows on its health-check page."""

    version: str
    schema_migrations: Mapping[str, int]
    background_migrations: Mapping[str, int]


@dataclass(frozen=True)
class BackgroundMigration:
    """One background migration; None is what is not known yet."""

    id: int
    name: str
    status: str
    finished_jobs: int
    progress: float | None
    eta_seconds: float | None
    throttled_by: str


@dataclass(frozen=True)
class RegistryApi:
    """The API at an address, with one token."""

    url: str
    token: str

    def migration_status(self) -> MigrationStatus:
        """Needs `registry:migrations:*`."""
        return MigrationStatus(**self._send("GET", "admin/db/migrations/status/"))

    def background_migrations(self) -> list[BackgroundMigration]:
        """Needs `registry:background-migrations:read`."""
        names = BackgroundMigration.__dataclass_fields__
        found = self._send("GET", "background-migrations/")["migrations"]
        return [BackgroundMigration(**{name: each.get(name) for name in names}) for each in found]

    def pause(self, migration_id: int | None = None) -> str:
        """Pause one, or all without an id; needs `registry:background-migrations:write`."""
        one = "" if migration_id is None else f"{migration_id}/"
        return str(self._send("POST", f"background-migrations/{one}pause/")["message"])

    def resume(self, migration_id: int | None = None) -> str:
        """Resume one, or all without an id; needs `registry:background-migrations:write`."""
        one = "" if migration_id is None else f"{migration_id}/"
        return str(self._send("POST", f"background-migrations/{one}resume/")["message"])

    def control(self, migration_id: int, **controls: float | bool | str | None) -> Mapping[str, Any]:
        """Change controls, None being the default; needs `registry:background-migrations:write`."""
        changed: Mapping[str, Any] = self._send("PATCH", f"background-migrations/{migration_id}/", controls)["controls"]
        return changed

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        request = urllib.request.Request(f"{self.url.rstrip('/')}/gitlab/v1/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            (found,) = json.load(error)["errors"]
            raise ApiError(
                error.code, code=found["code"], message=found["message"], detail=found.get("detail")
            ) from error


def main() -> int:
    """Print what the API says."""
    api = RegistryApi(sys.argv[1], os.environ["REGISTRY_TOKEN"])
    status = api.migration_status()
    print(f"registry {status.version}: {status.schema_migrations['pending']} schema migrations pending")
    for each in api.background_migrations():
        percent = "?" if each.progress is None else f"{each.progress:.1f}"
        held_up = f", held up by {each.throttled_by}" if each.throttled_by else ""
        print(f"{each.id:>6}  {each.status:<8}  {percent:>5} %  {each.name}{held_up}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
