"""Index partitions 0 to 15 of tags by manifest and name."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_tags_p_{n}_on_ns_id_and_repo_id_and_manifest_id_and_name
            ON partitions.tags_p_{n} (top_level_namespace_id, repository_id, manifest_id, name)
            """,
            first=0,
            last=15,
        ),
    ],
    down=[
        for_partitions(
            "DROP INDEX IF EXISTS partitions.index_tags_p_{n}_on_ns_id_and_repo_id_and_manifest_id_and_name",
            first=0,
            last=15,
        ),
    ],
)
