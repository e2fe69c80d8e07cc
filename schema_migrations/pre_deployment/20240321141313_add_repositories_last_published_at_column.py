"""Remember when something was last pushed to a repository."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        "ALTER TABLE public.repositories ADD COLUMN IF NOT EXISTS last_published_at timestamp WITH time zone",
    ],
    down=[
        "ALTER TABLE public.repositories DROP COLUMN IF EXISTS last_published_at",
    ],
)
