"""The admin site's home page and menu: what is shown, from the apps' services. No queries."""

from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from psycopg import errors

from background_migrations import services as background_services
from background_migrations.admin import dashboard
from background_migrations.errors import TablesMissingError
from metadata_import import services as import_services
from registry_project.api.database import registry_connection
from registry_project.gitlab_release import checked_connection
from schema_migrations import services as schema_services
from schema_migrations.errors import OutdatedRegistryError

BACKGROUND = "background_migrations.view_backgroundmigration"
SCHEMA = "schema_migrations.view_schemamigration"
CHARTS = (("chart-hour", "The last hour"), ("chart-day", "The last day"))
IDLE_SECONDS = 15


def home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the home page shows to unfold's context."""
    return {**context, "title": "What is going on", "charts": CHARTS, **_state(request)}


def live(request: HttpRequest) -> HttpResponse:
    """Answer the part of the home page that is renewed while it is open."""
    state = _state(request)
    if not (state["may_see_background"] or state["may_see_schema"]):
        raise PermissionDenied
    return render(request, "registry/home_renewed.html", state)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the menu: what the user may see."""
    background, schema = request.user.has_perm(BACKGROUND), request.user.has_perm(SCHEMA)
    people = request.user.has_perm("auth.view_user")
    migrations = "background_migrations_backgroundmigration"
    pages = [
        ("Home", "home", "index", True),
        ("Background migrations", "conversion_path", f"{migrations}_changelist", background),
        ("Jobs", "list_alt", f"{migrations}job_changelist", background),
        ("Schema migrations", "schema", "schema_migrations_schemamigration_changelist", schema),
        ("Users", "person", "auth_user_changelist", people),
        ("Groups", "group", "auth_group_changelist", people),
    ]
    items = [
        {"title": title, "icon": icon, "link": reverse(f"admin:{name}")} for title, icon, name, shown in pages if shown
    ]
    return [{"items": items}]


def _state(request: HttpRequest) -> dict[str, Any]:
    background, schema = request.user.has_perm(BACKGROUND), request.user.has_perm(SCHEMA)
    state: dict[str, Any] = {"may_see_background": background, "may_see_schema": schema, "every": IDLE_SECONDS}
    if schema:
        state["schema"] = _schema()
    if background:
        try:
            background_services.check_database(checked_connection())
        except (TablesMissingError, OutdatedRegistryError) as error:
            return {**state, "missing": str(error)}
        state |= dashboard.background_context(registry_connection())
    if background or schema:
        state["last_import"] = _last_import()
    return state


def _schema() -> schema_services.Counts:
    own = settings.SCHEMA_OWNER == "self"
    return schema_services.counts(registry_connection(), own_database=own)


def _last_import() -> dict[str, Any] | None:
    connection = registry_connection()
    try:
        with connection.transaction():
            imports = import_services.recorded_imports(connection)
    except errors.UndefinedTable:
        return None
    return imports[-1] if imports else None
