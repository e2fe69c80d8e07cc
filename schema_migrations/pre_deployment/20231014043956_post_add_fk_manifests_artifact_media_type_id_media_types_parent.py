"""Tie artifact media types to media_types; on empty tables the parent's key makes those of all partitions."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        DO $$
        BEGIN
            IF NOT EXISTS (
                SELECT FROM pg_catalog.pg_constraint
                WHERE conname = 'fk_manifests_artifact_media_type_id_media_types'
                    AND conrelid = 'public.manifests'::regclass
            ) THEN
                ALTER TABLE public.manifests ADD CONSTRAINT fk_manifests_artifact_media_type_id_media_types
                    FOREIGN KEY (artifact_media_type_id) REFERENCES public.media_types (id);
            END IF;
        END
        $$
        """,
    ],
    down=[
        """
        ALTER TABLE public.manifests DROP CONSTRAINT IF EXISTS fk_manifests_artifact_media_type_id_media_types
        """,
    ],
)
