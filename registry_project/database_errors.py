"""What is answered where a database lacks a table, is away, says no, or was asked nonsense: the next step.

The page asks no database. What the server said of itself and of roles is in the log, not on the page: who sees it need
not be logged in.
"""

import sys
from collections.abc import Callable

import psycopg
from django import db
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.defaults import server_error
from psycopg import errors

from registry_project.api.exceptions import RETRY_SECONDS, UNAVAILABLE

MISSING = (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName)
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, db.OperationalError, db.InterfaceError)
# What was raised, and what is answered: the name of the case in the template, and the HTTP status. The first that fits.
ANSWERS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, int], ...] = (
    (MISSING, "missing", UNAVAILABLE),
    (errors.InsufficientPrivilege, "forbidden", UNAVAILABLE),
    (errors.ReadOnlySqlTransaction, "read-only", UNAVAILABLE),
    (AWAY, "away", UNAVAILABLE),
    (psycopg.DataError, "nonsense", 400),  # a number or a text that no column can hold
)


class DatabaseErrorsMiddleware:
    """Answers what pages of the admin site raise, so that it is no error of ours in the log."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Say what is wrong and what to do; None leaves any other error, and any other page, alone."""
        return _answer(exception) if request.path.startswith("/admin/") else None


def handler500(request: HttpRequest) -> HttpResponse:
    """Answer what nobody caught, such as a session that cannot be read; what is no database's is Django's own page."""
    error = sys.exception()
    return (error and _answer(error)) or server_error(request)


def _answer(exception: BaseException) -> HttpResponse | None:
    # Django wraps what the driver raises, unless it raises by itself.
    error = exception.__cause__ if isinstance(exception, db.Error) and exception.__cause__ else exception
    for kind, case, status in ANSWERS:
        if isinstance(error, kind):
            page = render_to_string(
                "registry/database_error.html", {"case": case, "error": str(error).partition("\n")[0]}
            )
            headers = {"Retry-After": str(RETRY_SECONDS)} if status == UNAVAILABLE else {}
            return HttpResponse(page, status=status, headers=headers)
    return None
