"""Index background migrations by status, to find the next one to work on."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        CREATE INDEX IF NOT EXISTS index_batched_background_migrations_on_status
        ON public.batched_background_migrations (status)
        """,
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_batched_background_migrations_on_status",
    ],
)
