"""Split manifests into 64 partitions by the hash of the top-level namespace."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        for_partitions(
            """
            CREATE TABLE IF NOT EXISTS partitions.manifests_p_{n} PARTITION OF public.manifests
            FOR VALUES WITH (MODULUS 64, REMAINDER {n})
            """
        ),
    ],
    down=[
        # A detached partition would get this key as its own, with a constraint and two triggers for each
        # partition of blobs: more objects to lock and drop than a server's lock table holds.
        "ALTER TABLE public.manifests DROP CONSTRAINT IF EXISTS fk_manifests_configuration_blob_digest_blobs",
        # A partition that foreign keys refer to cannot be dropped while it is attached.
        for_partitions(
            """
            ALTER TABLE public.manifests DETACH PARTITION partitions.manifests_p_{n};
            DROP TABLE partitions.manifests_p_{n}
            """
        ),
        """
        ALTER TABLE public.manifests ADD CONSTRAINT fk_manifests_configuration_blob_digest_blobs
            FOREIGN KEY (configuration_blob_digest) REFERENCES public.blobs (digest)
        """,
    ],
)
