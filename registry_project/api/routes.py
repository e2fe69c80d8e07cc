"""Makes URL patterns of the routes that the apps declare: each with and without its slash, and guarded."""

import re
from collections.abc import Callable, Iterable, Sequence

from django.urls import ResolverMatch, URLPattern, path, register_converter
from psycopg import Connection
from rest_framework.views import APIView

from registry_project.api.access import alternatives
from registry_project.api.database import registry_connection
from registry_project.api.protocol import Protocol

PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
Route = tuple[str, type[APIView], Sequence[str]]


class IdConverter:
    """A positive number without leading zeros, of any length: the view says which are too large."""

    regex = "[1-9][0-9]*"

    def to_python(self, value: str) -> str:
        """Return the digits."""
        return value

    def to_url(self, value: object) -> str:
        """Return the digits."""
        return str(value)


register_converter(IdConverter, "positive")


def api_patterns(
    routes: Iterable[Route], *, registry: Callable[[], Connection] = registry_connection
) -> list[URLPattern]:
    """Return the patterns of routes: the canonical path, its view, and other paths that are answered alike.

    Views get their connection to the registry's database from `registry`.

    Raises ImproperlyConfigured when a view does not declare what it requires.
    """
    patterns = []
    for canonical, view, aliases in routes:
        served = _guarded(view, canonical, registry).as_view()
        for each in (canonical, *aliases):
            bare = each.rstrip("/")
            patterns += [path(f"{bare}/", served), path(bare, served)]
    return patterns


def _guarded(view: type[APIView], canonical: str, registry: Callable[[], Connection]) -> type[APIView]:
    """Return the view with what the project adds, as soon as it says what it requires."""
    alternatives(view, "GET")
    described = _described(canonical)
    added = {"registry": staticmethod(registry), "canonical_path": described, "__doc__": view.__doc__}
    return type(view.__name__, (view, Protocol), added)


def template_of(match: ResolverMatch) -> str:
    """Return the route that a request was answered by, for all spellings of its path the same."""
    view = getattr(match.func, "cls", None)
    return str(getattr(view, "canonical_path", None) or _described(match.route))


def _described(route: str) -> str:
    return "/" + PARAMETER.sub(r"{\1}", route)
