"""The page that stands in where a database is away or says no: what is wrong in general, and what to do next.

What the server said exactly may name hosts and roles; it is in the log, with the traceback.
"""

import sys

import psycopg
from django import db
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.defaults import server_error

from registry_project.api.exceptions import RETRY_SECONDS, UNAVAILABLE

AWAY = (
    "The database does not answer",
    "It is away or busy. What was committed is kept; try again in a moment. If this stays, look at the server.",
)
READ_ONLY = (
    "The database takes no writes",
    "It is a standby or read-only. Nothing was changed. DATABASE_URL and REGISTRY_DATABASE_URL must name the primary.",
)
FORBIDDEN = (
    "The database refused",
    "This service's role may not do this; nothing was changed. See docs/how-to/least-privilege-roles.md.",
)
NOT_READY = (
    "The database is not ready for this release",
    "A table or a column is missing. Run: python manage.py migrate; and: python manage.py database migrate status.",
)
# The first class that fits decides.
REASONS: tuple[tuple[type[BaseException], tuple[str, str]], ...] = (
    (psycopg.errors.InsufficientPrivilege, FORBIDDEN),
    (psycopg.errors.ReadOnlySqlTransaction, READ_ONLY),
    (psycopg.errors.UndefinedTable, NOT_READY),
    (psycopg.errors.UndefinedColumn, NOT_READY),
    (psycopg.OperationalError, AWAY),
    (psycopg.InterfaceError, AWAY),
    (db.OperationalError, AWAY),
    (db.InterfaceError, AWAY),
)


def answer(request: HttpRequest) -> HttpResponse:
    """Answer what no view caught: 503 with a reason where a database is behind it, else Django's own page."""
    error = sys.exception()
    for each in (error.__cause__, error) if error else ():
        for kind, (title, text) in REASONS:
            if isinstance(each, kind):
                page = render_to_string("registry/without_database.html", {"title": title, "text": text})
                return HttpResponse(page, status=UNAVAILABLE, headers={"Retry-After": str(RETRY_SECONDS)})
    return server_error(request)
