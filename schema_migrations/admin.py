"""Read-only lists of the schema migrations applied; `database migrate` alone applies and undoes them."""

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from schema_migrations.models import PostDeploymentSchemaMigration, SchemaMigration


class AppliedMigrationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    """A list, newest first, in which nothing can be changed."""

    actions = None
    list_display = ("id", "applied_at")
    ordering = ("-id",)
    search_fields = ("id",)
    show_full_result_count = False

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
