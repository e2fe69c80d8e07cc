"""Index partitions 16 to 31 of manifests by id."""

from schema_migrations.migration import Migration

migration = Migration(
    requires=[
        "20210503163039_create_manifests_table_partitions",
    ],
    up=[
        """
        DO $$
        BEGIN
            FOR remainder IN 16..31 LOOP
                EXECUTE format(
                    'CREATE INDEX IF NOT EXISTS %I ON partitions.%I (id)',
                    'index_manifests_p_' || remainder || '_on_id',
                    'manifests_p_' || remainder
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
            FOR remainder IN 16..31 LOOP
                EXECUTE format(
                    'DROP INDEX IF EXISTS partitions.%I',
                    'index_manifests_p_' || remainder || '_on_id'
                );
            END LOOP;
        END
        $$
        """,
    ],
)
