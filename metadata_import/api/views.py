"""What GitLab Rails asks a registry about itself: its release, its database, its imports."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from psycopg import Connection
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from metadata_import import services
from metadata_import.api.serializers import ImportSerializer, StatisticsSerializer

FEATURES = "tag_delete"  # what every registry with a metadata database can do


class StatisticsView(APIView):
    """The registry's statistics."""

    required_access = [("registry", "statistics", "*")]
    registry: Callable[[], Connection]

    @extend_schema(responses=StatisticsSerializer, operation_id="get_statistics")
    def get(self, request: Request) -> Response:
        """Show release, database and imports, the oldest import first; without imports their key is absent."""
        imports = services.recorded_imports(self.registry())
        body: dict[str, Any] = {
            "release": {"ext_features": FEATURES, "version": settings.REGISTRY_VERSION},
            "database": {"enabled": True},
        }
        if imports:
            body["import"] = ImportSerializer(imports, many=True).data
        return Response(body)
