"""The work functions: what each job signature name stands for. The one list of them."""

from collections.abc import Mapping

from background_migrations.work import WorkFunction
from background_migrations.work_functions.copy_blob_media_type_id_to_new_bigint_column import (
    COPY_BLOB_MEDIA_TYPE_ID_TO_NEW_BIGINT_COLUMN,
)
from background_migrations.work_functions.copy_manifest_config_media_type_id_to_new_bigint_column import (
    COPY_MANIFEST_CONFIG_MEDIA_TYPE_ID_TO_NEW_BIGINT_COLUMN,
)
from background_migrations.work_functions.copy_manifest_media_type_id_to_new_bigint_column import (
    COPY_MANIFEST_MEDIA_TYPE_ID_TO_NEW_BIGINT_COLUMN,
)
from background_migrations.work_functions.populate_blobs_id_column import POPULATE_BLOBS_ID_COLUMN
from background_migrations.work_functions.reset_status_on_container_repositories import (
    RESET_STATUS_ON_CONTAINER_REPOSITORIES,
)

WORK_FUNCTIONS: Mapping[str, WorkFunction] = {
    "copyManifestMediaTypeIDToNewBigIntColumn": COPY_MANIFEST_MEDIA_TYPE_ID_TO_NEW_BIGINT_COLUMN,
    "populateBlobsIDColumn": POPULATE_BLOBS_ID_COLUMN,
    "copyManifestConfigMediaTypeIDToNewBigIntColumn": COPY_MANIFEST_CONFIG_MEDIA_TYPE_ID_TO_NEW_BIGINT_COLUMN,
    "copyBlobMediaTypeIDToNewBigIntColumn": COPY_BLOB_MEDIA_TYPE_ID_TO_NEW_BIGINT_COLUMN,
    "ResetStatusOnContainerRepositories": RESET_STATUS_ON_CONTAINER_REPOSITORIES,
}
