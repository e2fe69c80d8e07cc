"""Index jobs by background migration: all of them, the last batch cut, the newest first."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        CREATE INDEX IF NOT EXISTS index_batched_background_migration_jobs_on_bbm_id
        ON public.batched_background_migration_jobs (batched_background_migration_id)
        """,
        """
        CREATE INDEX IF NOT EXISTS index_batched_background_migration_jobs_on_bbm_id_and_max_value
        ON public.batched_background_migration_jobs (batched_background_migration_id, max_value)
        """,
        """
        CREATE INDEX IF NOT EXISTS index_batched_background_migration_jobs_on_bbm_id_and_id_desc
        ON public.batched_background_migration_jobs (batched_background_migration_id, id DESC)
        """,
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_batched_background_migration_jobs_on_bbm_id_and_id_desc",
        "DROP INDEX IF EXISTS public.index_batched_background_migration_jobs_on_bbm_id_and_max_value",
        "DROP INDEX IF EXISTS public.index_batched_background_migration_jobs_on_bbm_id",
    ],
)
