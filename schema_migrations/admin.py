"""Read-only lists of the schema migrations applied; `database migrate` alone applies and undoes them."""

from typing import Any

from django.contrib import admin, messages
from django.db import connections
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from schema_migrations.models import PostDeploymentSchemaMigration, SchemaMigration


class AppliedMigrationAdmin(admin.ModelAdmin):
    """A list, newest first, in which nothing can be changed."""

    actions = None
    list_display = ("id", "applied_at")
    ordering = ("-id",)
    search_fields = ("id",)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return no rows, and say why, where `database migrate up` has never made the tables."""
        rows = super().get_queryset(request)
        connection = connections[rows.db]
        with connection.cursor() as cursor:
            tables = connection.introspection.table_names(cursor)
        if self.model._meta.db_table in tables:
            return rows
        messages.warning(request, "No schema migration has been applied. Run: python manage.py database migrate up")
        return rows.none()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: a row without its migration applied would be a lie."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: what was applied, and when, is history."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: only undoing a migration takes its row away."""
        return False


admin.site.register(SchemaMigration, AppliedMigrationAdmin)
admin.site.register(PostDeploymentSchemaMigration, AppliedMigrationAdmin)
