"""Split blobs into 64 partitions by the hash of the digest."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        for_partitions(
            """
            CREATE TABLE IF NOT EXISTS partitions.blobs_p_{n} PARTITION OF public.blobs
            FOR VALUES WITH (MODULUS 64, REMAINDER {n})
            """
        ),
    ],
    down=[
        # A partition that foreign keys refer to cannot be dropped while it is attached.
        for_partitions(
            """
            ALTER TABLE public.blobs DETACH PARTITION partitions.blobs_p_{n};
            DROP TABLE partitions.blobs_p_{n}
            """
        ),
    ],
)
