"""Serves a tree as a bucket of S3 does, after a wait: `python -m bench.object_server ROOT PORT MILLISECONDS`.

As little as reading a registry needs, and fast: what is measured against it is the client. Asked for `/-/requests` it
tells what it was asked since the last time.
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

PAGE = 1_000
HASHED_BYTES = 1024  # of links; nobody compares the tags of larger files
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
LISTED_DATE = "2026-01-01T00:00:00.000Z"
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
        return self._read(method, key) if key else self._list(parse_qs(parts.query))

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

    def _list(self, query: dict[str, list[str]]) -> bytes:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        start = query.get("continuation-token", [prefix])[0]
        entries, token = [], ""
        for position, (kind, name) in enumerate(self._children(prefix, delimiter, start)):
            if position == PAGE:
                token = name
                break
            entries.append(kind.format(name=escape(name), **self._facts_of(name)))
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(token)}</NextContinuationToken>"
        inner = "".join(entries) + (more if token else "<IsTruncated>false</IsTruncated>")
        return _response(200, f"<ListBucketResult>{inner}</ListBucketResult>".encode())

    def _children(self, prefix: str, delimiter: str, start: str) -> Iterator[tuple[str, str]]:
        position = bisect_left(self._keys, start)
        while position < len(self._keys) and (key := self._keys[position]).startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                yield OBJECT, key
                position += 1
            else:
                yield COMMON_PREFIX, key[: cut + 1]
                position = bisect_left(self._keys, key[: cut + 1] + LAST)

    def _facts_of(self, key: str) -> dict[str, object]:
        size, tag = self._found.get(key, (0, ""))
        return {"size": size, "tag": tag, "date": LISTED_DATE}


OBJECT = (
    '<Contents><Key>{name}</Key><Size>{size}</Size><ETag>"{tag}"</ETag><LastModified>{date}</LastModified></Contents>'
)
COMMON_PREFIX = "<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"


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
