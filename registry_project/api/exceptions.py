"""The one error envelope, and which error is answered with which code and HTTP status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from django import db
from django.conf import settings
from django.core.signals import got_request_exception
from rest_framework import exceptions
from rest_framework.response import Response

from background_migrations import errors as background_migrations
from registry_project.api import throttling
from registry_project.api.access import Requirement, alternatives
from registry_project.request_log import note
from schema_migrations import errors as schema_migrations

RETRY_SECONDS = 5
UNAVAILABLE = 503
UNKNOWN = 500


class TokenRefusedError(Exception):
    """No token, one that is not valid, or one that does not allow enough; `error` is None, or what a challenge says."""

    code = "token_refused"

    def __init__(self, error: str | None) -> None:
        super().__init__(error or "no token")
        self.error = error


@dataclass(frozen=True)
class Answer:
    """How an error is answered. Its own text becomes the detail where `tells`."""

    status: int
    code: str
    message: str
    tells: bool = True


# The first class that fits decides. Codes and messages up to the database's are those of GitLab's registry.
ANSWERS: Mapping[type[Exception], Answer] = {
    TokenRefusedError: Answer(401, "UNAUTHORIZED", "authentication required"),
    exceptions.Throttled: Answer(429, "TOOMANYREQUESTS", "too many requests"),
    background_migrations.InvalidIdError: Answer(400, "BBM_ID_INVALID", "invalid background migration id"),
    background_migrations.UnknownMigrationError: Answer(404, "BBM_ID_NOT_FOUND", "background migration not found"),
    background_migrations.TablesMissingError: Answer(UNAVAILABLE, "UNAVAILABLE", "service unavailable"),
    # A dropped connection, a time-out, a lock that somebody holds: may be gone with the next request. The server's
    # words may name hosts and roles, which is nobody's business.
    psycopg.OperationalError: Answer(UNAVAILABLE, "UNAVAILABLE", "service unavailable", tells=False),
    psycopg.InterfaceError: Answer(UNAVAILABLE, "UNAVAILABLE", "service unavailable", tells=False),
    db.OperationalError: Answer(UNAVAILABLE, "UNAVAILABLE", "service unavailable", tells=False),
    db.InterfaceError: Answer(UNAVAILABLE, "UNAVAILABLE", "service unavailable", tells=False),
    psycopg.errors.UndefinedTable: Answer(UNAVAILABLE, "UNAVAILABLE", "service unavailable", tells=False),
    psycopg.errors.ReadOnlySqlTransaction: Answer(UNAVAILABLE, "UNAVAILABLE", "service unavailable", tells=False),
    schema_migrations.OutdatedRegistryError: Answer(UNAVAILABLE, "UNAVAILABLE", "service unavailable"),
    # Ours.
    psycopg.errors.InsufficientPrivilege: Answer(
        UNAVAILABLE, "INSUFFICIENT_PRIVILEGE", "the database role of this service may not do this", tells=False
    ),
    background_migrations.InvalidTransitionError: Answer(
        409, "BBM_INVALID_TRANSITION", "the background migration's status does not allow this"
    ),
    background_migrations.ConflictingControlsError: Answer(
        409, "BBM_CONFLICTING_CONTROLS", "two controls contradict each other"
    ),
    background_migrations.ControlTypeError: Answer(
        400, "INVALID_BODY_PARAMETER_TYPE", "a body parameter is of the wrong type"
    ),
    background_migrations.InvalidControlError: Answer(400, "INVALID_BODY_PARAMETER", "invalid body parameter"),
    exceptions.ParseError: Answer(400, "INVALID_JSON_BODY", "invalid JSON body"),
    background_migrations.ParameterTypeError: Answer(
        400, "INVALID_QUERY_PARAMETER_TYPE", "the value of a query parameter is of the wrong type"
    ),
    background_migrations.InvalidParameterError: Answer(
        400, "INVALID_QUERY_PARAMETER_VALUE", "the value of a query parameter is invalid"
    ),
}
ANYTHING_ELSE = Answer(UNKNOWN, "UNKNOWN", "unknown error", tells=False)


def envelope(code: str, message: str, *, detail: object = ...) -> dict[str, Any]:
    """Return the body of an error; an Ellipsis leaves the detail out."""
    return {"errors": [{"code": code, "message": message, **({} if detail is ... else {"detail": detail})}]}


def answer_error(error: Exception, context: Mapping[str, Any]) -> Response:
    """Answer whatever a view raised. An error that nobody foresaw is told as Django does; its text stays in the log."""
    answer = next((answer for kind, answer in ANSWERS.items() if isinstance(error, kind)), ANYTHING_ELSE)
    view, request = context["view"], context["request"]
    detail: object = str(error) if answer.tells else ...
    headers: dict[str, str] = {}
    if isinstance(error, TokenRefusedError):
        required = alternatives(view, request.method)[:1]
        detail = [_as_detail(each) for each in required] or None
        headers["WWW-Authenticate"] = _challenge(required, error=error.error)
    elif isinstance(error, exceptions.Throttled):
        headers, detail = throttling.headers(), ...
    elif answer.status >= UNKNOWN:
        if answer.status == UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_SECONDS)
            note(error=" ".join(str(error).split()))
        else:
            got_request_exception.send(sender=type(view), request=request._request)
    return Response(envelope(answer.code, answer.message, detail=detail), status=answer.status, headers=headers)


def _as_detail(required: Requirement) -> dict[str, str]:
    """Return a required access as GitLab's registry spells it."""
    return {
        "Type": required.type,
        "Class": "",
        "Name": required.name,
        "ProjectPath": "",
        "Action": required.action,
    }


def _challenge(required: Sequence[Requirement], *, error: str | None) -> str:
    scope = " ".join(f"{each.type}:{each.name}:{each.action}" for each in required)
    values = {
        "realm": settings.AUTH_TOKEN_REALM,
        "service": settings.AUTH_TOKEN_SERVICE,
        **({"scope": scope} if scope else {}),
        **({"error": error} if error else {}),
    }
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in values.items())
