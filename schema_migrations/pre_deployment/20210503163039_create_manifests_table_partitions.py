"""Split manifests into 64 partitions by the hash of the top-level namespace."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        DO $$
        BEGIN
            FOR remainder IN 0..63 LOOP
                EXECUTE format(
                    'CREATE TABLE IF NOT EXISTS partitions.%I PARTITION OF public.manifests '
                    'FOR VALUES WITH (MODULUS 64, REMAINDER %s)',
                    'manifests_p_' || remainder,
                    remainder
                );
            END LOOP;
        END
        $$
        """,
    ],
    down=[
        # A detached partition would get this key as its own, with a constraint and two triggers for each
        # partition of blobs: more objects to lock and drop than a server's lock table holds.
        "ALTER TABLE public.manifests DROP CONSTRAINT IF EXISTS fk_manifests_configuration_blob_digest_blobs",
        """
        DO $$
        DECLARE
            child regclass;
        BEGIN
            FOR child IN
                SELECT inhrelid FROM pg_catalog.pg_inherits
                WHERE inhparent = to_regclass('public.manifests')
            LOOP
                -- A partition that foreign keys refer to cannot be dropped while it is attached.
                EXECUTE format('ALTER TABLE public.manifests DETACH PARTITION %s', child);
                EXECUTE format('DROP TABLE %s', child);
            END LOOP;
        END
        $$
        """,
        """
        ALTER TABLE public.manifests ADD CONSTRAINT fk_manifests_configuration_blob_digest_blobs
            FOREIGN KEY (configuration_blob_digest) REFERENCES public.blobs (digest)
        """,
    ],
)
