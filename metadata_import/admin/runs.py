"""The list of imports, the page of one, and its downloads. Nothing can be changed: `database import` alone imports."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.admin import ModelAdmin

from metadata_import import history
from metadata_import.admin import downloads, shown
from metadata_import.admin.downloads import Pages
from metadata_import.history import RunState

REGISTRY = "registry"
RUNS_PER_PAGE = 50
LONGEST_NUMBER = 18  # digits, of what PostgreSQL takes for an id


class ImportRunAdmin(ModelAdmin):
    """All imports, newest first."""

    def get_urls(self) -> list[URLPattern]:
        """Put our own pages before Django's."""
        guard, prefix = self.admin_site.admin_view, "metadata_import_importrun"
        return [
            path("live/", guard(self.list_live_view), name=f"{prefix}_list_live"),
            path("<int:run_id>/live/", guard(self.live_view), name=f"{prefix}_live"),
            path("<int:run_id>/report.json", guard(self.report_view), name=f"{prefix}_report"),
            path("<int:run_id>/skips.json", guard(self.skips_json_view), name=f"{prefix}_skips_json"),
            path("<int:run_id>/skips.csv", guard(self.skips_csv_view), name=f"{prefix}_skips_csv"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """List the imports, so many to a page."""
        self._require_view(request)
        context = {**self.admin_site.each_context(request), **_list(request), "title": "Imports"}
        return TemplateResponse(request, "metadata_import/list.html", context)

    def list_live_view(self, request: HttpRequest) -> HttpResponse:
        """Answer the list alone, which is renewed while it is open."""
        self._require_view(request)
        return render(request, "metadata_import/list_live.html", _list(request))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one import."""
        self._require_view(request)
        state = _find(object_id)
        context = {**self.admin_site.each_context(request), **_page(state), "title": f"Import {state.run.pk}"}
        return TemplateResponse(request, "metadata_import/detail.html", context)

    def live_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Answer what moves on the page of one."""
        self._require_view(request)
        return render(request, "metadata_import/detail_live.html", _page(_find(run_id)))

    # --- Downloads ----------------------------------------------------------------------------------------------------

    def report_view(self, request: HttpRequest, run_id: int) -> HttpResponseBase:
        """Send the report, every skip included."""
        self._require_view(request)
        report = _report(_find(run_id))
        by_reason = ((reason, _pages(run_id, reason)) for reason in report["skip_counts"])
        return downloads.report_file(f"import-{run_id}.json", report, by_reason)

    def skips_json_view(self, request: HttpRequest, run_id: int) -> HttpResponseBase:
        """Send what was left out, as JSON."""
        self._require_view(request)
        return downloads.json_file(f"import-{run_id}-skips.json", _all_pages(_find(run_id)))

    def skips_csv_view(self, request: HttpRequest, run_id: int) -> HttpResponseBase:
        """Send what was left out, as a table."""
        self._require_view(request)
        return downloads.csv_file(f"import-{run_id}-skips.csv", _all_pages(_find(run_id)))

    # --- Permissions --------------------------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: an import begins where the storage is."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: a run goes on by what is recorded."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: without its row a run could not go on."""
        return False

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied


def _list(request: HttpRequest) -> dict[str, Any]:
    text, now, connection = request.GET.get("before", ""), timezone.now(), connections[REGISTRY]
    before = int(text) if text.isdecimal() and len(text) <= LONGEST_NUMBER else None
    grace = settings.IMPORT_GRACE_SECONDS
    found = history.recent_runs(connection, grace=grace, limit=RUNS_PER_PAGE + 1, before=before)
    states = found[:RUNS_PER_PAGE]
    return {
        "lines": shown.lines(connection, states, now=now),
        "older": states[-1].run.pk if len(found) > RUNS_PER_PAGE else None,
        "before": before,
        "every": shown.pace(states),
    }


def _find(run_id: int | str) -> RunState:
    try:
        state = history.find_run(connections[REGISTRY], int(run_id), grace=settings.IMPORT_GRACE_SECONDS)
    except ValueError:
        state = None
    if state is None:
        raise Http404(f"There is no import {run_id}.")
    return state


def _page(state: RunState) -> dict[str, Any]:
    return shown.page_of(connections[REGISTRY], state, now=timezone.now())


def _report(state: RunState) -> dict[str, Any]:
    return history.report_of(connections[REGISTRY], state, now=timezone.now())


def _pages(run_id: int, reason: str) -> Pages:
    return history.skip_pages(connections[REGISTRY], run_id, reason=reason)


def _all_pages(state: RunState) -> Iterator[Any]:
    for reason in _report(state)["skip_counts"]:
        yield from _pages(state.run.pk, reason)
