"""The routes of background migrations: the canonical path, its view, and the other paths that are answered alike."""

from background_migrations.api import views

HERE = "gitlab/v1/background-migrations/"
ALSO = "v1/gitlab/background-migrations/"
SHORT = "v1/gitlab/bbm/"
ONE = "<positive:id>/"

ROUTES = [
    (HERE, views.MigrationsView, [ALSO, f"{SHORT}status/"]),
    (f"{HERE}pause/", views.PauseAllView, [f"{ALSO}pause/", f"{SHORT}pause/"]),
    (f"{HERE}resume/", views.ResumeAllView, [f"{ALSO}resume/", f"{SHORT}resume/"]),
    (f"{HERE}{ONE}", views.MigrationView, [f"{ALSO}{ONE}"]),
    (f"{HERE}{ONE}jobs/", views.JobsView, []),
    (f"{HERE}{ONE}pause/", views.PauseView, []),
    (f"{HERE}{ONE}resume/", views.ResumeView, []),
    (f"{HERE}{ONE}restart/", views.RestartView, [f"gitlab/v1/restart/{ONE}"]),
]
