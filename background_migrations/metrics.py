"""Background migrations as Prometheus sees them: what a worker counts, and what the database tells.

Names and labels are those of GitLab's registry where it has the metric; `migration_name` is the job signature there.
"""

from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from psycopg import Connection

from background_migrations.errors import MetricsAddressError
from background_migrations.meter import Job, Meter
from background_migrations.reports import Defaults, migration_reports
from background_migrations.status import Status

prometheus_client.disable_created_metrics()

OF_JOB = ("migration_name", "migration_id")
RUN_SECONDS = (0.5, 1, 2, 5, 10, 15, 30, 60, 300, 600, 900, 1_800, 3_600)
WORK_SECONDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
SLEEP_SECONDS = (0.5, 1, 5, 15, 30, 60, 300, 600, 1_800, 3_600, 7_200, 86_400)

SET_ASIDE = """
    SELECT background_migration_id, count(DISTINCT job_id) FROM registry_admin.background_migration_job_progress
    WHERE finished_at IS NULL AND set_aside GROUP BY background_migration_id
"""


class WorkerMetrics(Meter):
    """Counts what the threads of one worker process do."""

    def __init__(self, registry: CollectorRegistry, *, worker: str) -> None:
        self._worker = worker
        self._runs = Counter("registry_bbm_runs", "Turns of worker threads.", registry=registry)
        self._run_seconds = Histogram(
            "registry_bbm_run_duration_seconds", "Seconds of a turn.", buckets=RUN_SECONDS, registry=registry
        )
        self._sleep_seconds = Histogram(
            "registry_bbm_sleep_duration_seconds",
            "Seconds that threads waited for work.",
            ("worker",),
            buckets=SLEEP_SECONDS,
            registry=registry,
        )
        self._job_seconds = Histogram(
            "registry_bbm_job_duration_seconds", "Seconds of a job.", OF_JOB, buckets=RUN_SECONDS, registry=registry
        )
        self._query_seconds = Histogram(
            "registry_bbm_query_duration_seconds",
            "Seconds of a work function in one sub-batch.",
            OF_JOB,
            buckets=WORK_SECONDS,
            registry=registry,
        )
        self._sub_batch_seconds = Histogram(
            "registry_bbm_sub_batch_duration_seconds",
            "Seconds of a sub-batch, from its beginning to its commit.",
            OF_JOB,
            buckets=WORK_SECONDS,
            registry=registry,
        )
        self._batch_size = Gauge(
            "registry_bbm_job_batch_size", "Rows of the job that was claimed last.", OF_JOB, registry=registry
        )
        self._tuples = Counter(
            "registry_bbm_migrated_tuples", "Sum of the batch sizes of finished jobs.", OF_JOB, registry=registry
        )
        self._rows = Counter(
            "registry_bbm_rows", "Rows that work functions say they touched.", OF_JOB, registry=registry
        )
        self._claims = Counter("registry_bbm_claims", "Jobs claimed.", OF_JOB, registry=registry)
        self._outcomes = Counter(
            "registry_bbm_job_outcomes",
            "Claims by what became of them: finished, released, failed or lost.",
            (*OF_JOB, "outcome"),
            registry=registry,
        )
        self._failures = Counter(
            "registry_bbm_job_failures",
            "Failed attempts by what followed: job_failed (another one), job_split or job_set_aside.",
            (*OF_JOB, "kind"),
            registry=registry,
        )
        self._throttles = Counter(
            "registry_bbm_throttles", "Times that a signal kept a worker from working.", ("signal",), registry=registry
        )

    def turned(self, seconds: float) -> None:
        """Count a turn."""
        self._runs.inc()
        self._run_seconds.observe(seconds)

    def slept(self, seconds: float) -> None:
        """Add a wait."""
        self._sleep_seconds.labels(self._worker).observe(seconds)

    def throttled(self, signal: str) -> None:
        """Count the signal."""
        self._throttles.labels(signal).inc()

    def claimed(self, job: Job, *, size: int) -> None:
        """Count a claim."""
        self._claims.labels(*job).inc()
        self._batch_size.labels(*job).set(size)

    def worked(self, job: Job, *, rows: int, seconds: float, work_seconds: float) -> None:
        """Add a sub-batch."""
        self._query_seconds.labels(*job).observe(work_seconds)
        self._sub_batch_seconds.labels(*job).observe(seconds)
        self._rows.labels(*job).inc(max(rows, 0))

    def ended(self, job: Job, *, outcome: str, size: int, seconds: float) -> None:
        """Add a job."""
        self._job_seconds.labels(*job).observe(seconds)
        self._outcomes.labels(*job, outcome).inc()
        if outcome == "finished":
            self._tuples.labels(*job).inc(size)

    def failed(self, job: Job, *, kind: str) -> None:
        """Count a failed attempt."""
        self._failures.labels(*job, kind).inc()


@contextmanager
def served(address: str, port: int, *, worker: str) -> Iterator[WorkerMetrics]:
    """Serve what a worker counts, and what is known of its process, over HTTP while the block runs.

    Raises MetricsAddressError.
    """
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    try:
        server, thread = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise MetricsAddressError(address, port, reason=error.strerror or str(error)) from error
    try:
        yield WorkerMetrics(registry, worker=worker)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def database_families(connection: Connection, *, defaults: Defaults) -> Iterator[Metric]:
    """Yield how far migrations are, as the database says: the same from wherever it is asked."""
    reports = migration_reports(connection, defaults=defaults)
    set_aside: dict[int, int] = dict(connection.execute(SET_ASIDE).fetchall())
    progress = GaugeMetricFamily(
        "registry_database_bbm_progress_percent",
        "Share of the rows done; only where it can be estimated.",
        labels=("migration_id", "migration_name", "status"),
    )
    jobs = GaugeMetricFamily(
        "registry_bbm_jobs",
        "Jobs of unfinished migrations; set_aside ones are among the failed ones.",
        labels=(*OF_JOB, "state"),
    )
    throttled = GaugeMetricFamily(
        "registry_bbm_throttled", "1 while a signal keeps a migration from running.", labels=(*OF_JOB, "signal")
    )
    statuses = GaugeMetricFamily("registry_bbm_migrations", "Background migrations by status.", labels=("status",))
    tally = Tally(each.status for each in reports)
    for status in Status:
        statuses.add_metric([status.label], tally[status])
    for each in reports:
        if each.progress.percent is not None:
            progress.add_metric([str(each.id), each.name, each.status.label], each.progress.percent)
        if each.status is Status.FINISHED:
            continue
        labels = [each.job_signature_name, str(each.id)]
        states = {"finished": each.jobs_finished, "failed": each.jobs_failed, "running": each.jobs_running}
        for state, count in {**states, "set_aside": set_aside.get(each.id, 0)}.items():
            jobs.add_metric([*labels, state], count)
        if each.throttled_by:
            throttled.add_metric([*labels, each.throttled_by], 1)
    yield from (progress, jobs, throttled, statuses)
