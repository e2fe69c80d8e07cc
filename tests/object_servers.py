"""Real object storage on loopback: moto's server for S3 and, by its other tongue, GCS; azurite for Azure."""

import base64
import hashlib
import hmac
import itertools
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import boto3

from metadata_import.storage import open_driver
from metadata_import.storage.base import StorageDriver
from tests.programs import require_programs
from tests.slow_proxy import SlowProxy

START_SECONDS = 60.0
ACCOUNT = "devstoreaccount1"
# Azurite's well-known account; no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AZURE_VERSION = "2021-12-02"
# Moto looks at the form alone. A client of GCS signs otherwise, which moto takes for nobody.
AMAZON_SIGNATURE = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
_numbers = itertools.count(1)

Open = Callable[..., StorageDriver]


@contextmanager
def started(*command: str) -> Iterator[int]:
    """Run a server on a free port, which takes the place of `PORT` in the command, until the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [part.replace("PORT", str(port)) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def s3_buckets() -> Iterator[Open]:
    """Give what opens a new bucket of S3, below a prefix, through another port if one is given."""
    with started(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "PORT") as server:

        def open_bucket(*, port: int = server, bucket: str = "", **parameters: Any) -> StorageDriver:
            if not bucket:
                bucket = new_bucket(server)
            given = {"rootdirectory": "/some/prefix", "accesskey": "key", "secretkey": "secret", **parameters}
            return open_driver("s3", bucket=bucket, regionendpoint=f"http://127.0.0.1:{port}", **given)

        open_bucket.port = server
        yield open_bucket


@contextmanager
def gcs_buckets() -> Iterator[Open]:
    """Give what opens a new bucket of GCS: moto knows the XML that GCS speaks too, but not how its clients sign."""
    with (
        started(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "PORT") as server,
        SlowProxy(server, headers={"Authorization": AMAZON_SIGNATURE}).serving() as proxy,
    ):

        def open_bucket() -> StorageDriver:
            key = {"gcs_base_url": f"http://127.0.0.1:{proxy.port}", "disable_oauth": True}
            key |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
            return open_driver("gcs", bucket=new_bucket(server), credentials=key, rootdirectory="some/prefix")

        yield open_bucket


@contextmanager
def azure_containers() -> Iterator[Open]:
    """Give what opens a new container of Azure."""
    require_programs("azurite-blob", packages=["azurite"], by="npm install --global")
    command = ("azurite-blob", "--blobHost", "127.0.0.1", "--blobPort", "PORT", "--inMemoryPersistence", "--silent")
    with started(*command, "--skipApiVersionCheck", "--disableTelemetry") as server:

        def open_container(*, port: int = server, container: str = "", **parameters: Any) -> StorageDriver:
            if not container:
                container = f"registry{next(_numbers)}"
                _make_container(f"http://127.0.0.1:{server}/{ACCOUNT}", container)
            given = {"accountkey": KEY, "rootdirectory": "some/prefix", **parameters}
            url = f"http://127.0.0.1:{port}/{ACCOUNT}"
            return open_driver("azure", accountname=ACCOUNT, container=container, serviceurl=url, **given)

        yield open_container


SERVERS = {"azure": azure_containers, "gcs": gcs_buckets, "s3": s3_buckets}


def new_bucket(port: int) -> str:
    """Make a bucket on moto's server and return its name."""
    name = f"registry{next(_numbers)}"
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=name)
    return name


def _make_container(account: str, name: str) -> None:
    date = formatdate(usegmt=True)
    signed = f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:{AZURE_VERSION}\n/{ACCOUNT}/{ACCOUNT}/{name}\n"
    key = base64.b64decode(KEY)
    signature = base64.b64encode(hmac.digest(key, f"{signed}restype:container".encode(), hashlib.sha256)).decode()
    headers = {"x-ms-date": date, "x-ms-version": AZURE_VERSION, "Authorization": f"SharedKey {ACCOUNT}:{signature}"}
    request = urllib.request.Request(f"{account}/{name}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request).close()


def upload(root: Path, driver: StorageDriver) -> None:
    """Put every file of a tree into a storage; links are not followed, as no object is one."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda path: driver.put(str(path.relative_to(root)), path.read_bytes()), files):
            pass
