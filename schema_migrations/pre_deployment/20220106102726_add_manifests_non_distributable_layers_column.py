"""Mark manifests with layers that must be fetched from elsewhere."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        ALTER TABLE public.manifests
            ADD COLUMN IF NOT EXISTS non_distributable_layers boolean DEFAULT FALSE
        """,
    ],
    down=[
        "ALTER TABLE public.manifests DROP COLUMN IF EXISTS non_distributable_layers",
    ],
)
