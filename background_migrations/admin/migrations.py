"""The list of background migrations with their progress, the page of one, and what can be done with them."""

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import structlog
from django.contrib import admin, messages
from django.contrib.admin.filters import AllValuesFieldListFilter
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Count, Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from background_migrations import reports, wiring
from background_migrations.admin import detail
from background_migrations.admin.asking import ids_of, way_back
from background_migrations.admin.rows import Row, pace
from background_migrations.admin.verbs import VERBS, Verb
from background_migrations.errors import BackgroundMigrationError, UnknownMigrationError
from background_migrations.models import BackgroundMigration
from background_migrations.printing import counted
from background_migrations.status import Status

log = structlog.get_logger(__name__)

HERE = "admin:background_migrations_backgroundmigration"
CONFIRMATION = "background_migrations/confirmation.html"


class MigrationList(ChangeList):
    """A page of the list with the report of each migration on it: one query more, however many there are."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, then the reports."""
        super().get_results(request)
        names = [each.name for each in self.result_list]
        found = reports.migration_reports(wiring.kept_connection(), defaults=wiring.defaults(), names=names)
        by_id = {report.id: Row(report) for report in found}
        self.result_list = [each for each in self.result_list if each.pk in by_id]
        for each in self.result_list:
            each.row = by_id[each.pk]


def _action(verb: Verb) -> Callable[..., HttpResponse]:
    @admin.action(description=f"{verb.label} …", permissions=["operate"])
    def ask(model_admin: "MigrationAdmin", request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse:
        return model_admin.ask(request, verb, ids=list(chosen.values_list("pk", flat=True)))

    ask.__name__ = verb.name
    return ask


class MigrationAdmin(ModelAdmin):
    """Looking needs the view permission, moving a migration `operate`, its controls `configure`."""

    actions = tuple(_action(verb) for verb in VERBS.values())
    list_display = ("name_shown", "status_shown", "progress_shown", "jobs_shown", "left_shown", "throttled_shown")
    list_display_links = None
    list_filter = (
        ("status", admin.ChoicesFieldListFilter),
        ("table_name", AllValuesFieldListFilter),
        ("job_signature_name", AllValuesFieldListFilter),
        ("batching_strategy", AllValuesFieldListFilter),
    )
    list_before_template = "background_migrations/list_head.html"
    list_per_page = 50
    ordering = ("-id",)
    search_fields = ("name", "table_name", "job_signature_name")
    show_full_result_count = False
    sortable_by = ()

    def get_urls(self) -> list[URLPattern]:
        """Put our own pages before Django's."""
        guard, prefix = self.admin_site.admin_view, "background_migrations_backgroundmigration"
        return [
            path("rows/", guard(self.rows_view), name=f"{prefix}_rows"),
            path("act/<str:verb>/", guard(self.act_view), name=f"{prefix}_act"),
            path("<int:migration_id>/live/", guard(self.live_view), name=f"{prefix}_live"),
            *super().get_urls(),
        ]

    # --- The list ---------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **_options: Any) -> type[ChangeList]:
        """Return the list that knows reports."""
        return MigrationList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, under tabs with the number of migrations in each status."""
        self._require(request, "view")
        context = {"title": "Background migrations", "tabs": _tabs(request)}
        answer: HttpResponse = super().changelist_view(request, context)
        return answer

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Answer an action; Django would take what is selected as it comes."""
        selected = request.POST.getlist("_selected_action")
        if len(ids_of(selected)) < len(selected):
            raise BadRequest("What is selected is no migration.")
        answer: HttpResponse | None = super().response_action(request, queryset)
        return answer

    def rows_view(self, request: HttpRequest) -> HttpResponse:
        """Answer the moving cells of the lines that a page shows."""
        self._require(request, "view")
        found = _reports_of(ids_of(request.GET.get("ids", "").split(","))[: self.list_per_page])
        lines = [Row(report) for report in found]
        return render(request, "background_migrations/rows.html", {"rows": lines, "every": pace(found)})

    @admin.display(description="name")
    def name_shown(self, migration: Any) -> SafeString:
        """Its name as a link, over its table."""
        row = migration.row
        return format_html(
            '<a class="rm-name" href="{}">{}</a><br><span class="rm-quiet">{}</span>',
            row.url,
            row.report.name,
            row.report.table_name,
        )

    @admin.display(description="status")
    def status_shown(self, migration: Any) -> SafeString:
        """Its status."""
        return _cell("status", migration.row, migration.row.badge)

    @admin.display(description="progress")
    def progress_shown(self, migration: Any) -> SafeString:
        """Its bar."""
        return _cell("bar", migration.row, migration.row.bar)

    @admin.display(description="jobs done, failed")
    def jobs_shown(self, migration: Any) -> SafeString:
        """How many jobs ended, and how."""
        return _cell("jobs", migration.row, migration.row.jobs)

    @admin.display(description="time left")
    def left_shown(self, migration: Any) -> SafeString:
        """How long it will take."""
        return _cell("left", migration.row, migration.row.time_left)

    @admin.display(description="throttled by")
    def throttled_shown(self, migration: Any) -> SafeString:
        """What holds it up."""
        return _cell("throttled", migration.row, migration.row.report.throttled_by)

    # --- The page of one ----------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one migration; a POST changes its controls."""
        self._require(request, "view")
        report = _report_of(object_id)
        form = detail.controls_form(request, report, editable=self.has_configure_permission(request))
        if request.method == "POST":
            self._require(request, "configure")
            if detail.change_controls(request, report, form):
                changed = BackgroundMigration(pk=report.id, name=report.name)
                self.log_change(request, changed, f"Changed {', '.join(form.changed_data)}.")
                messages.success(request, "The controls are changed; the next job obeys them.")
                return HttpResponseRedirect(request.path)
        context = {
            **self.admin_site.each_context(request),
            **detail.live_context(report, may_operate=self.has_operate_permission(request)),
            "title": f"Background migration {report.name}",
            "form": form,
            "may_configure": self.has_configure_permission(request),
        }
        return TemplateResponse(request, "background_migrations/detail.html", context)

    def live_view(self, request: HttpRequest, migration_id: int) -> HttpResponse:
        """Answer what moves on the page of one."""
        self._require(request, "view")
        report = _report_of(str(migration_id))
        context = detail.live_context(report, may_operate=self.has_operate_permission(request))
        return render(request, "background_migrations/detail_live.html", context)

    # --- Doing --------------------------------------------------------------------------------------------------------

    @method_decorator(require_POST)
    def act_view(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Ask before, then do, what a button or an action says."""
        self._require(request, "operate")
        if verb not in VERBS:
            raise Http404(f"There is no action {verb!r}.")
        ids = ids_of(request.POST.getlist("_selected_action"))
        if "confirmed" not in request.POST:
            return self.ask(request, VERBS[verb], ids=ids)
        self._act(request, VERBS[verb], ids)
        return HttpResponseRedirect(way_back(request, otherwise=reverse(f"{HERE}_changelist")))

    def ask(self, request: HttpRequest, verb: Verb, *, ids: Sequence[int]) -> HttpResponse:
        """Say what would happen to which migration, and to which it cannot."""
        found = _reports_of(ids)
        refused = [(Row(each), reason) for each in found if (reason := verb.refusal(each))]
        context = {
            **self.admin_site.each_context(request),
            "title": f"{verb.label}?",
            "verb": verb,
            "rows": [Row(each) for each in found if not verb.refusal(each)],
            "refused": refused,
            "next": way_back(request, otherwise=reverse(f"{HERE}_changelist")),
        }
        return TemplateResponse(request, CONFIRMATION, context)

    def _act(self, request: HttpRequest, verb: Verb, ids: Sequence[int]) -> None:
        done = []
        for migration_id in ids:
            try:
                name = verb.run(wiring.kept_connection(), migration_id, actor=request.user.get_username())
            except BackgroundMigrationError as error:
                messages.error(request, str(error))
            except psycopg.Error as error:
                messages.error(request, f"The registry's database answered: {error}")
            else:
                done.append(name)
                self.log_change(request, BackgroundMigration(pk=migration_id, name=name), f"{verb.done}.")
                log.info("background migration changed", bbm_name=name, verb=verb.name, actor=str(request.user))
        if done:
            messages.success(request, f"{verb.done} {counted(len(done), 'background migration')}: {', '.join(done)}.")

    # --- Permissions --------------------------------------------------------------------------------------------------

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may pause, resume, retry and restart."""
        return request.user.has_perm("background_migrations.operate_backgroundmigration")

    def has_configure_permission(self, request: HttpRequest) -> bool:
        """Whether the user may change controls."""
        return request.user.has_perm("background_migrations.configure_backgroundmigration")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: `background_migrate queue` and schema migrations insert them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: no field of the row is for hands."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: what was done, and how far, is history."""
        return False

    def _require(self, request: HttpRequest, permission: str) -> None:
        if not request.user.has_perm(f"background_migrations.{permission}_backgroundmigration"):
            raise PermissionDenied


def _tabs(request: HttpRequest) -> list[dict[str, Any]]:
    counts = dict(BackgroundMigration.objects.order_by().values_list("status").annotate(Count("pk")))
    chosen = request.GET.get("status__exact", "")
    here = reverse(f"{HERE}_changelist")
    tabs = [{"label": "all", "count": sum(counts.values()), "url": here, "chosen": not chosen}]
    for status in (Status.RUNNING, Status.ACTIVE, Status.PAUSED, Status.FAILED, Status.FINISHED):
        url = f"{here}?status__exact={status.value}"
        number = counts.get(status.value, 0)
        tabs.append({"label": status.label, "count": number, "url": url, "chosen": chosen == str(status.value)})
    return tabs


def _cell(kind: str, row: Row, content: str) -> SafeString:
    """Return a cell that the page renews by its id."""
    return format_html('<div id="{}-{}">{}</div>', kind, row.report.id, content)


def _reports_of(ids: Sequence[int]) -> list[reports.MigrationReport]:
    names = list(BackgroundMigration.objects.filter(pk__in=ids).values_list("name", flat=True))
    return reports.migration_reports(wiring.kept_connection(), defaults=wiring.defaults(), names=names)


def _report_of(object_id: str) -> reports.MigrationReport:
    try:
        return reports.migration_report(wiring.kept_connection(), int(object_id), defaults=wiring.defaults())
    except (UnknownMigrationError, ValueError, psycopg.DataError) as error:
        raise Http404(str(error)) from error
