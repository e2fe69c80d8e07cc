"""Fills the wider twin of manifests.media_type_id in the rows that are older than the trigger that keeps it."""

from dataclasses import replace

from background_migrations.work_functions.columns import copy_column

COPY_MANIFEST_MEDIA_TYPE_ID_TO_NEW_BIGINT_COLUMN = replace(
    copy_column("media_type_id", target="media_type_id_convert_to_bigint"),
    known_to_gitlab=True,
)
