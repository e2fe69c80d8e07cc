"""Serves a tree as object storage does, after a wait: `python -m bench.object_server ROOT PORT MILLISECONDS`.

It speaks S3, as clients of GCS do too, and Azure's other way to list: as little as reading a registry needs, and fast,
since what is measured against it is the client. Asked for `/-/requests` it tells what it was asked since the last time.
"""

import asyncio
import hashlib
import json
import sys
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE, AZURE_PAGE = 1_000, 5_000
HASHED_BYTES = 1024  # of links; nobody compares the tags of larger files
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
REQUESTS = "/-/requests"
LAST = "\U0010ffff"


class Bucket:
    """The files of a tree by their keys; what is written stays in memory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._written: dict[str, bytes] = {}
        self._found: dict[str, tuple[int, str]] = {}  # size and tag
        for path in root.rglob("*"):
            if path.is_file():
                self._found[str(path.relative_to(root))] = _facts(path)
        self._keys = sorted(self._found)
        self.asked: list[tuple[str, str]] = []

    def answer(self, method: str, target: str, body: bytes) -> bytes:
        """Return a whole response."""
        if target == REQUESTS:
            asked, self.asked = self.asked, []
            return _response(200, json.dumps(asked).encode())
        self.asked.append((method, target))
        parts = urlsplit(target)
        _, _, key = unquote(parts.path).lstrip("/").partition("/")
        if method in ("PUT", "DELETE"):
            return self._write(method, key, body)
        if key:
            return self._read(method, key)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return self._list_azure(query) if "comp" in query else self._list(query)

    def _read(self, method: str, key: str) -> bytes:
        if key in self._written:
            return _response(200, self._written[key])
        if key not in self._found:
            return _response(404, b"<Error><Code>NoSuchKey</Code></Error>")
        head = _head(200, *self._found[key])
        return head if method == "HEAD" else head + (self._root / key).read_bytes()

    def _write(self, method: str, key: str, body: bytes) -> bytes:
        if method == "DELETE":
            self._written.pop(key, None)
            return _head(204, 0, "")
        self._written[key] = body
        return _response(200, b"")

    def _list(self, query: dict[str, str]) -> bytes:
        entries, token = self._page(query, query.get("continuation-token", ""), S3_ENTRIES, size=PAGE)
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(token)}</NextContinuationToken>"
        inner = entries + (more if token else "<IsTruncated>false</IsTruncated>")
        return _response(200, f"<ListBucketResult>{inner}</ListBucketResult>".encode())

    def _list_azure(self, query: dict[str, str]) -> bytes:
        entries, token = self._page(query, query.get("marker", ""), AZURE_ENTRIES, size=AZURE_PAGE)
        inner = f"<Blobs>{entries}</Blobs><NextMarker>{escape(token)}</NextMarker>"
        return _response(200, f"<EnumerationResults>{inner}</EnumerationResults>".encode())

    def _page(self, query: dict[str, str], start: str, kinds: tuple[str, str], *, size: int) -> tuple[str, str]:
        """Return the entries of a page, and where the next one starts or nothing."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: list[str] = []
        for position, (is_directory, name) in enumerate(self._children(prefix, delimiter, start or prefix)):
            if position == size:
                return "".join(entries), name
            entries.append(kinds[is_directory].format(name=escape(name), **self._facts_of(name)))
        return "".join(entries), ""

    def _children(self, prefix: str, delimiter: str, start: str) -> Iterator[tuple[bool, str]]:
        position = bisect_left(self._keys, start)
        while position < len(self._keys) and (key := self._keys[position]).startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                yield False, key
                position += 1
            else:
                yield True, key[: cut + 1]
                position = bisect_left(self._keys, key[: cut + 1] + LAST)

    def _facts_of(self, key: str) -> dict[str, object]:
        size, tag = self._found.get(key, (0, ""))
        return {"size": size, "tag": tag}


S3_OBJECT = (
    '<Contents><Key>{name}</Key><Size>{size}</Size><ETag>"{tag}"</ETag>'
    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
)
AZURE_OBJECT = (
    "<Blob><Name>{name}</Name><Properties><Content-Length>{size}</Content-Length><Etag>0x{tag}</Etag>"
    f"<Content-Type>application/octet-stream</Content-Type><Last-Modified>{DATE}</Last-Modified></Properties></Blob>"
)
# Of an object, and of what stands for a directory.
S3_ENTRIES = (S3_OBJECT, "<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>")
AZURE_ENTRIES = (AZURE_OBJECT, "<BlobPrefix><Name>{name}</Name></BlobPrefix>")


def _facts(path: Path) -> tuple[int, str]:
    size = path.stat().st_size
    content = path.read_bytes() if size <= HASHED_BYTES else str(path).encode()
    return size, hashlib.md5(content, usedforsecurity=False).hexdigest()


def _head(status: int, size: int, tag: str) -> bytes:
    return (
        f'HTTP/1.1 {status} S\r\nContent-Length: {size}\r\nETag: "{tag}"\r\nLast-Modified: {DATE}\r\n'
        "Content-Type: application/xml\r\n\r\n"
    ).encode()


def _response(status: int, content: bytes) -> bytes:
    return _head(status, len(content), "0") + content


class Connection(asyncio.Protocol):
    """One client: its requests are answered in turn, each after the wait."""

    def __init__(self, bucket: Bucket, seconds: float) -> None:
        self._bucket, self._seconds = bucket, seconds
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to answer."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        length = _content_length(head) if end else 0
        if end and len(rest) >= length:
            self._received = rest[length:]
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            wait = 0.0 if target == REQUESTS else self._seconds
            asyncio.get_running_loop().call_later(wait, self._answer, method, target, rest[:length])

    def _answer(self, method: str, target: str, body: bytes) -> None:
        self._transport.write(self._bucket.answer(method, target, body))


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def _serve(root: Path, port: int, seconds: float) -> None:
    bucket = Bucket(root)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(bucket, seconds), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
