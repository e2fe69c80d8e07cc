"""Let a repository be marked deleted before its rows go."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        "ALTER TABLE public.repositories ADD COLUMN IF NOT EXISTS deleted_at timestamp WITH time zone",
    ],
    down=[
        "ALTER TABLE public.repositories DROP COLUMN IF EXISTS deleted_at",
    ],
)
