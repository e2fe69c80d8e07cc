"""Let a background migration say how its batches are cut and how many rows it expects."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        ALTER TABLE public.batched_background_migrations
            ADD COLUMN IF NOT EXISTS batching_strategy text,
            ADD COLUMN IF NOT EXISTS total_tuple_count bigint
        """,
    ],
    down=[
        """
        ALTER TABLE public.batched_background_migrations
            DROP COLUMN IF EXISTS total_tuple_count,
            DROP COLUMN IF EXISTS batching_strategy
        """,
    ],
)
