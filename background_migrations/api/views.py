"""The endpoints of background migrations: each reads one report or calls one service."""

import datetime
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, extend_schema
from psycopg import Connection
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from background_migrations import locks, reports, services, wiring
from background_migrations.api import serializers
from background_migrations.errors import (
    InvalidControlError,
    InvalidIdError,
    InvalidParameterError,
    ParameterTypeError,
)

THING = ("registry", "background-migrations")
READ = [(*THING, "read")]
WRITE = [(*THING, "write")]
LARGEST_ID = 2**63 - 1
LONGEST_ID = len(str(LARGEST_ID))  # digits
WHOLE = re.compile(r"-?[0-9]+")
JOBS_ON_A_PAGE = 100
MOST_JOBS_ON_A_PAGE = 1_000
# GitLab Rails waits for 20 seconds.
STATEMENT_SECONDS = 10.0


ID = OpenApiParameter("id", {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}, OpenApiParameter.PATH)


class _View(APIView):
    """Where the connection to the registry's database is put when the URL is made."""

    registry: Callable[[], Connection]


class MigrationsView(_View):
    """All background migrations."""

    required_access = READ

    @extend_schema(responses=serializers.MigrationListSerializer, operation_id="list_background_migrations")
    def get(self, request: Request) -> Response:
        """List all background migrations, by id."""
        found = reports.migration_reports(self.registry(), defaults=wiring.defaults())
        return Response(serializers.MigrationListSerializer({"migrations": found}).data)


@extend_schema(parameters=[ID])
class MigrationView(_View):
    """One background migration."""

    required_access = {"GET": READ, "PATCH": WRITE}

    @extend_schema(responses=serializers.OneMigrationSerializer, operation_id="get_background_migration")
    def get(self, request: Request, id: str) -> Response:
        """Show one background migration: how far it is, and what holds it up."""
        found = reports.migration_report(self.registry(), _number(id), defaults=wiring.defaults())
        return Response(serializers.OneMigrationSerializer({"migration": found}).data)

    @extend_schema(
        request=serializers.ControlsSerializer,
        responses=serializers.AllControlsSerializer,
        operation_id="control_background_migration",
    )
    def patch(self, request: Request, id: str) -> Response:
        """Change how one background migration is run; what is not named stays, null sets back to the default."""
        migration_id, changes = _number(id), _changes(request)

        def change(connection: Connection, name: str) -> dict[str, Any]:
            return services.set_controls(connection, name, changes, actor=str(request.user))

        controls = _change_one(self.registry(), migration_id, change)
        return Response(serializers.AllControlsSerializer({"controls": controls}).data)


class PauseAllView(_View):
    """All background migrations, to be paused."""

    required_access = WRITE

    @extend_schema(request=None, responses=serializers.DoneSerializer, operation_id="pause_background_migrations")
    def post(self, request: Request) -> Response:
        """Pause every background migration that is active or running; a worker stops within one sub-batch."""
        return _move_all(self.registry(), services.pause, "Paused", actor=str(request.user))


class ResumeAllView(_View):
    """All background migrations, to be resumed."""

    required_access = WRITE

    @extend_schema(request=None, responses=serializers.DoneSerializer, operation_id="resume_background_migrations")
    def post(self, request: Request) -> Response:
        """Make every paused background migration active again."""
        return _move_all(self.registry(), services.resume, "Resumed", actor=str(request.user))


@extend_schema(parameters=[ID])
class PauseView(_View):
    """One background migration, to be paused."""

    required_access = WRITE

    @extend_schema(request=None, responses=serializers.DoneSerializer, operation_id="pause_background_migration")
    def post(self, request: Request, id: str) -> Response:
        """Pause one background migration."""
        return _move_one(self.registry(), id, _only(services.pause), "Paused", actor=str(request.user))


@extend_schema(parameters=[ID])
class ResumeView(_View):
    """One background migration, to be resumed."""

    required_access = WRITE

    @extend_schema(request=None, responses=serializers.DoneSerializer, operation_id="resume_background_migration")
    def post(self, request: Request, id: str) -> Response:
        """Make one paused background migration active again."""
        return _move_one(self.registry(), id, _only(services.resume), "Resumed", actor=str(request.user))


@extend_schema(parameters=[ID])
class RestartView(_View):
    """One background migration, to be restarted."""

    required_access = WRITE

    @extend_schema(request=None, responses=serializers.DoneSerializer, operation_id="restart_background_migration")
    def post(self, request: Request, id: str) -> Response:
        """Make one failed background migration active again; its failed jobs get new attempts."""

        def restart(connection: Connection, name: str, *, actor: str) -> None:
            services.restart(connection, name, actor=actor, grace=settings.BBM_GRACE_SECONDS)

        return _move_one(self.registry(), id, restart, "Restarted", actor=str(request.user))


@extend_schema(parameters=[ID])
class JobsView(_View):
    """The jobs of one background migration."""

    required_access = READ

    @extend_schema(
        parameters=[
            OpenApiParameter("status", str, enum=reports.JOB_STATES, description="Only jobs in this state."),
            OpenApiParameter(
                "n",
                {"type": "integer", "minimum": 1, "maximum": MOST_JOBS_ON_A_PAGE, "default": JOBS_ON_A_PAGE},
                description="How many.",
            ),
            OpenApiParameter(
                "last",
                {"type": "integer", "minimum": 0, "maximum": LARGEST_ID},
                description="Only jobs with a larger id.",
            ),
        ],
        responses=serializers.JobListSerializer,
        operation_id="list_background_migration_jobs",
    )
    def get(self, request: Request, id: str) -> Response:
        """List jobs by id, page by page: a Link header leads to the next page."""
        migration_id, query = _number(id), request.query_params
        state = query.get("status")
        if state is not None and state not in reports.JOB_STATES:
            raise InvalidParameterError("status", reason=f"must be one of: {', '.join(reports.JOB_STATES)}")
        limit = _whole(query.get("n"), "n", default=JOBS_ON_A_PAGE, largest=MOST_JOBS_ON_A_PAGE)
        after = _whole(query.get("last"), "last", default=0, smallest=0, largest=LARGEST_ID)
        found = reports.job_reports(
            self.registry(), migration_id, grace=settings.BBM_GRACE_SECONDS, state=state, after=after, limit=limit + 1
        )
        page, headers = found[:limit], {}
        if len(found) > limit:
            following = {**({"status": state} if state else {}), "n": limit, "last": page[-1].id}
            headers["Link"] = f'<{request.path}?{urlencode(following)}>; rel="next"'
        return Response(serializers.JobListSerializer({"jobs": page}).data, headers=headers)


def _number(digits: str) -> int:
    """Return an id. Raises InvalidIdError where the database could not hold it."""
    if len(digits) > LONGEST_ID or int(digits) > LARGEST_ID:
        raise InvalidIdError(largest=LARGEST_ID)
    return int(digits)


def _whole(text: str | None, name: str, *, default: int, largest: int, smallest: int = 1) -> int:
    """Return a number of the query string."""
    if text is None:
        return default
    if not WHOLE.fullmatch(text):
        raise ParameterTypeError(name, reason="must be a whole number")
    if len(text) > LONGEST_ID or not smallest <= int(text) <= largest:
        raise InvalidParameterError(name, reason=f"must be between {smallest} and {largest}")
    return int(text)


def _changes(request: Request) -> dict[str, Any]:
    """Return the controls of a body as the services take them."""
    if request.stream is None or not isinstance(request.data, dict):
        raise ParseError("The body must be a JSON object of controls.")
    return {name: _control(services.CONTROLS.get(name), value) for name, value in request.data.items()}


def _control(kind: type | None, value: Any) -> Any:
    """Return a time out of text, and a whole number out of 5.0, which JSON takes for the same as 5."""
    if kind is datetime.datetime and isinstance(value, str):
        return _moment(value)
    return int(value) if kind is int and isinstance(value, float) and value.is_integer() else value


def _moment(text: str) -> datetime.datetime:
    try:
        found = parse_datetime(text) if text.isprintable() else None
    except ValueError:
        found = None
    if found is None:
        raise InvalidControlError("hold_until", value=text, reason="it must read 2026-12-01T20:00:00Z")
    return found


def _move_all(connection: Connection, verb: Callable[..., Sequence[str]], word: str, *, actor: str) -> Response:
    with connection.transaction():
        locks.limit_statements(connection, seconds=STATEMENT_SECONDS)
        moved = verb(connection, None, actor=actor)
    return _done(f"{word} {len(moved)} background migration{'' if len(moved) == 1 else 's'}.")


def _move_one(connection: Connection, digits: str, verb: Callable[..., object], word: str, *, actor: str) -> Response:
    def move(connection: Connection, name: str) -> str:
        verb(connection, name, actor=actor)
        return name

    return _done(f"{word} {_change_one(connection, _number(digits), move)}.")


def _change_one(connection: Connection, migration_id: int, change: Callable[[Connection, str], Any]) -> Any:
    with connection.transaction():
        locks.limit_statements(connection, seconds=STATEMENT_SECONDS)
        return change(connection, services.name_of(connection, migration_id))


def _only(verb: Callable[..., Sequence[str]]) -> Callable[..., object]:
    """Return a verb for one migration out of one for many."""

    def move(connection: Connection, name: str, *, actor: str) -> None:
        verb(connection, [name], actor=actor)

    return move


def _done(message: str) -> Response:
    return Response({"success": True, "message": message})
