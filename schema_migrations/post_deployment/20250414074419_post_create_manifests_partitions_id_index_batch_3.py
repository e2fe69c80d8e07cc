"""Index partitions 32 to 47 of manifests by id."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    requires=[
        "20210503163039_create_manifests_table_partitions",
    ],
    up=[
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_manifests_p_{n}_on_id
            ON partitions.manifests_p_{n} (id)
            """,
            first=32,
            last=47,
        ),
    ],
    down=[
        for_partitions("DROP INDEX IF EXISTS partitions.index_manifests_p_{n}_on_id", first=32, last=47),
    ],
)
