"""Index partitions 0 to 1 of layers by namespace, digest and size.

In a transaction, not CONCURRENTLY, like all index steps of these tables: on a database of this project they
run before the tables hold rows, so nobody is blocked; on one that GitLab's registry made they never run.
"""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        DO $$
        BEGIN
            FOR remainder IN 0..1 LOOP
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
            FOR remainder IN 0..1 LOOP
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
