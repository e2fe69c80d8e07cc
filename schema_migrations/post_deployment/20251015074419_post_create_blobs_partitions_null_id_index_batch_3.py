"""Index partitions 32 to 47 of blobs by missing id."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    requires=[
        "20210503162912_create_blobs_table_partitions",
        "20251009082000_add_blobs_table_id_column",
    ],
    up=[
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_blobs_p_{n}_on_null_id
            ON partitions.blobs_p_{n} (id) WHERE id IS NULL
            """,
            first=32,
            last=47,
        ),
    ],
    down=[
        for_partitions("DROP INDEX IF EXISTS partitions.index_blobs_p_{n}_on_null_id", first=32, last=47),
    ],
)
