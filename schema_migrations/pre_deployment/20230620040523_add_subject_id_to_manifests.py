"""Let a manifest, such as a signature, name the manifest it is about."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        "ALTER TABLE public.manifests ADD COLUMN IF NOT EXISTS subject_id bigint",
    ],
    down=[
        "ALTER TABLE public.manifests DROP COLUMN IF EXISTS subject_id",
    ],
)
