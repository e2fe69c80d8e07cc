"""Index repository paths for prefix searches within a namespace."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        CREATE INDEX IF NOT EXISTS index_repositories_on_top_level_namespace_id_and_path_and_id
        ON public.repositories (top_level_namespace_id, path text_pattern_ops, id)
        """,
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_repositories_on_top_level_namespace_id_and_path_and_id",
    ],
)
