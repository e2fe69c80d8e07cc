"""What log lines say of migrations and jobs, by the names that GitLab's registry gives to it."""

from typing import Any

from background_migrations.pieces import Claim
from background_migrations.records import MigrationRecord, Rules
from background_migrations.status import Status

WORKER, SYNC_WORKER = "registry.bbm.Worker", "registry.bbm.SyncWorker"


def component(rules: Rules) -> str:
    """Return the component that logs: the worker, or a run to completion."""
    return WORKER if rules.paced else SYNC_WORKER


def of_migration(migration: MigrationRecord) -> dict[str, Any]:
    """Return the fields of a migration."""
    return {
        "bbm_id": migration.id,
        "bbm_name": migration.name,
        "bbm_batch_size": migration.job_size,
        "bbm_status": migration.status.label,
        "bbm_job_signature_key": migration.job_signature_name,
        "bbm_target_table": migration.table_name,
        "bbm_target_column": migration.column_name,
        "bbm_batching_strategy": migration.batching_strategy,
        "bbm_total_tuple_count": migration.total_tuple_count,
    }


def tell_failed(log: Any, migration: MigrationRecord, *, rules: Rules, reason: str) -> None:
    """Log that a migration failed; to be called once that is committed."""
    facts = {**of_migration(migration), "bbm_status": Status.FAILED.label}
    log.error("background migration failed", component=component(rules), **facts, reason=reason)


def of_claim(claim: Claim) -> dict[str, Any]:
    """Return the fields of a claimed piece of a job, and of its migration."""
    migration, piece = claim.migration, claim.piece
    return {
        **of_migration(migration),
        "job_id": piece.job_id,
        "job_bbm_id": migration.id,
        "job_name": migration.job_signature_name,
        "job_attempts": piece.attempts,
        "job_start_id": piece.next_value,
        "job_end_id": piece.max_value,
        "job_batch_size": piece.size,
        "job_pagination_table": migration.table_name,
        "job_pagination_column": migration.column_name,
        "job_batching_strategy": migration.batching_strategy,
    }
