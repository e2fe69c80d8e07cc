"""Every route of the API with all the paths that lead to it, for the tests that walk them."""

from dataclasses import dataclass

from tests.registry_project.api.asking import TO_READ, TO_STATISTICS, TO_STATUS, TO_WRITE, Required

HERE = "/gitlab/v1/background-migrations"
ALSO = "/v1/gitlab/background-migrations"
SHORT = "/v1/gitlab/bbm"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")


@dataclass(frozen=True)
class Route:
    """The methods of one route with the access that each requires, and its paths without their last slash."""

    methods: dict[str, Required]
    paths: tuple[str, ...]

    @property
    def allowed(self):
        """What its `Allow` header says."""
        return ", ".join(self.methods)


ROUTES = [
    Route({"GET": TO_STATUS}, ("/gitlab/v1/admin/db/migrations/status", "/gitlab/v1/admin/db/migration/status")),
    Route({"GET": TO_STATISTICS}, ("/gitlab/v1/statistics",)),
    Route({"GET": TO_READ}, (HERE, ALSO, f"{SHORT}/status")),
    Route({"GET": TO_READ, "PATCH": TO_WRITE}, (HERE + "/{id}", ALSO + "/{id}")),
    Route({"GET": TO_READ}, (HERE + "/{id}/jobs",)),
    Route({"POST": TO_WRITE}, (f"{HERE}/pause", f"{ALSO}/pause", f"{SHORT}/pause")),
    Route({"POST": TO_WRITE}, (f"{HERE}/resume", f"{ALSO}/resume", f"{SHORT}/resume")),
    Route({"POST": TO_WRITE}, (HERE + "/{id}/pause",)),
    Route({"POST": TO_WRITE}, (HERE + "/{id}/resume",)),
    Route({"POST": TO_WRITE}, (HERE + "/{id}/restart", "/gitlab/v1/restart/{id}")),
]
EACH_PATH = [(route, f"{path}{slash}") for route in ROUTES for path in route.paths for slash in ("", "/")]
OF_ONE = [(route, path) for route, path in EACH_PATH if "{id}" in path]
PATH_NAMES = [path for _, path in EACH_PATH]
EACH_METHOD = [(method, required, path) for route, path in EACH_PATH for method, required in route.methods.items()]
METHOD_NAMES = [f"{method} {path}" for method, _, path in EACH_METHOD]
