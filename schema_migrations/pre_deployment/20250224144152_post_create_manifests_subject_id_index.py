"""Index manifests by subject, adopting the indexes of its partitions."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        """
        CREATE INDEX IF NOT EXISTS index_manifests_on_ns_id_and_repo_id_and_subject_id
        ON public.manifests (top_level_namespace_id, repository_id, subject_id)
        """,
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_manifests_on_ns_id_and_repo_id_and_subject_id",
        # The indexes of the partitions went with their parent, but belong to earlier steps.
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_manifests_p_{n}_on_ns_id_and_repo_id_and_subject_id
            ON partitions.manifests_p_{n} (top_level_namespace_id, repository_id, subject_id)
            """
        ),
    ],
)
