"""Index tags by manifest and name, adopting the indexes of its partitions."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        """
        CREATE INDEX IF NOT EXISTS index_tags_on_ns_id_and_repo_id_and_manifest_id_and_name
        ON public.tags (top_level_namespace_id, repository_id, manifest_id, name)
        """,
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_tags_on_ns_id_and_repo_id_and_manifest_id_and_name",
        # The indexes of the partitions went with their parent, but belong to earlier steps.
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_tags_p_{n}_on_ns_id_and_repo_id_and_manifest_id_and_name
            ON partitions.tags_p_{n} (top_level_namespace_id, repository_id, manifest_id, name)
            """
        ),
    ],
)
