"""The table of applied schema migrations, by which the admin knows of their pages; the migrator alone writes it."""

from django.db import models


class SchemaMigration(models.Model):
    """A schema migration; its permission to view is that of the pages of both phases."""

    id = models.TextField(primary_key=True)
    applied_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "schema_migrations"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.id
