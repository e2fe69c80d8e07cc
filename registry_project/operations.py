"""What machines ask beside the site itself: is it alive, is it ready, what does it count.

Answered before all else: a probe knows neither the site's name nor its TLS, and is neither logged nor counted.
"""

import ipaddress
import json
from collections.abc import Callable, Mapping

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST
from psycopg import Error as PsycopgError

from registry_project import exposition
from registry_project.api.database import registry_connection
from registry_project.api.protocol import PLAIN_TEXT
from registry_project.log_in import client_address
from schema_migrations import services as schema_services

PROXIED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")
LIMITED = "SET LOCAL statement_timeout = '5s'"


class Operations:
    """Answers /healthz, /readyz and /metrics, as far as they are switched on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._answers: Mapping[str, Callable[[HttpRequest], HttpResponse]] = {
            **({"/healthz": _healthz} if settings.HEALTHZ else {}),
            **({"/readyz": _readyz} if settings.READYZ else {}),
            **({"/metrics": _metrics} if settings.METRICS_NETWORKS else {}),
        }

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, or let the site do so."""
        answer = self._answers.get(request.path_info.removesuffix("/"))
        if answer is None:
            return self._get_response(request)
        if request.method not in ("GET", "HEAD"):
            return _plain("Method not allowed", status=405, headers={"Allow": "GET, HEAD"})
        response = answer(request)
        response.headers["Cache-Control"] = "no-store"
        return response


def _healthz(_request: HttpRequest) -> HttpResponse:
    return _plain("ok")


def _readyz(_request: HttpRequest) -> HttpResponse:
    """Say whether requests can be answered. What is wrong is named; hosts and roles are nobody's business."""
    checks = {"database": _database, "registry database": _registry_database}
    failures = {name: failure for name, check in checks.items() if (failure := check())}
    body = json.dumps({"status": "unavailable" if failures else "ok", **failures})
    return HttpResponse(body, status=503 if failures else 200, content_type="application/json")


def _database() -> str | None:
    """Look at the database of users and sessions."""
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return "it does not answer"
    return None


def _registry_database() -> str | None:
    """Look at the registry's database, and whether its schema is what this release needs."""
    known = schema_services.known_migrations(settings.SCHEMA_OWNER == "self")
    try:
        connection = registry_connection()
        with connection.transaction():
            connection.execute(LIMITED)
            pending = schema_services.overview(connection, known=known).pending_pre_deployment
    except (PsycopgError, DatabaseError):
        return "it does not answer"
    return f"{pending} schema migrations are to be applied before deployment" if pending else None


def _metrics(request: HttpRequest) -> HttpResponse:
    """Show them to the networks that may read them."""
    address = client_address(request)
    if not _may_read(request, address):
        return _plain(
            f"Metrics are not shown to {address or 'you'}: REGISTRY_METRICS_NETWORKS names who may read them.",
            status=403,
        )
    return HttpResponse(exposition.text(), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest, address: str) -> bool:
    """Say whether the address is in one of the networks. What came through a proxy that we do not know has none."""
    if not settings.BEHIND_PROXY and any(name in request.headers for name in PROXIED):
        return False
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in settings.METRICS_NETWORKS)


def _plain(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return HttpResponse(text + "\n", status=status, content_type=PLAIN_TEXT, headers=headers)
