"""Keep why a background migration or a job failed, and how often the job was tried."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        ALTER TABLE public.batched_background_migrations ADD COLUMN IF NOT EXISTS failure_error_code smallint
        """,
        """
        ALTER TABLE public.batched_background_migration_jobs
            ADD COLUMN IF NOT EXISTS failure_error_code smallint,
            ADD COLUMN IF NOT EXISTS attempts smallint NOT NULL DEFAULT 0
        """,
    ],
    down=[
        """
        ALTER TABLE public.batched_background_migration_jobs
            DROP COLUMN IF EXISTS attempts,
            DROP COLUMN IF EXISTS failure_error_code
        """,
        "ALTER TABLE public.batched_background_migrations DROP COLUMN IF EXISTS failure_error_code",
    ],
)
