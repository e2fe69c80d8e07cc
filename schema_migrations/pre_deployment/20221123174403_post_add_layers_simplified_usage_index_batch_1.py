"""Index partitions 0 to 1 of layers by namespace, digest and size.

In a transaction, not CONCURRENTLY, like all index steps of these tables: on a database of this project they
run before the tables hold rows, so nobody is blocked; on one that GitLab's registry made they never run.
"""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_layers_p_{n}_on_top_level_namespace_id_and_digest_and_size
            ON partitions.layers_p_{n} (top_level_namespace_id, digest, size)
            """,
            first=0,
            last=1,
        ),
    ],
    down=[
        for_partitions(
            "DROP INDEX IF EXISTS partitions.index_layers_p_{n}_on_top_level_namespace_id_and_digest_and_size",
            first=0,
            last=1,
        ),
    ],
)
