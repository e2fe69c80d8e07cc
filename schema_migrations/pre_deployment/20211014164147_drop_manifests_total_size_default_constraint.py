"""Let every writer of manifests give the total size itself."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        "ALTER TABLE public.manifests ALTER COLUMN total_size DROP DEFAULT",
    ],
    down=[
        "ALTER TABLE public.manifests ALTER COLUMN total_size SET DEFAULT 0",
    ],
)
