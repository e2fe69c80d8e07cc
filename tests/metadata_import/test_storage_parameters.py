"""What a registry's `storage:` section means to whoever only reads: which driver, which root, which refusals."""

import pytest

from metadata_import.refusals import NoStorageError, RefusedError, StorageKeyError, UnknownStorageDriverError
from metadata_import.storage.parameters import open_storage

S3 = {"bucket": "layers", "region": "eu-west-1", "accesskey": "AKIA", "secretkey": "very-secret"}
AZURE = {"accountname": "account", "container": "layers", "accountkey": "dmVyeS1zZWNyZXQ="}


@pytest.mark.parametrize(
    ("section", "name", "root"),
    [
        ({"filesystem": {"rootdirectory": "/srv"}}, "filesystem", "/srv"),
        ({"s3": S3}, "s3", "s3://layers"),
        (
            {"s3_v2": {**S3, "rootdirectory": "/a/b/"}, "cache": {}, "delete": {"enabled": True}},
            "s3",
            "s3://layers/a/b",
        ),
        ({"s3": {**S3, "regionendpoint": "minio:9000", "secure": False}}, "s3", "http://minio:9000/layers"),
        ({"s3": {**S3, "regionendpoint": "https://minio", "pathstyle": "false"}}, "s3", "https://minio/layers"),
        ({"s3": {**S3, "encrypt": True, "keyid": "k", "chunksize": 5, "unheard-of": [1]}}, "s3", "s3://layers"),
        ({"gcs": {"bucket": "layers", "anonymous": True}}, "gcs", "gs://layers"),
        ({"azure": AZURE}, "azure", "https://account.blob.core.windows.net/layers"),
        (
            {"azure_v2": {**AZURE, "realm": "core.chinacloudapi.cn"}},
            "azure",
            "https://account.blob.core.chinacloudapi.cn/layers",
        ),
        ({"azure": {**AZURE, "legacyrootprefix": False}}, "azure", "https://account.blob.core.windows.net/layers"),
        (
            {"azure": {"accountname": "a", "container": "c", "credentials_type": "default_credentials"}},
            "azure",
            "https://a.blob.core.windows.net/c",
        ),
    ],
)
def test_a_section_opens_its_storage(section, name, root):
    driver = open_storage(section)
    assert (driver.name, driver.root) == (name, root)


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ({}, NoStorageError, "--config FILE"),
        ({"delete": {"enabled": True}}, NoStorageError, "--config FILE"),
        ({"swift": {}}, UnknownStorageDriverError, "swift"),
        ({"s3": S3, "gcs": {}}, StorageKeyError, "names more than one driver: gcs, s3"),
        ({"s3": {}}, StorageKeyError, r"storage\.s3\.bucket is missing"),
        ({"s3": {**S3, "secure": "very-secret"}}, StorageKeyError, r"storage\.s3\.secure must be true or false"),
        ({"s3": {**S3, "secretkey": ["very-secret"]}}, StorageKeyError, r"storage\.s3\.secretkey must be a text"),
        ({"s3": {**S3, "secretkey": ""}}, StorageKeyError, "given together or not at all"),
        ({"s3": {**S3, "v4auth": False}}, StorageKeyError, r"storage\.s3\.v4auth"),
        ({"s3": {**S3, "maxrequestspersecond": "-1"}}, StorageKeyError, "must be a number"),
        ({"gcs": {"bucket": "b", "credentials": "very-secret"}}, StorageKeyError, r"storage\.gcs\.credentials"),
        (
            {"gcs": {"bucket": "b", "keyfile": "k", "credentials": {}, "anonymous": 3}},
            StorageKeyError,
            "cannot both|true",
        ),
        ({"azure": {**AZURE, "legacyrootprefix": True}}, StorageKeyError, r"storage\.azure\.legacyrootprefix"),
        ({"azure": {**AZURE, "trimlegacyrootprefix": False}}, StorageKeyError, "trimlegacyrootprefix"),
        ({"azure": {**AZURE, "legacyrootprefix": True, "trimlegacyrootprefix": True}}, StorageKeyError, "contradict"),
        ({"azure": {"accountname": "a", "container": "c"}}, StorageKeyError, r"storage\.azure\.accountkey is missing"),
        ({"azure": {**AZURE, "credentials_type": "client_secret"}}, StorageKeyError, "tenant_id is missing"),
    ],
)
def test_what_cannot_be_honoured_is_named_and_no_secret_is(section, error, message):
    with pytest.raises(error, match=message) as raised:
        open_storage(section)
    assert isinstance(raised.value, RefusedError)
    assert "very-secret" not in str(raised.value)
