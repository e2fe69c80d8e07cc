"""The routes of imports: the canonical path, its view, and the other paths that are answered alike."""

from metadata_import.api.views import StatisticsView

ROUTES = [
    ("gitlab/v1/statistics/", StatisticsView, ()),
]
