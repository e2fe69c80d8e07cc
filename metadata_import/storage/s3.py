"""Amazon S3, and whatever speaks its language."""

from typing import TYPE_CHECKING

from obstore.store import S3Store

from metadata_import.storage.objects import RETRIES, ObjectDriver, client_options, place, prefix_of, retry_config

if TYPE_CHECKING:
    from obstore.store import S3Config

DEFAULT_REGION = "us-east-1"


class S3Driver(ObjectDriver):
    """A bucket. Without keys they come from where Amazon's own tools look: environment, web identity, instance."""

    name = "s3"

    def __init__(
        self,
        *,
        bucket: str,
        region: str = "",
        regionendpoint: str = "",
        accesskey: str = "",
        secretkey: str = "",
        sessiontoken: str = "",
        pathstyle: bool | None = None,
        secure: bool = True,
        skipverify: bool = False,
        rootdirectory: str = "",
        maxrequestspersecond: float = 0.0,
        maxretries: int = RETRIES,
        anonymous: bool = False,
    ) -> None:
        in_path = bool(regionendpoint) if pathstyle is None else pathstyle
        endpoint = _endpoint(regionendpoint, secure=secure)
        config: S3Config = {
            "region": region or DEFAULT_REGION,
            "virtual_hosted_style_request": not in_path,
            "disable_bulk_delete": True,  # some that speak the language lack that word
            "skip_signature": anonymous,
        }
        if endpoint:
            config["endpoint"] = endpoint if in_path else endpoint.replace("://", f"://{bucket}.", 1)
        if accesskey:
            config |= {"access_key_id": accesskey, "secret_access_key": secretkey}
        if sessiontoken:
            config["session_token"] = sessiontoken
        store = S3Store(
            bucket,
            prefix=prefix_of(rootdirectory),
            config=config,
            client_options=client_options(
                secure=not endpoint.startswith("http://") and secure, verified=not skipverify
            ),
            retry_config=retry_config(maxretries),
        )
        root = place(endpoint or "s3:/", bucket, prefix_of(rootdirectory))
        super().__init__(store, root=root, requests_per_second=maxrequestspersecond)


def _endpoint(given: str, *, secure: bool) -> str:
    if not given or "://" in given:
        return given.rstrip("/")
    return f"{'https' if secure else 'http'}://{given.rstrip('/')}"
