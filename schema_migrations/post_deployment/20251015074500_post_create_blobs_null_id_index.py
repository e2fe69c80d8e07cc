"""Index blobs by missing id, adopting the indexes of its partitions."""

from schema_migrations.migration import Migration

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
        """
        DO $$
        BEGIN
            FOR remainder IN 0..63 LOOP
                EXECUTE format(
                    'CREATE INDEX IF NOT EXISTS %I ON partitions.%I (id) WHERE id IS NULL',
                    'index_blobs_p_' || remainder || '_on_null_id',
                    'blobs_p_' || remainder
                );
            END LOOP;
        END
        $$
        """,
    ],
)
