"""The last import as Prometheus sees it: how far it is and what it visited, as the journal says."""

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from psycopg import Connection

LAST = """
    SELECT id, mode, status, extract(epoch FROM started_at)::float8, extract(epoch FROM ended_at)::float8
    FROM registry_admin.import_runs ORDER BY id DESC LIMIT 1
"""
ITEMS = """
    SELECT kind, count(finished_at), count(*) FROM registry_admin.import_items WHERE run_id = %s GROUP BY kind
"""
VISITED = """
    SELECT coalesce(sum(tags), 0), coalesce(sum(manifests), 0), coalesce(sum(blobs), 0),
        coalesce(sum(blobs_size_bytes), 0)
    FROM registry_admin.import_items WHERE run_id = %s
"""
WHAT = ("tags", "manifests", "blobs", "blob_bytes")
SKIPS = "SELECT reason, count(*) FROM registry_admin.import_skips WHERE run_id = %s GROUP BY reason"


def database_families(connection: Connection) -> Iterator[Metric]:
    """Yield the facts of the last run, each with its id; nothing before the first."""
    row = connection.execute(LAST).fetchone()
    if row is None:
        return
    run, mode, status, started, ended = row
    info = GaugeMetricFamily(
        "registry_import_run", "1 for the last import, with its mode and status.", labels=("run", "mode", "status")
    )
    info.add_metric([str(run), mode, status], 1)
    times = GaugeMetricFamily(
        "registry_import_run_timestamp_seconds",
        "When the last import started, and when it ended if it has.",
        labels=("run", "event"),
    )
    for event, seconds in (("started", started), ("ended", ended)):
        if seconds is not None:
            times.add_metric([str(run), event], seconds)
    items = GaugeMetricFamily(
        "registry_import_items", "Repositories and prefixes of blobs.", labels=("run", "kind", "state")
    )
    for kind, done, total in connection.execute(ITEMS, (run,)):
        items.add_metric([str(run), kind, "done"], done)
        items.add_metric([str(run), kind, "pending"], total - done)
    visited = CounterMetricFamily(
        "registry_import_visited", "What was read from storage and written or found there.", labels=("run", "what")
    )
    for what, count in zip(WHAT, connection.execute(VISITED, (run,)).fetchone() or (), strict=True):
        visited.add_metric([str(run), what], float(count))
    skips = GaugeMetricFamily("registry_import_skips", "What was left out.", labels=("run", "reason"))
    for reason, count in connection.execute(SKIPS, (run,)):
        skips.add_metric([str(run), reason], count)
    yield from (info, times, items, visited, skips)
