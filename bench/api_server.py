"""The site with one view more: it runs the status endpoint's query, without a token and without the API's framework."""

from dataclasses import asdict

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import include, path

from registry_project.api.database import registry_connection
from registry_project.wsgi import application
from schema_migrations.loader import load_migrations
from schema_migrations.services import overview

__all__ = ["application"]

KNOWN = load_migrations()


def bare(_request: HttpRequest) -> JsonResponse:
    """Answer the same numbers."""
    return JsonResponse(asdict(overview(registry_connection(), known=KNOWN)))


urlpatterns = [path("bare/", bare), path("", include("registry_project.urls"))]
settings.ROOT_URLCONF = __name__
