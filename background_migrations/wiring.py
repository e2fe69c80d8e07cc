"""Builds the engine's values from settings, for the edges: rules, connections, and what work functions are given."""

import getpass
import importlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from psycopg import Connection

from background_migrations import throttling
from background_migrations.meter import Meter
from background_migrations.records import Rules
from background_migrations.registry_client import RegistryClient
from background_migrations.reports import Defaults
from background_migrations.services import Shipped
from background_migrations.sessions import PURPOSE, REGISTRY, Connect
from background_migrations.status import Status
from background_migrations.work_functions import WORK_FUNCTIONS

MAXIMUM_APPLICATION_NAME = 63  # PostgreSQL cuts longer ones
# What Django wants of its own connections, which ours are not: they bind on the server and may keep plans there.
DJANGO_ONLY = ("cursor_factory", "context")


def user() -> str:
    """Return who runs this, for events; in a container the account may have no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def process_name() -> str:
    """Return a name for this process that no other one has, in this moment."""
    return f"{socket.gethostname()}:{os.getpid()}"


def connectors(purpose: str = PURPOSE) -> Mapping[str, Connect]:
    """Return what opens connections in autocommit mode, by alias; each call opens a new one."""
    aliases = {REGISTRY, *(function.database for function in WORK_FUNCTIONS.values())}
    return {alias: _connector(alias, purpose) for alias in aliases}


def _connector(alias: str, purpose: str) -> Connect:
    def connect() -> Connection:
        parameters: dict[str, Any] = connections[alias].get_connection_params()
        for name in DJANGO_ONLY:
            parameters.pop(name, None)
        parameters["application_name"] = purpose[:MAXIMUM_APPLICATION_NAME]
        return psycopg.connect(**parameters, autocommit=True)

    return connect


def kept_connection() -> Connection:
    """Return Django's own connection to the registry's database, for pages; opened anew where it was lost."""
    wrapper = connections[REGISTRY]
    wrapper.close_if_health_check_failed()
    wrapper.ensure_connection()
    connection: Connection = wrapper.connection
    return connection


def rules(
    actor: str,
    *,
    paced: bool = True,
    interval: float | None = None,
    max_attempts: int | None = None,
    meter: Meter | None = None,
) -> Rules:
    """Return how jobs are run here; `interval`, `max_attempts` and who counts come from a command line."""
    return Rules(
        actor=actor,
        interval=settings.BBM_JOB_INTERVAL_SECONDS if interval is None else interval,
        job_timeout=settings.BBM_JOB_TIMEOUT_SECONDS,
        max_attempts=max_attempts or settings.BBM_MAX_ATTEMPTS,
        grace=settings.BBM_GRACE_SECONDS,
        target=settings.BBM_TARGET_SECONDS,
        # GitLab's worker takes a failed job up again, and a migration without any for finished.
        unfinished=Status.FAILED if settings.SCHEMA_OWNER == "gitlab" else Status.ACTIVE,
        lookout=throttling.Lookout(_signals() if paced else ()),
        paced=paced,
        meter=meter or Meter(),
    )


def defaults() -> Defaults:
    """Return what reports need."""
    return Defaults(
        functions=WORK_FUNCTIONS, interval=settings.BBM_JOB_INTERVAL_SECONDS, grace=settings.BBM_GRACE_SECONDS
    )


def shipped(*, gitlab_worker_stopped: bool) -> Shipped:
    """Return what may be queued."""
    return Shipped(WORK_FUNCTIONS, gitlab_may_work=settings.SCHEMA_OWNER == "gitlab" and not gitlab_worker_stopped)


def options() -> Mapping[str, Any]:
    """Return what work functions are handed. Raises BackgroundMigrationError when it is configured wrongly."""
    client = None
    if settings.REGISTRY_API_URL:
        client = RegistryClient(
            settings.REGISTRY_API_URL,
            user_agent=f"GitLab/{settings.VERSION}",
            signing_key=settings.REGISTRY_API_SIGNING_KEY,
            issuer=settings.REGISTRY_API_TOKEN_ISSUER,
            timeout_seconds=settings.REGISTRY_API_TIMEOUT_SECONDS,
        )
    return {"registry": client, "registry_concurrency": settings.REGISTRY_API_CONCURRENCY}


def _signals() -> tuple[throttling.Signal, ...]:
    signals: list[throttling.Signal] = [
        throttling.WalArchive(settings.BBM_MAX_PENDING_WAL_SEGMENTS),
        throttling.ReplicaLag(settings.BBM_MAX_REPLICA_LAG_SECONDS),
        throttling.LockWaiters(settings.BBM_MAX_LOCK_WAITERS),
    ]
    if settings.BBM_THROTTLE_ON_VACUUM:
        signals.append(throttling.Vacuum())
    if settings.BBM_THROTTLE_HOOK:
        signals.append(throttling.Hook(_load(settings.BBM_THROTTLE_HOOK)))
    return tuple(signals)


def _load(path: str) -> Callable[[str], str | None]:
    """Return the function that `package.module:function` names."""
    module, _, name = path.partition(":")
    try:
        found: Callable[[str], str | None] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImproperlyConfigured(
            f"REGISTRY_BBM_THROTTLE_HOOK is {path!r}, which cannot be loaded: {error}"
        ) from error
    return found
