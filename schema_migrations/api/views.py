"""The migration status that GitLab Rails shows on its health-check page."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from psycopg import Connection
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from schema_migrations.api.serializers import StatusSerializer
from schema_migrations.services import Overview, known_migrations, overview


class StatusView(APIView):
    """How many migrations are applied, pending, active, paused, failed and completed."""

    required_access = [
        ("registry", "migrations", "*"),
        ("admin", "container_registry_migrations", "read", {"role": "administrator"}),
    ]
    registry: Callable[[], Connection]

    @extend_schema(responses=StatusSerializer, operation_id="get_migration_status")
    def get(self, request: Request) -> Response:
        """Show the state of schema migrations and background migrations, read in one statement."""
        found = overview(self.registry(), known=known_migrations(settings.SCHEMA_OWNER == "self"))
        return Response(_as_status(found))


def _as_status(found: Overview) -> dict[str, Any]:
    return {
        "version": settings.REGISTRY_VERSION,
        "schema_migrations": {
            "applied": found.applied,
            "pending": found.pending_pre_deployment + found.pending_post_deployment,
            "pending_post_deployment": found.pending_post_deployment,
            "pending_non_post_deployment": found.pending_pre_deployment,
        },
        "background_migrations": {
            "active": found.active,
            "paused": found.paused,
            "failed": found.failed,
            "completed": found.finished,
        },
    }
