"""What an operator may do with a background migration: when, what will happen, and which service does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.conf import settings
from psycopg import Connection

from background_migrations import locks, services
from background_migrations.reports import MigrationReport
from background_migrations.status import Status, origins

STATEMENT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One of the four; `refusal` says why a migration does not allow it, or nothing."""

    name: str
    label: str
    done: str
    icon: str
    effect: str
    refusal: Callable[[MigrationReport], str]
    service: Callable[[Connection, str, str], object]

    def run(self, connection: Connection, migration_id: int, *, actor: str) -> str:
        """Do it to one migration, all or nothing; return its name. Raises BackgroundMigrationError."""
        with connection.transaction():
            locks.limit_statements(connection, seconds=STATEMENT_SECONDS)
            name = services.name_of(connection, migration_id)
            self.service(connection, name, actor)
        return name


def _only(*allowed: Status, moved: str) -> Callable[[MigrationReport], str]:
    words = " or ".join(status.label for status in allowed)

    def refusal(report: MigrationReport) -> str:
        if report.status in allowed:
            return ""
        return f"Only what is {words} can be {moved}; this one is {report.status.label}."

    return refusal


def _not_retried(report: MigrationReport) -> str:
    if report.status is Status.FAILED:
        return "Restart it instead: that gives its failed jobs new attempts, too."
    return "" if report.jobs_failed else "There is no failed job to retry."


def _pause(connection: Connection, name: str, actor: str) -> object:
    return services.pause(connection, [name], actor=actor)


def _resume(connection: Connection, name: str, actor: str) -> object:
    return services.resume(connection, [name], actor=actor)


def _retry(connection: Connection, name: str, actor: str) -> object:
    return services.retry(connection, name, actor=actor, grace=settings.BBM_GRACE_SECONDS)


def _restart(connection: Connection, name: str, actor: str) -> None:
    services.restart(connection, name, actor=actor, grace=settings.BBM_GRACE_SECONDS)


PAUSE = Verb(
    name="pause",
    label="Pause",
    done="Paused",
    icon="pause",
    effect="Workers stop within one sub-batch. What is done stays done; nothing is lost.",
    refusal=_only(*origins(Status.PAUSED), moved="paused"),
    service=_pause,
)
RESUME = Verb(
    name="resume",
    label="Resume",
    done="Resumed",
    icon="play_arrow",
    effect="It becomes active: a worker that is free takes it up at once, where it stopped.",
    refusal=_only(Status.PAUSED, moved="resumed"),
    service=_resume,
)
RETRY = Verb(
    name="retry",
    label="Retry failed jobs",
    done="New attempts for",
    icon="replay",
    effect="Its failed jobs get new attempts at once. Its status stays as it is.",
    refusal=_not_retried,
    service=_retry,
)
RESTART = Verb(
    name="restart",
    label="Restart",
    done="Restarted",
    icon="restart_alt",
    effect="It becomes active again, and its failed jobs get new attempts. Look at their errors first: the same cause "
    "makes them fail again.",
    refusal=_only(Status.FAILED, moved="restarted"),
    service=_restart,
)
VERBS: Mapping[str, Verb] = {verb.name: verb for verb in (PAUSE, RESUME, RETRY, RESTART)}
