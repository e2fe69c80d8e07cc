"""Index partitions 0 to 15 of manifests by subject."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        DO $$
        BEGIN
            FOR remainder IN 0..15 LOOP
                EXECUTE format(
                    'CREATE INDEX IF NOT EXISTS %I ON partitions.%I '
                    '(top_level_namespace_id, repository_id, subject_id)',
                    'index_manifests_p_' || remainder || '_on_ns_id_and_repo_id_and_subject_id',
                    'manifests_p_' || remainder
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
            FOR remainder IN 0..15 LOOP
                EXECUTE format(
                    'DROP INDEX IF EXISTS partitions.%I',
                    'index_manifests_p_' || remainder || '_on_ns_id_and_repo_id_and_subject_id'
                );
            END LOOP;
        END
        $$
        """,
    ],
)
