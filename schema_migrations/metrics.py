"""Schema migrations as Prometheus sees them: how many there are and how many are pending, as the database says."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from psycopg import Connection

from schema_migrations import services
from schema_migrations.migration import Phase


def database_families(connection: Connection, *, own_database: bool) -> Iterator[Metric]:
    """Yield the counts by type."""
    known = services.known_migrations(own_database)
    found = services.overview(connection, known=known)
    pending = {
        Phase.PRE_DEPLOYMENT: found.pending_pre_deployment,
        Phase.POST_DEPLOYMENT: found.pending_post_deployment,
    }
    all_of = GaugeMetricFamily(
        "registry_database_migrations_total",
        "Schema migrations of this release, applied and pending.",
        labels=("migration_type",),
    )
    pending_of = GaugeMetricFamily(
        "registry_database_migrations_pending", "Schema migrations not applied.", labels=("migration_type",)
    )
    for phase, count in pending.items():
        kind = phase.name.lower()
        all_of.add_metric([kind], sum(each.phase is phase for each in known))
        pending_of.add_metric([kind], count)
    yield from (all_of, pending_of)
