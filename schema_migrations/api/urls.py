"""The routes of schema migrations: the canonical path, its view, and the other paths that are answered alike."""

from schema_migrations.api.views import StatusView

ROUTES = [
    ("gitlab/v1/admin/db/migrations/status/", StatusView, ["gitlab/v1/admin/db/migration/status/"]),
]
