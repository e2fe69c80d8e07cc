"""A client that asks the API with tokens, and what it takes to count statements."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import psycopg
from django.test import Client

from tests.e2e.tokens import TokenAuth


class CountingCursor(psycopg.Cursor):
    """Counts what is sent to the server."""

    queries: ClassVar[int] = 0

    def execute(self, *arguments, **options):
        CountingCursor.queries += 1
        return super().execute(*arguments, **options)


@contextmanager
def counted_statements(connection: psycopg.Connection) -> Iterator[Callable[[], int]]:
    """Count the statements of one connection; BEGIN and its like, which the driver sends itself, are in no count."""
    usual, connection.cursor_factory = connection.cursor_factory, CountingCursor
    CountingCursor.queries = 0
    try:
        yield lambda: CountingCursor.queries
    finally:
        connection.cursor_factory = usual


@dataclass
class ApiClient:
    """Sends each request with a token that grants `scope`, such as `registry:migrations:*`; None sends none."""

    auth: TokenAuth
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def get(self, path: str, scope: str | None, **options: Any) -> Any:
        return self.send("GET", path, scope, **options)

    def post(self, path: str, scope: str | None, **options: Any) -> Any:
        return self.send("POST", path, scope, **options)

    def patch(self, path: str, scope: str | None, data: Any) -> Any:
        return self.client.patch(path, data, content_type="application/json", headers=self.headers(scope))

    def send(self, method: str, path: str, scope: str | None, **claims: Any) -> Any:
        return self.client.generic(method, path, headers=self.headers(scope, **claims))

    def headers(self, scope: str | None, **claims: Any) -> dict[str, str]:
        """Return the headers of a request, as GitLab Rails writes them."""
        if scope is None:
            return {}
        type_, name, action = scope.split(":")
        access = {"type": type_, "name": name, "actions": [action]}
        return {"Authorization": f"bearer {self.auth.granting(access, **claims)}", "Accept": "application/json"}
