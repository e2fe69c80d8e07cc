"""What the admin site answers where its database lacks a table, is away, or was asked nonsense: the next step."""

from collections.abc import Callable

import psycopg
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

MISSING = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName)
# What was raised, and what is answered: the name of the case in the template, and the HTTP status.
ANSWERS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, int], ...] = (
    (MISSING, "missing", 503),
    (psycopg.OperationalError, "away", 503),
    (psycopg.DataError, "nonsense", 400),  # a number or a text that no column can hold
)


class DatabaseErrorsMiddleware:
    """Answers errors of the database with the next step, within the admin site."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Say what is wrong and what to do; None leaves any other error, and any other page, alone."""
        if not request.path.startswith("/admin/"):
            return None
        # Django wraps what the driver raises.
        error = exception.__cause__ if isinstance(exception, DatabaseError) else exception
        for kind, case, status in ANSWERS:
            if isinstance(error, kind):
                context = {"case": case, "error": str(error).partition("\n")[0]}
                return render(request, "registry/database_error.html", context, status=status)
        return None
