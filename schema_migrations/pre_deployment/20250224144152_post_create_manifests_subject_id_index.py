"""Index manifests by subject, adopting the indexes of its partitions."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        CREATE INDEX IF NOT EXISTS index_manifests_on_ns_id_and_repo_id_and_subject_id
        ON public.manifests (top_level_namespace_id, repository_id, subject_id)
        """,
    ],
    down=[
        "DROP INDEX IF EXISTS public.index_manifests_on_ns_id_and_repo_id_and_subject_id",
        # The indexes of the partitions went with their parent, but belong to earlier steps.
        """
        DO $$
        BEGIN
            FOR remainder IN 0..63 LOOP
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
)
