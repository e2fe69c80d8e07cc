"""Azure Blob Storage."""

from typing import TYPE_CHECKING

from obstore.store import AzureStore

from metadata_import.storage.objects import RETRIES, ObjectDriver, client_options, place, prefix_of, retry_config

if TYPE_CHECKING:
    from obstore.store import AzureConfig

REALM = "core.windows.net"


class AzureDriver(ObjectDriver):
    """A container. Without key and secret it is the environment, a workload's or the machine's identity that counts."""

    name = "azure"

    def __init__(
        self,
        *,
        accountname: str,
        container: str,
        accountkey: str = "",
        realm: str = REALM,
        serviceurl: str = "",
        rootdirectory: str = "",
        tenant_id: str = "",
        client_id: str = "",
        secret: str = "",
        maxretries: int = RETRIES,
        anonymous: bool = False,
    ) -> None:
        endpoint = serviceurl.rstrip("/") or f"https://{accountname}.blob.{realm}"
        config: AzureConfig = {"account_name": accountname, "endpoint": endpoint, "skip_signature": anonymous}
        if accountkey:
            config["account_key"] = accountkey
        if secret:
            config |= {"tenant_id": tenant_id, "client_id": client_id, "client_secret": secret}
        store = AzureStore(
            container,
            prefix=prefix_of(rootdirectory),
            config=config,
            client_options=client_options(secure=not endpoint.startswith("http://")),
            retry_config=retry_config(maxretries),
        )
        super().__init__(store, root=place(endpoint, container, prefix_of(rootdirectory)))
