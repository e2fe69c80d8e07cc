"""Index manifests by id, adopting the indexes of its partitions."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    requires=[
        "20210503163039_create_manifests_table_partitions",
    ],
    up=[
        "CREATE INDEX IF NOT EXISTS index_manifests_on_id ON public.manifests (id)",
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_manifests_on_id",
        # The indexes of the partitions went with their parent, but belong to earlier steps.
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_manifests_p_{n}_on_id
            ON partitions.manifests_p_{n} (id)
            """
        ),
    ],
)
