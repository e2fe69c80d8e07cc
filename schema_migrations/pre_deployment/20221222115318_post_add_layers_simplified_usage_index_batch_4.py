"""Index partitions 32 to 47 of layers by namespace, digest and size."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        DO $$
        BEGIN
            FOR remainder IN 32..47 LOOP
                EXECUTE format(
                    'CREATE INDEX IF NOT EXISTS %I ON partitions.%I (top_level_namespace_id, digest, size)',
                    'index_layers_p_' || remainder || '_on_top_level_namespace_id_and_digest_and_size',
                    'layers_p_' || remainder
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
                    'index_layers_p_' || remainder || '_on_top_level_namespace_id_and_digest_and_size'
                );
            END LOOP;
        END
        $$
        """,
    ],
)
