"""Index partitions 32 to 47 of blobs by missing id."""

from schema_migrations.migration import Migration

migration = Migration(
    requires=[
        "20210503162912_create_blobs_table_partitions",
        "20251009082000_add_blobs_table_id_column",
    ],
    up=[
        """
        DO $$
        BEGIN
            FOR remainder IN 32..47 LOOP
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
    down=[
        """
        DO $$
        BEGIN
            FOR remainder IN 32..47 LOOP
                EXECUTE format(
                    'DROP INDEX IF EXISTS partitions.%I',
                    'index_blobs_p_' || remainder || '_on_null_id'
                );
            END LOOP;
        END
        $$
        """,
    ],
)
