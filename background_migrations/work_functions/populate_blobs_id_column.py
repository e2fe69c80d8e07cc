"""Numbers the blobs that are older than their id column, partition by partition."""

from dataclasses import replace

from background_migrations.work_functions.columns import backfill_column

# Not the word DEFAULT: a partition attached by hand may have none, and its rows would stay NULL for ever.
POPULATE_BLOBS_ID_COLUMN = replace(
    backfill_column("id", value_sql="nextval('public.blobs_id_seq')", batch_size=100_000, sub_batch_size=20_000),
    known_to_gitlab=True,
)
