"""What operators do with background migrations: pause, resume, restart, retry, queue, set controls. Prints nothing.

Each verb is one transaction: it does all of what was asked, or raises and has done nothing.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import dict_row

from background_migrations import catalog, events, outcomes
from background_migrations.batching import Target
from background_migrations.errors import (
    AlreadyQueuedError,
    ConflictingControlsError,
    ControlTypeError,
    GitLabWorkerError,
    InsufficientPrivilegeError,
    InvalidControlError,
    InvalidTransitionError,
    NothingToQueueError,
    NothingToRetryError,
    NotQueueableError,
    TablesMissingError,
    UnknownMigrationError,
    UnknownWorkFunctionError,
    UnsupportedServerError,
)
from background_migrations.events import EventKind
from background_migrations.records import GRACE_SECONDS
from background_migrations.status import Status, origins
from background_migrations.transitions import Moved, ring, transition
from background_migrations.work import WorkFunction

MINIMUM_VERSION = 15
LARGEST_INTEGER = 2**31 - 1
LARGEST = {"max_parallel_jobs": 1_000}
SHORTEST_SECONDS = 0.001
# A day before and after, another zone would lie beyond what can be told.
FIRST_MOMENT = datetime.datetime(datetime.MINYEAR, 1, 2, tzinfo=datetime.UTC)
LAST_MOMENT = datetime.datetime(datetime.MAXYEAR, 12, 30, tzinfo=datetime.UTC)
LONGEST_SECONDS = 2_000_000  # the server counts time-outs in milliseconds, in an int4

# Settable controls, in the order in which they are shown, with what they may be.
CONTROLS: Mapping[str, type] = {
    "batch_size": int,
    "sub_batch_size": int,
    "interval_seconds": float,
    "max_parallel_jobs": int,
    "hold_until": datetime.datetime,
    "job_timeout_seconds": float,
    "adaptive": bool,
    "target_seconds": float,
    "min_batch_size": int,
    "max_batch_size": int,
    "shares_table": bool,
}
MAY_BE_ZERO = frozenset({"sub_batch_size", "interval_seconds", "job_timeout_seconds"})

TABLES = """
    SELECT to_regclass('public.batched_background_migrations') IS NOT NULL,
        EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = to_regclass('registry_admin.background_migration_events') AND attname = 'correlation_id'
        )
"""
NAME = "SELECT name FROM public.batched_background_migrations WHERE id = %s"
FIND = "SELECT id, name, status FROM public.batched_background_migrations WHERE name = ANY(%s) ORDER BY id"
LOCKED = " FOR UPDATE"
# What whoever works needs, whatever the work functions do.
MISSING_PRIVILEGES = """
    SELECT current_user::text, array_agg(privilege || ' on ' || name ORDER BY name, privilege)
    FROM unnest(%(tables)s::text[]) AS name, unnest(ARRAY['INSERT', 'UPDATE']) AS privilege
    WHERE NOT has_table_privilege(name, privilege)
"""
WRITTEN_BY_WORKERS = [
    "public.batched_background_migration_jobs",
    "public.batched_background_migrations",
    "registry_admin.background_migration_controls",
    "registry_admin.background_migration_events",
    "registry_admin.background_migration_job_progress",
]
HAS_FAILED_JOB = """
    SELECT EXISTS (
        SELECT FROM public.batched_background_migration_jobs
        WHERE batched_background_migration_id = %s AND status <> 2 AND failure_error_code IS NOT NULL
    )
"""
BOUNDS = sql.SQL("SELECT max({column}) FROM {table}")
QUEUE = """
    INSERT INTO public.batched_background_migrations
        (name, min_value, max_value, batch_size, status, job_signature_name, table_name, column_name)
    VALUES (%(name)s, 1, %(max_value)s, %(batch_size)s, 1, %(name)s, %(table)s, %(column)s)
    ON CONFLICT (name) DO NOTHING RETURNING id
"""
CONTROLS_OF = sql.SQL(
    "SELECT {names} FROM registry_admin.background_migration_controls WHERE background_migration_id = %s"
).format(names=sql.SQL(", ").join(map(sql.Identifier, CONTROLS)))
SET_CONTROLS = """
    INSERT INTO registry_admin.background_migration_controls (background_migration_id, {names})
    VALUES (%(id)s, {values})
    ON CONFLICT (background_migration_id) DO UPDATE SET ({names}) = ROW ({values})
"""


@dataclass(frozen=True)
class Shipped:
    """What may be queued where: the functions of this release, and whether GitLab's own worker may be running."""

    functions: Mapping[str, WorkFunction]
    gitlab_may_work: bool


def check_database(connection: Connection) -> None:
    """Raise when the server is too old or the tables are not there yet."""
    major, minor = divmod(connection.info.server_version, 10_000)
    if major < MINIMUM_VERSION:
        raise UnsupportedServerError(f"{major}.{minor}", minimum=MINIMUM_VERSION)
    ((shared, own),) = connection.execute(TABLES)
    if not shared:
        raise TablesMissingError("batched_background_migrations", command="database migrate up")
    if not own:
        raise TablesMissingError("registry_admin.background_migration_events", command="migrate")


def check_may_work(connection: Connection) -> None:
    """Raise InsufficientPrivilegeError when the role could not even record what a worker does."""
    ((role, missing),) = connection.execute(MISSING_PRIVILEGES, {"tables": WRITTEN_BY_WORKERS})
    if missing:
        raise InsufficientPrivilegeError(role, missing=missing)


def name_of(connection: Connection, migration_id: int) -> str:
    """Return the name of a migration, by which the verbs take it. Raises UnknownMigrationError."""
    row = connection.execute(NAME, (migration_id,)).fetchone()
    if row is None:
        raise UnknownMigrationError(migration_id)
    return str(row[0])


def pause(connection: Connection, names: Sequence[str] | None, *, actor: str) -> list[str]:
    """Pause these migrations, or all that are active or running; return the names that moved.

    Raises when a named one does not exist or is in another status; then none is paused.
    """
    return _move(connection, names, to=Status.PAUSED, actor=actor, reason="paused by hand")


def resume(connection: Connection, names: Sequence[str] | None, *, actor: str) -> list[str]:
    """Make these paused migrations active, or all paused ones; return the names that moved."""
    return _move(connection, names, to=Status.ACTIVE, actor=actor, reason="resumed", only_from=(Status.PAUSED,))


def restart(connection: Connection, name: str, *, actor: str, grace: float = GRACE_SECONDS) -> None:
    """Make a failed migration active again; its failed jobs get new attempts."""
    with connection.transaction():
        ((migration_id, _, _),) = _find(connection, [name])
        _move(connection, [name], to=Status.ACTIVE, actor=actor, reason="restarted", only_from=(Status.FAILED,))
        outcomes.reset_attempts(connection, migration_id, grace=grace)


def retry(connection: Connection, name: str, *, actor: str, grace: float = GRACE_SECONDS) -> int:
    """Give the failed jobs of a migration new attempts, at once; return how many. Its status stays as it is."""
    with connection.transaction():
        ((migration_id, _, _),) = _find(connection, [name])
        ((has_failed,),) = connection.execute(HAS_FAILED_JOB, (migration_id,))
        if not has_failed:
            raise NothingToRetryError(name)
        jobs = outcomes.reset_attempts(connection, migration_id, grace=grace)
        reason = f"{jobs} failed jobs got new attempts"
        events.add(connection, EventKind.RETRY, migration=(migration_id, name), actor=actor, reason=reason)
        ring(connection, name)
    return jobs


def controls(connection: Connection, name: str) -> dict[str, Any]:
    """Return a migration's controls by name; None is the default."""
    ((migration_id, _, _),) = _find(connection, [name], lock=False)
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(CONTROLS_OF, (migration_id,)).fetchone()
    return row or dict.fromkeys(CONTROLS)


def set_controls(connection: Connection, name: str, changes: Mapping[str, Any], *, actor: str) -> dict[str, Any]:
    """Change some controls, which the next job obeys; return all of them. None sets one back to its default.

    Raises InvalidControlError or ConflictingControlsError, and changes nothing, when a value makes no sense, alone or
    beside the others.
    """
    with connection.transaction():
        ((migration_id, _, _),) = _find(connection, [name])
        before = controls(connection, name)
        after = {**before, **changes}
        _check_controls(changes, after=after)
        changed = {control: value for control, value in changes.items() if before[control] != value}
        if changed:
            query = sql.SQL(SET_CONTROLS).format(
                names=sql.SQL(", ").join(map(sql.Identifier, changed)),
                values=sql.SQL(", ").join(map(sql.Placeholder, changed)),
            )
            connection.execute(query, {"id": migration_id, **changed})
            reason = ", ".join(f"{control}: {before[control]} → {value}" for control, value in changed.items())
            events.add(connection, EventKind.CONTROLS, migration=(migration_id, name), actor=actor, reason=reason)
            ring(connection, name)
    return after


def queue(connection: Connection, name: str, *, target: Connection, actor: str, shipped: Shipped) -> int:
    """Insert the active background migration of a work function that knows its table; return its id.

    `target` is a connection to the function's database. It reaches up to the largest value that is there now.
    """
    function = shipped.functions.get(name)
    if function is None:
        raise UnknownWorkFunctionError(name, known=tuple(shipped.functions))
    if shipped.gitlab_may_work and not function.known_to_gitlab:
        raise GitLabWorkerError(name)
    values = _queue_values(target, name, function)
    with connection.transaction():
        row = connection.execute(QUEUE, values).fetchone()
        if row is None:
            ((_, _, status),) = _find(connection, [name])
            raise AlreadyQueuedError(name, status=status.label)
        reason = f"up to {values['max_value']}"
        events.add(connection, EventKind.QUEUED, migration=(row[0], name), actor=actor, reason=reason)
        ring(connection, name)
    return int(row[0])


def _queue_values(target: Connection, name: str, function: WorkFunction) -> dict[str, Any]:
    if function.queued_on is None:
        raise NotQueueableError(name)
    table, column = function.queued_on
    schema, _, relation = table.partition(".")
    where = Target((schema, relation), column, function.predicate)
    catalog.check_target(target, where, columns=function.columns)
    ((max_value,),) = target.execute(BOUNDS.format(**where.names))
    if max_value is None:
        raise NothingToQueueError(name, table=table)
    return {
        "name": name,
        "max_value": max_value,
        "batch_size": function.batch_size,
        "table": table,
        "column": column,
    }


def _find(connection: Connection, names: Sequence[str], *, lock: bool = True) -> list[tuple[int, str, Status]]:
    """Return these migrations, locked unless they are only looked at. Raises UnknownMigrationError."""
    rows = connection.execute(FIND + LOCKED if lock else FIND, (list(names),)).fetchall()
    found = [(row[0], row[1], Status(row[2])) for row in rows]
    missing = set(names) - {name for _, name, _ in found}
    if missing:
        raise UnknownMigrationError(min(missing))
    return found


def _move(
    connection: Connection,
    names: Sequence[str] | None,
    *,
    to: Status,
    actor: str,
    reason: str,
    only_from: Sequence[Status] | None = None,
) -> list[str]:
    with connection.transaction():
        ids = None
        if names is not None:
            found = _find(connection, names)
            for _, name, status in found:
                if status not in (only_from or origins(to)):
                    raise InvalidTransitionError(name, status=status.label, to=to.label)
            ids = [migration_id for migration_id, _, _ in found]
        moved: list[Moved] = transition(connection, ids, to=to, actor=actor, reason=reason, only_from=only_from)
    return [each.name for each in moved]


def bounds_of(control: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a control that is a number."""
    is_whole = CONTROLS[control] is int
    smallest = 0 if control in MAY_BE_ZERO else 1 if is_whole else SHORTEST_SECONDS
    return smallest, LARGEST.get(control, LARGEST_INTEGER if is_whole else LONGEST_SECONDS)


def _check_controls(changes: Mapping[str, Any], *, after: Mapping[str, Any]) -> None:
    for control, value in changes.items():
        if control not in CONTROLS:
            raise InvalidControlError(control, value=value, reason=f"there are {', '.join(CONTROLS)}")
        if value is not None:
            _check_control(control, value)
    smallest, largest = after["min_batch_size"], after["max_batch_size"]
    if smallest is not None and largest is not None and smallest > largest:
        raise ConflictingControlsError(smallest=smallest, largest=largest)


def _check_control(control: str, value: Any) -> None:
    kind = CONTROLS[control]
    number = (int, float) if kind is float else kind
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, number):
        raise ControlTypeError(control, value=value, reason=f"it must be of type {kind.__name__}")
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise InvalidControlError(control, value=value, reason="it needs a time zone")
        if not FIRST_MOMENT <= value <= LAST_MOMENT:
            raise InvalidControlError(control, value=value, reason="it is out of range")
    elif isinstance(value, int | float) and kind is not bool:
        smallest, largest = bounds_of(control)
        if not smallest <= value <= largest:
            raise InvalidControlError(control, value=value, reason=f"it must be between {smallest} and {largest}")
