"""Create blobs, split by digest; its id came later and is not part of the key."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        CREATE TABLE IF NOT EXISTS public.blobs (
            size bigint NOT NULL,
            created_at timestamp WITH time zone NOT NULL DEFAULT now(),
            media_type_id smallint NOT NULL,
            digest bytea NOT NULL,
            CONSTRAINT pk_blobs PRIMARY KEY (digest),
            CONSTRAINT fk_blobs_media_type_id_media_types
                FOREIGN KEY (media_type_id) REFERENCES public.media_types (id)
        )
        PARTITION BY HASH (digest)
        """,
        "CREATE INDEX IF NOT EXISTS index_blobs_on_media_type_id ON public.blobs (media_type_id)",
    ],
    down=[
        "DROP TABLE IF EXISTS public.blobs",
    ],
)
