"""Refuse blank media types."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        ALTER TABLE public.media_types
            DROP CONSTRAINT IF EXISTS check_media_types_media_type_not_empty_string,
            ADD CONSTRAINT check_media_types_media_type_not_empty_string CHECK (length(trim(media_type)) > 0)
        """,
    ],
    down=[
        """
        ALTER TABLE public.media_types DROP CONSTRAINT IF EXISTS check_media_types_media_type_not_empty_string
        """,
    ],
)
