"""Object storage that lies, repeats itself, or says no: it costs what it costs, ends, and is named without secrets."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from metadata_import import discovery
from metadata_import.errors import FileTooLargeError, PathNotFoundError, StorageError
from metadata_import.reader import Reader
from metadata_import.records import SkipReason
from metadata_import.refusals import UnreadableRootError
from metadata_import.storage import objects, open_driver
from metadata_import.storage.base import StorageDriver
from tests.object_servers import azure_containers, s3_buckets

SECRET = "very-secret"
DIGEST = f"sha256:{'ab' * 32}"
BLOB = f"docker/registry/v2/blobs/sha256/ab/{'ab' * 32}/data"
HUGE = 5 * 1024**3

Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def storage(answer: Callable[[str, str], Answer], **parameters) -> Iterator[StorageDriver]:
    """Open a bucket of S3 on a server that answers each method and target like this."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, headers, body = answer(self.command, self.path)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, *_arguments):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield open_driver(
            "s3",
            bucket="registry",
            regionendpoint=f"http://127.0.0.1:{server.server_port}",
            **{"accesskey": "key", "secretkey": SECRET, "maxretries": 1, **parameters},
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def listing(*entries: str, token: str = "") -> Answer:
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return 200, {}, f"<ListBucketResult>{''.join(entries)}{more}</ListBucketResult>".encode()


def entry(key: str, *, size: int = 71) -> str:
    return (
        f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>x</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
    )


def refusal(status: int, code: str, message: str = "", **headers: str) -> Answer:
    return status, headers, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def test_a_listing_that_repeats_a_page_for_ever_ends(monkeypatch):
    monkeypatch.setattr(objects, "LIST_SECONDS", 1.0)
    monkeypatch.setattr(objects, "PAGE", 2)
    with storage(lambda *_: listing(entry("d/a"), entry("d/b"), token="again")) as driver:
        errors: list[str] = []
        walked = [file.path for file in driver.walk("d", on_error=lambda _, error: errors.append(error.reason))]
        assert (walked, len(errors)) == (["d/a", "d/b"], 1)
        assert "goes back" in errors[0]
        with pytest.raises(StorageError, match="did not end within 1 seconds"):
            list(driver.list("d"))


def test_what_a_listing_said_was_small_is_not_read_when_it_is_huge():
    headers = {"Content-Length": str(HUGE), "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "ETag": "x"}
    with storage(lambda *_: (200, headers, b"{")) as driver, pytest.raises(FileTooLargeError):
        driver.read(BLOB, limit=4 * 1024 * 1024)


def test_a_huge_manifest_and_one_that_vanished_are_skips():
    tags = "docker/registry/v2/repositories/a/_manifests/tags"

    def answer(_method: str, target: str) -> Answer:
        path, query = urlsplit(target).path.removeprefix("/registry/"), parse_qs(urlsplit(target).query)
        if query:
            prefix = query.get("prefix", [""])[0]
            found = [f"<CommonPrefixes><Prefix>{prefix}{tag}/</Prefix></CommonPrefixes>" for tag in ("gone", "huge")]
            return listing(*(found if prefix == f"{tags}/" else []))
        dated = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "ETag": "x"}
        if path.endswith("/huge/current/link") or "/revisions/" in path:
            return 200, dated, DIGEST.encode()
        if path == BLOB:
            return 200, dated | {"Content-Length": str(HUGE)}, b"{"
        return refusal(404, "NoSuchKey")

    with storage(answer) as driver, Reader(driver, concurrency=8) as reader:
        (part,) = reader.read_repositories(["a"])
    assert {(skip.reason, skip.path) for skip in part.skips} == {
        (SkipReason.TAG_LINK_MISSING, f"{tags}/gone/current/link"),
        (SkipReason.FILE_TOO_LARGE, BLOB),
        (SkipReason.TAG_WITHOUT_MANIFEST, f"{tags}/huge/current/link"),
    }


@pytest.mark.parametrize(
    ("answered", "message"),
    [
        (
            refusal(403, "SignatureDoesNotMatch", "Check your key."),
            "answered 403: SignatureDoesNotMatch: Check your key",
        ),
        (refusal(403, "AccessDenied", "No s3:ListBucket."), "answered 403: AccessDenied: No s3:ListBucket"),
        (refusal(301, "PermanentRedirect"), "check the region and the endpoint|PermanentRedirect"),
        (refusal(400, "AuthorizationHeaderMalformed", "expecting eu-west-1"), "expecting eu-west-1"),
        (refusal(503, "SlowDown"), "answered 503: SlowDown"),
        ((200, {"Content-Length": "1000000"}, b""), "cannot be read"),
    ],
)
def test_a_storage_that_says_no_is_named_with_its_reason_and_no_secret(monkeypatch, answered, message):
    monkeypatch.setattr(objects, "REQUEST_SECONDS", 1)
    with storage(lambda *_: answered) as driver, pytest.raises(UnreadableRootError, match=message) as raised:
        discovery.check_root(driver)
    assert driver.root in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_storage_that_is_not_there_is_named():
    with storage(lambda *_: listing()) as driver:
        pass
    with pytest.raises(UnreadableRootError, match="no answer from the storage"):
        discovery.check_root(driver)


def test_a_missing_bucket_is_named():
    with s3_buckets() as open_bucket, pytest.raises(UnreadableRootError, match="NoSuchBucket"):
        discovery.check_root(open_bucket(bucket="missing"))


@pytest.mark.e2e
def test_a_missing_container_and_a_wrong_key_are_named():
    with azure_containers() as open_container:
        with pytest.raises(UnreadableRootError, match="ContainerNotFound"):
            discovery.check_root(open_container(container="missing"))
        wrong = base64.b64encode(SECRET.encode()).decode()
        with pytest.raises(UnreadableRootError, match="answered 403") as raised:
            discovery.check_root(open_container(accountkey=wrong))
    assert wrong not in str(raised.value)


def test_requests_keep_to_the_rate_that_is_allowed(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(objects.time, "sleep", slept.append)
    with storage(lambda *_: refusal(404, "NoSuchKey"), maxrequestspersecond=10) as driver:
        for _ in range(5):
            with pytest.raises(PathNotFoundError):
                driver.read("missing", limit=1)
    assert sum(slept) > 0.1
    assert all(each <= 0.5 for each in slept)
