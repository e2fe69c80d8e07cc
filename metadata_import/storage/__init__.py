"""The storage drivers and how to open one by its name."""

from typing import Any, cast

from django.utils.module_loading import import_string

from metadata_import.refusals import UnknownStorageDriverError
from metadata_import.storage.base import StorageDriver

STORAGE_DRIVERS = {
    "azure": "metadata_import.storage.azure.AzureDriver",
    "filesystem": "metadata_import.storage.filesystem.FilesystemDriver",
    "gcs": "metadata_import.storage.gcs.GCSDriver",
    "s3": "metadata_import.storage.s3.S3Driver",
}


def open_driver(name: str, **parameters: Any) -> StorageDriver:
    """Return the driver of this name, built with its own parameters; its SDK is imported only now."""
    if name not in STORAGE_DRIVERS:
        raise UnknownStorageDriverError(name, known=sorted(STORAGE_DRIVERS))
    return cast("StorageDriver", import_string(STORAGE_DRIVERS[name])(**parameters))
