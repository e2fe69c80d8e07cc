"""All routes of the API: those of the apps, that it is there at all, and its description."""

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.urls import path
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from psycopg import Connection
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from background_migrations.api.urls import ROUTES as BACKGROUND_MIGRATIONS
from metadata_import.api.urls import ROUTES as METADATA_IMPORT
from registry_project.api.routes import api_patterns
from registry_project.gitlab_release import checked_connection
from schema_migrations.api.urls import ROUTES as SCHEMA_MIGRATIONS


class PresenceView(APIView):
    """That this is a registry with GitLab's own API, whatever the method."""

    required_access: list[tuple[str, str, str]] = []
    registry: Connection

    @extend_schema(responses={200: dict}, operation_id="get_presence")
    def get(self, request: Request) -> Response:
        """Answer an empty object to whoever has a valid token."""
        return Response({}, headers={"Gitlab-Container-Registry-Version": settings.REGISTRY_VERSION.removeprefix("v")})

    http_method_not_allowed = options = get


class DescriptionView(SpectacularJSONAPIView):
    """The OpenAPI document, open to all: it tells nothing about this registry."""

    authentication_classes = ()
    permission_classes = ()


urlpatterns = [
    *api_patterns([("gitlab/v1/", PresenceView, []), *SCHEMA_MIGRATIONS]),
    *api_patterns([*BACKGROUND_MIGRATIONS, *METADATA_IMPORT], registry=checked_connection),
    path("gitlab/v1/openapi.json", DescriptionView.as_view(), name="openapi"),
    path("docs/", staff_member_required(SpectacularSwaggerSplitView.as_view(url_name="openapi")), name="docs"),
]
