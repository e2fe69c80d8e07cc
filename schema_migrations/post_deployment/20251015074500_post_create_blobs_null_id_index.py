"""Index blobs by missing id, adopting the indexes of its partitions."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    requires=[
        "20210503162912_create_blobs_table_partitions",
        "20251009082000_add_blobs_table_id_column",
    ],
    up=[
        "CREATE INDEX IF NOT EXISTS index_blobs_on_null_id ON public.blobs (id) WHERE id IS NULL",
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_blobs_on_null_id",
        # The indexes of the partitions went with their parent, but belong to earlier steps.
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_blobs_p_{n}_on_null_id
            ON partitions.blobs_p_{n} (id) WHERE id IS NULL
            """
        ),
    ],
)
