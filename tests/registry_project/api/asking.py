"""How the tests of the API ask, and what every refusal must look like, byte for byte."""

import json
from dataclasses import dataclass
from typing import Any

from django.test import Client

from tests.registry_project.api.issuer import REALM, SERVICE

PRESENCE = "/gitlab/v1/"
STATISTICS = "/gitlab/v1/statistics/"
STATUS = "/gitlab/v1/admin/db/migrations/status"
MIGRATIONS = "/gitlab/v1/background-migrations/"
PLAIN_TEXT = "text/plain; charset=utf-8"
TO_STATISTICS = ("registry", "statistics", "*")
TO_STATUS = ("registry", "migrations", "*")
TO_READ = ("registry", "background-migrations", "read")
TO_WRITE = ("registry", "background-migrations", "write")
ALL = (TO_STATISTICS, TO_STATUS, ("registry", "background-migrations", "*"))
Required = tuple[str, str, str] | None


@dataclass(frozen=True)
class Asker:
    """A client that sends what it is told and follows nothing."""

    client: Client

    def __call__(self, path: str, authorization: str | None = None, *, method: str = "GET", body: Any = b"", **extra):
        """Send one request; `extra` are entries of the WSGI environment."""
        if authorization is not None:
            extra["HTTP_AUTHORIZATION"] = authorization
        content_type = extra.pop("content_type", "application/json" if body else "")
        return self.client.generic(method, path, body, content_type=content_type, **extra)


def challenge(required: Required, error: str | None) -> str:
    """Return the whole `WWW-Authenticate` header of a refusal."""
    scope = f',scope="{":".join(required)}"' if required else ""
    reason = f',error="{error}"' if error else ""
    return f'Bearer realm="{REALM}",service="{SERVICE}"{scope}{reason}'


def refusal(required: Required) -> bytes:
    """Return the whole body of a refusal."""
    detail = "null"
    if required:
        kind, name, action = required
        detail = f'[{{"Type":"{kind}","Class":"","Name":"{name}","ProjectPath":"","Action":"{action}"}}]'
    error = f'{{"code":"UNAUTHORIZED","message":"authentication required","detail":{detail}}}'
    return f'{{"errors":[{error}]}}\n'.encode()


def assert_refused(answer, *, error: str | None, required: Required = None) -> None:
    """Assert that this is a 401 with exactly its challenge and its body."""
    assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (401, challenge(required, error))
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.content == refusal(required)


def assert_error(answer, *, status: int, code: str) -> dict[str, Any]:
    """Assert that this is the envelope with one error of this code; return the error."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json"), answer.content
    assert answer.content.endswith(b"}]}\n")
    (error,) = json.loads(answer.content)["errors"]
    assert error["code"] == code
    assert set(error) <= {"code", "message", "detail"}
    assert error["message"]
    assert "WWW-Authenticate" not in answer.headers
    return error


def assert_not_found(answer) -> None:
    """Assert that no route answered, whatever the token."""
    assert (answer.status_code, answer.content) == (404, b"404 page not found")
    assert answer.headers["Content-Type"] == PLAIN_TEXT
    assert "WWW-Authenticate" not in answer.headers
