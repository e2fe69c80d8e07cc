"""Split layers into 64 partitions by the hash of the top-level namespace."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        DO $$
        BEGIN
            FOR remainder IN 0..63 LOOP
                EXECUTE format(
                    'CREATE TABLE IF NOT EXISTS partitions.%I PARTITION OF public.layers '
                    'FOR VALUES WITH (MODULUS 64, REMAINDER %s)',
                    'layers_p_' || remainder,
                    remainder
                );
            END LOOP;
        END
        $$
        """,
    ],
    down=[
        """
        DO $$
        DECLARE
            child regclass;
        BEGIN
            FOR child IN
                SELECT inhrelid FROM pg_catalog.pg_inherits
                WHERE inhparent = to_regclass('public.layers')
            LOOP
                EXECUTE format('DROP TABLE %s', child);
            END LOOP;
        END
        $$
        """,
    ],
)
