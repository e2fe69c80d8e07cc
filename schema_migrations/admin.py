"""Read-only pages of schema migrations and their SQL; `database migrate` alone applies and undoes them."""

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from psycopg import Connection
from unfold.admin import ModelAdmin

from schema_migrations.loader import KnownMigration
from schema_migrations.models import SchemaMigration
from schema_migrations.services import MigrationStatus, known_migrations, migration_statuses

KINDS: Mapping[str, Callable[[MigrationStatus], bool]] = {
    "all": lambda _status: True,
    "pending": lambda status: status.pending,
    "applied": lambda status: status.recorded and status.known,
    "unknown": lambda status: not status.known,
    "changed": lambda status: status.changed,
}


class SchemaMigrationAdmin(ModelAdmin):
    """All migrations of both phases, known and recorded, newest first, in which nothing can be changed."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """List the migrations of one kind, or all."""
        self._require_view(request)
        statuses = list(reversed(_statuses()))
        kind, text = request.GET.get("kind", "all"), request.GET.get("q", "").strip()
        belongs = KINDS.get(kind, KINDS["all"])
        context = {
            **self.admin_site.each_context(request),
            "title": "Schema migrations",
            "tabs": [(name, sum(map(test, statuses)), name == kind) for name, test in KINDS.items()],
            "kind": kind,
            "text": text,
            "migrations": [(each, state_of(each)) for each in statuses if belongs(each) and text in each.id],
            "nothing_applied": not any(each.recorded for each in statuses),
            "pending": any(each.pending for each in statuses),
        }
        return TemplateResponse(request, "schema_migrations/list.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one migration and what it runs."""
        self._require_view(request)
        status = next((each for each in _statuses() if each.id == object_id), None)
        if status is None:
            raise Http404(f"There is no schema migration {object_id}.")
        known = next((each for each in _known() if each.id == object_id), None)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Schema migration {status.id}",
            "status": status,
            "state": state_of(status),
            "migration": known.migration if known else None,
            "requires": known.requires if known else (),
        }
        return TemplateResponse(request, "schema_migrations/detail.html", context)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: a row without its migration applied would be a lie."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: what was applied, and when, is history."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: only undoing a migration takes its row away."""
        return False

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied


def state_of(status: MigrationStatus) -> str:
    """Return the state of a migration in one word."""
    if status.changed:
        return "changed"
    return "unknown" if not status.known else "applied" if status.recorded else "pending"


def _known() -> tuple[KnownMigration, ...]:
    return tuple(known_migrations(settings.SCHEMA_OWNER == "self"))


def _statuses() -> list[MigrationStatus]:
    return migration_statuses(_connection(), known=_known())


def _connection() -> Connection:
    wrapper = connections["registry"]
    wrapper.close_if_health_check_failed()
    wrapper.ensure_connection()
    connection: Connection = wrapper.connection
    return connection


admin.site.register(SchemaMigration, SchemaMigrationAdmin)
