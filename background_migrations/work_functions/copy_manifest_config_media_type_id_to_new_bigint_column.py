"""Fills the wider twin of a manifest's configuration_media_type_id, a column of later releases of the registry."""

from dataclasses import replace

from background_migrations.work_functions.columns import copy_column

COPY_MANIFEST_CONFIG_MEDIA_TYPE_ID_TO_NEW_BIGINT_COLUMN = replace(
    copy_column(
        "configuration_media_type_id",
        target="configuration_media_type_id_convert_to_bigint",
        predicate="configuration_media_type_id IS NOT NULL",  # an index of images has no configuration
        batch_size=100_000,
        sub_batch_size=20_000,
    ),
    known_to_gitlab=True,
)
