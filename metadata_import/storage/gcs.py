"""Google Cloud Storage."""

from typing import TYPE_CHECKING, Any

from obstore.store import GCSStore

from metadata_import.storage.objects import ObjectDriver, as_json, client_options, place, prefix_of, retry_config

if TYPE_CHECKING:
    from obstore.store import GCSConfig

BASE_URL = "gcs_base_url"  # a service account's key may name another server


class GCSDriver(ObjectDriver):
    """A bucket. Without a key it is the application's default credentials that count."""

    name = "gcs"

    def __init__(
        self,
        *,
        bucket: str,
        keyfile: str = "",
        credentials: dict[str, Any] | None = None,
        rootdirectory: str = "",
        anonymous: bool = False,
    ) -> None:
        config: GCSConfig = {"skip_signature": anonymous}
        if credentials:
            config["service_account_key"] = as_json(credentials)
        elif keyfile:
            config["service_account"] = keyfile
        endpoint = str((credentials or {}).get(BASE_URL, ""))
        store = GCSStore(
            bucket,
            prefix=prefix_of(rootdirectory),
            config=config,
            client_options=client_options(secure=not endpoint.startswith("http://")),
            retry_config=retry_config(),
        )
        super().__init__(store, root=place(endpoint or "gs:/", bucket, prefix_of(rootdirectory)))
