"""Index partitions 48 to 63 of manifests by subject."""

from schema_migrations.migration import Migration, for_partitions

migration = Migration(
    up=[
        for_partitions(
            """
            CREATE INDEX IF NOT EXISTS index_manifests_p_{n}_on_ns_id_and_repo_id_and_subject_id
            ON partitions.manifests_p_{n} (top_level_namespace_id, repository_id, subject_id)
            """,
            first=48,
            last=63,
        ),
    ],
    down=[
        for_partitions(
            "DROP INDEX IF EXISTS partitions.index_manifests_p_{n}_on_ns_id_and_repo_id_and_subject_id",
            first=48,
            last=63,
        ),
    ],
)
