"""Index partitions 17 to 31 of layers by namespace, digest and size."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_layers_p_{n}_on_top_level_namespace_id_and_digest_and_size
            ON partitions.layers_p_{n} (top_level_namespace_id, digest, size)
            """,
            first=17,
            last=31,
        ),
    ],
    down=[
        for_partitions(
            "DROP INDEX IF EXISTS partitions.index_layers_p_{n}_on_top_level_namespace_id_and_digest_and_size",
            first=17,
            last=31,
        ),
    ],
)
