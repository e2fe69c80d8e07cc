"""Queue one background migration for each partition of blobs that numbers its older rows."""

from schema_migrations.migration import Migration

migration = Migration(
    queued_background_migrations=[f"backfill_blobs_p_{remainder}_id_column" for remainder in range(64)],
    up=[
        """
        INSERT INTO public.batched_background_migrations (
            name,
            min_value,
            max_value,
            batch_size,
            status,
            job_signature_name,
            table_name,
            column_name,
            batching_strategy
        )
        SELECT
            format('backfill_blobs_p_%s_id_column', remainder),
            0,
            0,
            100000,
            1,  -- active
            'populateBlobsIDColumn',
            format('partitions.blobs_p_%s', remainder),
            'id',
            'NullKeySetBatchingStrategy'
        FROM generate_series(0, 63) AS remainder
        ORDER BY remainder
        ON CONFLICT (name) DO NOTHING
        """,
    ],
    down=[
        """
        DELETE FROM public.batched_background_migrations
        WHERE name IN (
            SELECT format('backfill_blobs_p_%s_id_column', remainder) FROM generate_series(0, 63) AS remainder
        )
        """,
    ],
)
