"""Which prefix goes to which app."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.templatetags.static import static
from django.urls import include, path
from django.views.defaults import page_not_found
from django.views.generic import RedirectView

from registry_project import database_errors
from registry_project.admin_site import live
from registry_project.api.protocol import PLAIN_TEXT

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("favicon.ico", RedirectView.as_view(url=static("registry/favicon.svg"))),
    path("admin/live/", admin.site.admin_view(live), name="home_live"),
    path("admin/", admin.site.urls),
    path("", include("registry_project.api.urls")),
]


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer an unknown path as GitLab's registry does; within the admin site, as Django does."""
    if request.path.startswith("/admin/"):
        return page_not_found(request, exception)
    return HttpResponse("404 page not found", status=404, content_type=PLAIN_TEXT)


handler500 = database_errors.handler500
