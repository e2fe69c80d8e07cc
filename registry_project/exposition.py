"""`/metrics`: what all processes of this server counted, and what the database tells, in Prometheus' text format."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from psycopg import Connection, errors
from psycopg import Error as PsycopgError

from background_migrations import metrics as background_metrics
from background_migrations import wiring
from metadata_import import metrics as import_metrics
from registry_project.api.database import registry_connection
from schema_migrations import metrics as schema_metrics

log = structlog.get_logger(__name__)

FRESH_SECONDS = 10.0  # as long as GitLab's registry lets its gauge of progress be
STATEMENT_SECONDS = 5
LIMITED = f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'"
Source = Callable[[Connection], Iterator[Metric]]
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # where the processes of one server share what they count


def text() -> bytes:
    """Return everything."""
    registry = CollectorRegistry()
    if directory := os.environ.get(DIRECTORY):
        _forget_dead_processes(Path(directory))
        MultiProcessCollector(registry)
    else:
        registry.register(REGISTRY)
    registry.register(FROM_DATABASE)
    return generate_latest(registry)


class DatabaseCollector(Collector):
    """Asks the database at most every few seconds, whoever asks how often."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources, self._lock = sources, threading.Lock()
        self._found: list[Metric] = []
        self._until = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield what was found, and whether the database answered."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = self._read()
                self._until = time.monotonic() + FRESH_SECONDS
            yield from self._found

    def describe(self) -> list[Metric]:
        """Name nothing before it is asked for: that would need the database."""
        return []

    def _read(self) -> list[Metric]:
        found: list[Metric] = []
        try:
            connection = registry_connection()
            for source in self._sources:
                found += _read(source, connection)
        except (PsycopgError, DatabaseError) as error:
            log.warning("metrics lack what the database tells", error=" ".join(str(error).split()))
            return [_is_up(False)]
        return [*found, _is_up(True)]


def _read(source: Source, connection: Connection) -> list[Metric]:
    """Read what one app knows. Tables that are not there yet, or a query that takes too long, leave out that alone."""
    try:
        with connection.transaction():
            connection.execute(LIMITED)
            return list(source(connection))
    except (errors.ProgrammingError, errors.QueryCanceled) as error:
        log.warning("metrics are incomplete", error=" ".join(str(error).split()))
        return []


def _is_up(value: bool) -> Metric:
    return GaugeMetricFamily("registry_database_up", "1 when the registry's database answers.", value=float(value))


def _forget_dead_processes(directory: Path) -> None:
    """Drop the gauges of processes that ended without a word, such as requests in flight."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            mark_process_dead(int(pid))


FROM_DATABASE = DatabaseCollector(
    (
        lambda connection: schema_metrics.database_families(connection, own_database=settings.SCHEMA_OWNER == "self"),
        lambda connection: background_metrics.database_families(connection, defaults=wiring.defaults()),
        import_metrics.database_families,
    )
)
