"""Index the few repositories that are marked deleted."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        CREATE INDEX IF NOT EXISTS index_repositories_on_id_where_deleted_at_not_null
        ON public.repositories (id) WHERE deleted_at IS NOT NULL
        """,
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_repositories_on_id_where_deleted_at_not_null",
    ],
)
