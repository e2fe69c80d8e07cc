"""What the admin site answers where the registry's database lacks tables, or cannot be reached: what to do next."""

from collections.abc import Callable

import psycopg
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

UNAVAILABLE = 503
MISSING = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName)


class NotReadyMiddleware:
    """Answers the errors of a database that is not ready, within the admin site."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Say what is not ready; None leaves any other error, and any other page, alone."""
        if not request.path.startswith("/admin/"):
            return None
        error = exception.__cause__ or exception  # Django wraps what the driver raises
        missing = isinstance(error, MISSING)
        if not missing and not isinstance(error, psycopg.OperationalError):
            return None
        context = {"missing": missing, "error": str(error).splitlines()[0]}
        return render(request, "registry/not_ready.html", context, status=UNAVAILABLE)
