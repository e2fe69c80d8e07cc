"""Mark manifests that were kept although they do not conform to their specification."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        "ALTER TABLE public.manifests ADD COLUMN IF NOT EXISTS non_conformant boolean DEFAULT FALSE",
    ],
    down=[
        "ALTER TABLE public.manifests DROP COLUMN IF EXISTS non_conformant",
    ],
)
