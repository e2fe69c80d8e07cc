"""Add the size of a manifest with all it refers to; zero stands in for older rows."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        "ALTER TABLE public.manifests ADD COLUMN IF NOT EXISTS total_size bigint NOT NULL DEFAULT 0",
    ],
    down=[
        "ALTER TABLE public.manifests DROP COLUMN IF EXISTS total_size",
    ],
)
