"""The list of jobs, made for hundreds of thousands of them, and the page of one. Nothing can be changed."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from background_migrations import reports, wiring
from background_migrations.admin.asking import UncountedPaginator
from background_migrations.admin.rows import migration_url, state_badge
from background_migrations.models import BackgroundMigrationJob, Event
from background_migrations.printing import failure
from background_migrations.status import Status

MOST_EVENTS = 50


class JobAdmin(ModelAdmin):
    """A list, newest first; one job with its attempts and errors."""

    actions = None
    list_display = ("number", "migration", "bounds", "status_shown", "attempts", "why", "duration")
    list_display_links = ("number",)
    list_filter = ("status", "failure_error_code")
    list_per_page = 50
    list_select_related = ("background_migration",)
    ordering = ("-id",)
    sortable_by = ()
    paginator = UncountedPaginator  # a COUNT(*) of all jobs would take longer than the page
    show_full_result_count = False
    search_fields = ("=background_migration__name", "=id")
    search_help_text = "The whole name of a migration, or a job's number"

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Let a migration's page link to its jobs."""
        return lookup == "background_migration__id__exact" or super().lookup_allowed(lookup, value, request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one job."""
        job = self.get_object(request, object_id)
        if not self.has_view_permission(request, job):
            raise PermissionDenied
        if job is None:
            raise Http404(f"There is no job {object_id}.")
        (report,) = reports.job_reports(
            wiring.kept_connection(),
            job.background_migration_id,
            grace=wiring.defaults().grace,
            after=job.pk - 1,
            limit=1,
        )
        events = Event.objects.filter(background_migration_id=job.background_migration_id, job_id=job.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Job {job.pk} of {job.background_migration.name}",
            "job": report,
            "badge": state_badge(report.state),
            "failure": failure(report.failure_error_code),
            "migration": job.background_migration,
            "migration_url": migration_url(job.background_migration_id),
            "events": events.order_by("-id")[:MOST_EVENTS],
        }
        return TemplateResponse(request, "background_migrations/job.html", context)

    @admin.display(description="job")
    def number(self, job: BackgroundMigrationJob) -> int:
        """Its id."""
        return int(job.pk)

    @admin.display(description="background migration")
    def migration(self, job: BackgroundMigrationJob) -> SafeString:
        """The migration, as a link."""
        return format_html(
            '<a class="rm-name" href="{}">{}</a>', migration_url(job.background_migration_id), job.background_migration
        )

    @admin.display(description="from, to")
    def bounds(self, job: BackgroundMigrationJob) -> str:
        """Its first and last value."""
        return f"{job.min_value:,} to {job.max_value:,}"

    @admin.display(description="status")
    def status_shown(self, job: BackgroundMigrationJob) -> SafeString:
        """As GitLab's table has it."""
        return state_badge(Status(job.status).label)

    @admin.display(description="failure")
    def why(self, job: BackgroundMigrationJob) -> str:
        """Why it failed last."""
        return failure(job.failure_error_code)

    @admin.display(description="duration")
    def duration(self, job: BackgroundMigrationJob) -> str:
        """From its first start to its end."""
        if job.started_at is None or job.finished_at is None:
            return ""
        return f"{(job.finished_at - job.started_at).total_seconds():.2f} s"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: workers cut batches."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: workers write jobs."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: without its row a batch would be skipped or done again."""
        return False
