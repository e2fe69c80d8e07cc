"""Remember when a background migration started and finished."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        ALTER TABLE public.batched_background_migrations
            ADD COLUMN IF NOT EXISTS started_at timestamp WITH time zone,
            ADD COLUMN IF NOT EXISTS finished_at timestamp WITH time zone
        """,
    ],
    down=[
        """
        ALTER TABLE public.batched_background_migrations
            DROP COLUMN IF EXISTS finished_at,
            DROP COLUMN IF EXISTS started_at
        """,
    ],
)
