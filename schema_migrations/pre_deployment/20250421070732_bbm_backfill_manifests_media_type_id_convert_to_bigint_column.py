"""Queue the background migration that fills the wider twin of manifests.media_type_id in older rows."""

from schema_migrations.migration import Migration

migration = Migration(
    queued_background_migrations=["copy_manifests_media_type_id_column_to_media_type_id_convert_to_bigint_column"],
    up=[
        """
        INSERT INTO public.batched_background_migrations
            (name, min_value, max_value, batch_size, status, job_signature_name, table_name, column_name)
        VALUES (
            'copy_manifests_media_type_id_column_to_media_type_id_convert_to_bigint_column',
            1,
            9223372036854775807,  -- the end of bigint: later rows are filled as they are written
            10000,
            1,  -- active
            'copyManifestMediaTypeIDToNewBigIntColumn',
            'public.manifests',
            'id'
        )
        ON CONFLICT (name) DO NOTHING
        """,
    ],
    down=[
        """
        DELETE FROM public.batched_background_migrations
        WHERE name = 'copy_manifests_media_type_id_column_to_media_type_id_convert_to_bigint_column'
        """,
    ],
)
