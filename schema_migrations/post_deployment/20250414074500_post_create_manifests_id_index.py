"""Index manifests by id, adopting the indexes of its partitions."""

from schema_migrations.migration import Migration

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
        """
        DO $$
        BEGIN
            FOR remainder IN 0..63 LOOP
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
)
