"""Let a manifest say what kind of artifact it describes; bigint, ahead of the narrower media type ids."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        "ALTER TABLE public.manifests ADD COLUMN IF NOT EXISTS artifact_media_type_id bigint",
    ],
    down=[
        "ALTER TABLE public.manifests DROP COLUMN IF EXISTS artifact_media_type_id",
    ],
)
