"""Add the wider twin of manifests.media_type_id, the first step towards bigint media type ids."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        ALTER TABLE public.manifests
            ADD COLUMN IF NOT EXISTS media_type_id_convert_to_bigint bigint NOT NULL DEFAULT 0
        """,
    ],
    down=[
        "ALTER TABLE public.manifests DROP COLUMN IF EXISTS media_type_id_convert_to_bigint",
    ],
)
