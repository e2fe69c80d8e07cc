"""Split layers into 64 partitions by the hash of the top-level namespace."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        for_partitions(
            """
            CREATE TABLE IF NOT EXISTS partitions.layers_p_{n} PARTITION OF public.layers
            FOR VALUES WITH (MODULUS 64, REMAINDER {n})
            """
        ),
    ],
    down=[
        for_partitions("DROP TABLE IF EXISTS partitions.layers_p_{n}"),
    ],
)
