"""Times `database import` from object storage behind latency, beside the same requests alone and one after the other.

The storage is bench/object_server.py, which waits before each answer. Each import is the command that ships, in a
process of its own, on a database of its own.
"""

import http.client
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import obstore
import psycopg
from obstore.store import S3Store

from bench.measures import Measure, arguments, report
from bench.object_server import REQUESTS
from bench.registry_tree import TAGS, RegistryTree
from bench.servers import Databases, free_port, migrated_server, url_of

REPOSITORIES = 20  # of 50 tags each: 1,000 manifests
LATENCY_MS = 20.0
IN_FLIGHT = 128
ROUNDS = 3
SAMPLED_IMAGES = 20
# Requests that wait for the one before: four to look at the root, six for the lock files before the import and two
# after it, three levels of directories of repositories, two of blobs; then tags and links, tag links, manifests,
# configurations and layers, prefixes of blobs.
DEPENDENT_ROUNDS = 22
PIPELINE_LIMIT = 2.0
SEQUENTIAL_LIMIT = 50.0
MEMORY_LIMIT_MB = 300.0
# Work that waits: few reads in flight, and each of them for long.
SHARED_REPOSITORIES = 32
SHARED_LATENCY_MS = 100.0
SHARED_IN_FLIGHT = 8
WORKERS = 4
WORKERS_LIMIT = 3.0
BUCKET = "bench"

Request = tuple[str, str]


def main() -> int:
    """Measure, print, and fail when a limit is broken."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--repositories", type=int, default=REPOSITORIES, help=f"of {TAGS} images each")
    parser.add_argument("--latency", type=float, default=LATENCY_MS, help="milliseconds before each answer")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()) / "registry-bench")
    options = parser.parse_args()
    tree = RegistryTree(options.directory / f"objects-{options.repositories}", repositories=options.repositories)
    tree.build()
    shared = RegistryTree(options.directory / f"objects-{SHARED_REPOSITORIES}", repositories=SHARED_REPOSITORIES)
    shared.build()
    with migrated_server() as server, _bucket(tree.root, options.latency) as port:
        databases = Databases(url_of(server))
        imports, replays = [], []
        for number in range(options.rounds):
            _forget_marks(port)
            _requests(port)
            url = databases.fresh(f"objects_{number}")
            imports.append(_import(_environment(_s3(port), url, in_flight=IN_FLIGHT)))
            asked = _requests(port)
            replays.append(_replay(port, asked))
        _forget_marks(port)
        others = {
            name: _import(_environment(storage, databases.fresh(name), in_flight=IN_FLIGHT), "--dry-run")
            for name, storage in (("gcs", _gcs(port)), ("azure", _azure(port)))
        }
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the servers have not ended yet
        sequential = _sequential(port, tree)
        with _bucket(shared.root, SHARED_LATENCY_MS) as shared_port:
            alone = _distributed(shared_port, databases.fresh("alone"), workers=1)
            together = _distributed(shared_port, databases.fresh("together"), workers=WORKERS)
    seconds = statistics.median(imports)
    bound = DEPENDENT_ROUNDS * options.latency / 1000 + statistics.median(replays)
    images = tree.repositories * TAGS
    return report(
        [
            Measure(f"import of {images:,} manifests, {options.latency:.0f} ms before each answer", seconds, "s"),
            Measure("requests", len(asked), ""),
            Measure("requests per million tags", len(asked) / images * 1_000_000, ""),
            Measure(f"the same requests, {IN_FLIGHT} in flight", statistics.median(replays), "s"),
            Measure("import over dependent rounds and requests", seconds, "s", PIPELINE_LIMIT, seconds / bound),
            Measure("sequential reader", sequential, "s", SEQUENTIAL_LIMIT, sequential / seconds, at_least=True),
            Measure(f"one worker, {SHARED_LATENCY_MS:.0f} ms, {SHARED_IN_FLIGHT} in flight", alone, "s"),
            Measure(f"{WORKERS} workers", together, "s", WORKERS_LIMIT, alone / together, at_least=True),
            *(Measure(f"dry run from {name}", taken, "s") for name, taken in others.items()),
            Measure("peak memory of one process, of any driver", peak, "MB", limit=1.0, ratio=peak / MEMORY_LIMIT_MB),
        ],
        as_json=options.json,
    )


@contextmanager
def _bucket(root: Path, milliseconds: float) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.object_server", str(root), str(port), str(milliseconds)])
    try:
        while process.poll() is None:
            try:
                _requests(port)
            except ConnectionError:
                time.sleep(0.05)
            else:
                break
        yield port
    finally:
        process.terminate()
        process.wait()


def _environment(storage: dict[str, str], url: str, *, in_flight: int) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "RAILS_", "AWS_"))}
    environment = own | {f"REGISTRY_STORAGE_{key}": value for key, value in storage.items()}
    environment |= {"DATABASE_URL": url, "SECRET_KEY": "only-for-measurements"}
    return environment | {"REGISTRY_IMPORT_READS_IN_FLIGHT": str(in_flight)}


def _s3(port: int) -> dict[str, str]:
    where = {"S3_BUCKET": BUCKET, "S3_REGIONENDPOINT": f"http://127.0.0.1:{port}"}
    return where | {"S3_ACCESSKEY": "a", "S3_SECRETKEY": "b"}


def _gcs(port: int) -> dict[str, str]:
    key = {"gcs_base_url": f"http://127.0.0.1:{port}", "disable_oauth": True}
    key |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    return {"GCS_BUCKET": BUCKET, "GCS_CREDENTIALS": json.dumps(key)}


def _azure(port: int) -> dict[str, str]:
    where = {"AZURE_CONTAINER": BUCKET, "AZURE_SERVICEURL": f"http://127.0.0.1:{port}"}
    return where | {"AZURE_ACCOUNTNAME": "a", "AZURE_ACCOUNTKEY": "YQ=="}


def _import(environment: dict[str, str], *options: str) -> float:
    command = [sys.executable, "manage.py", "database", "import", "--json", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(done.stdout)["seconds"])


def _distributed(port: int, url: str, *, workers: int) -> float:
    """Return the seconds that so many workers take, each with one task at a time."""
    environment = _environment(_s3(port), url, in_flight=SHARED_IN_FLIGHT)
    command = [sys.executable, "manage.py", "procrastinate", "worker", "--concurrency", "1"]
    _forget_marks(port)
    running = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for _ in range(workers)]
    try:
        _wait_for_workers(url, workers)
        return _import(environment, "--distributed", "--wait")
    finally:
        for worker in running:
            worker.kill()
            worker.wait()


def _wait_for_workers(url: str, count: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM procrastinate_workers").fetchone() != (count,):
            time.sleep(0.1)


def _forget_marks(port: int) -> None:
    """Delete the mark that the storage is managed by a database, which the import before has left."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    _get(connection, "DELETE", "docker/registry/lockfiles/database-in-use")
    connection.close()


def _requests(port: int) -> list[Request]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", REQUESTS)
    found = [(method, target) for method, target in json.loads(connection.getresponse().read())]
    connection.close()
    return found


def _replay(port: int, asked: list[Request]) -> float:
    """Return the seconds that these requests take by the same client, so many in flight and nothing else."""
    store = S3Store(
        BUCKET,
        endpoint=f"http://127.0.0.1:{port}",
        skip_signature=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    began = time.monotonic()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        for _ in pool.map(partial(_ask, store), asked):
            pass
    return time.monotonic() - began


def _ask(store: S3Store, request: Request) -> None:
    method, target = request
    path = unquote(urlsplit(target).path).removeprefix(f"/{BUCKET}").lstrip("/")
    try:
        if not path:
            query = parse_qs(urlsplit(target).query)
            ask = obstore.list_with_delimiter if "delimiter" in query else partial(obstore.list, chunk_size=1_000)
            list(ask(store, query.get("prefix", [""])[0]))
        elif method == "HEAD":
            obstore.head(store, path)
        elif method == "GET":
            obstore.get(store, path).bytes()
    except FileNotFoundError:
        return


def _sequential(port: int, tree: RegistryTree) -> float:
    """Return the seconds that a reader takes that waits for each answer, from a sample."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    began = time.monotonic()
    for number in range(SAMPLED_IMAGES):
        _read_image(partial(_get, connection), tree.name_of(number % tree.repositories), f"v1.{number}")
    seconds = time.monotonic() - began
    connection.close()
    return seconds / SAMPLED_IMAGES * tree.repositories * TAGS


def _read_image(get: Any, repository: str, tag: str) -> None:
    base = "docker/registry/v2"
    manifests = f"{base}/repositories/{repository}/_manifests"
    digest = get("GET", f"{manifests}/tags/{tag}/current/link").decode()
    get("GET", f"{manifests}/revisions/{digest.replace(':', '/')}/link")
    manifest = json.loads(get("GET", _data(base, digest)))
    get("GET", _data(base, manifest["config"]["digest"]))
    for layer in manifest["layers"]:
        get("HEAD", _data(base, layer["digest"]))


def _data(base: str, digest: str) -> str:
    algorithm, _, checksum = digest.partition(":")
    return f"{base}/blobs/{algorithm}/{checksum[:2]}/{checksum}/data"


def _get(connection: http.client.HTTPConnection, method: str, key: str) -> bytes:
    connection.request(method, f"/{BUCKET}/{key}")
    return connection.getresponse().read()


if __name__ == "__main__":
    sys.exit(main())
