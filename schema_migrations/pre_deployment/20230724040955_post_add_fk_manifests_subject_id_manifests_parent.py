"""Delete a manifest with its subject; on empty tables the parent's key makes those of all partitions."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        DO $$
        BEGIN
            IF NOT EXISTS (
                SELECT FROM pg_catalog.pg_constraint
                WHERE conname = 'fk_manifests_subject_id_manifests'
                    AND conrelid = 'public.manifests'::regclass
            ) THEN
                ALTER TABLE public.manifests ADD CONSTRAINT fk_manifests_subject_id_manifests
                    FOREIGN KEY (top_level_namespace_id, repository_id, subject_id)
                    REFERENCES public.manifests (top_level_namespace_id, repository_id, id) ON DELETE CASCADE;
            END IF;
        END
        $$
        """,
    ],
    down=[
        "ALTER TABLE public.manifests DROP CONSTRAINT IF EXISTS fk_manifests_subject_id_manifests",
    ],
)
