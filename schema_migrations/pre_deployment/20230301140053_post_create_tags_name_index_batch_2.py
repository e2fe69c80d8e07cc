"""Index partitions 16 to 31 of tags by manifest and name."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        DO $$
        BEGIN
            FOR remainder IN 16..31 LOOP
                EXECUTE format(
                    'CREATE INDEX IF NOT EXISTS %I ON partitions.%I '
                    '(top_level_namespace_id, repository_id, manifest_id, name)',
                    'index_tags_p_' || remainder || '_on_ns_id_and_repo_id_and_manifest_id_and_name',
                    'tags_p_' || remainder
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
            FOR remainder IN 16..31 LOOP
                EXECUTE format(
                    'DROP INDEX IF EXISTS partitions.%I',
                    'index_tags_p_' || remainder || '_on_ns_id_and_repo_id_and_manifest_id_and_name'
                );
            END LOOP;
        END
        $$
        """,
    ],
)
