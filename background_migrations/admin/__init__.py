"""The pages of background migrations and their jobs: what is shown, and the same services that all else uses."""

from django.contrib import admin

from background_migrations.admin.jobs import JobAdmin
from background_migrations.admin.migrations import MigrationAdmin
from background_migrations.models import BackgroundMigration, BackgroundMigrationJob

admin.site.register(BackgroundMigration, MigrationAdmin)
admin.site.register(BackgroundMigrationJob, JobAdmin)
