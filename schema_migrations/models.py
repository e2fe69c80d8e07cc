"""The schema migrations applied so far, for the admin to browse; the migrator alone writes these tables."""

from django.db import models


class SchemaMigration(models.Model):
    """A pre-deployment migration that was applied, perhaps by a release that this one does not know."""

    id = models.TextField(primary_key=True)
    applied_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "schema_migrations"
        verbose_name = "pre-deployment migration"

    def __str__(self) -> str:
        return self.id


class PostDeploymentSchemaMigration(models.Model):
    """A post-deployment migration that was applied, perhaps by a release that this one does not know."""

    id = models.TextField(primary_key=True)
    applied_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "post_deploy_schema_migrations"
        verbose_name = "post-deployment migration"

    def __str__(self) -> str:
        return self.id
