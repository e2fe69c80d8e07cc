"""Index layers by namespace, digest and size, adopting the indexes of its partitions."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        """
        CREATE INDEX IF NOT EXISTS index_layers_on_top_level_namespace_id_and_digest_and_size
        ON public.layers (top_level_namespace_id, digest, size)
        """,
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_layers_on_top_level_namespace_id_and_digest_and_size",
        # The indexes of the partitions went with their parent, but belong to earlier steps.
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_layers_p_{n}_on_top_level_namespace_id_and_digest_and_size
            ON partitions.layers_p_{n} (top_level_namespace_id, digest, size)
            """
        ),
    ],
)
