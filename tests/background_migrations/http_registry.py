"""A small HTTP server in a registry's place, which answers as a test says, however badly."""

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]

DRIP_SECONDS = 0.02


@dataclass
class Request:
    """What a client sent."""

    path: str
    headers: dict[str, str]


@dataclass
class HttpRegistry:
    """Remembers requests; answers them one by one as `answers` says, and from then on with `otherwise`."""

    answers: list[Answer] = field(default_factory=list)
    otherwise: Answer = field(default_factory=lambda: listing("latest"))
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    @property
    def paths(self) -> list[str]:
        """The repositories that were asked for, in order."""
        return [request.path.removeprefix("/v2/").removesuffix("/tags/list?n=1") for request in self.requests]


def raw(content: bytes) -> Answer:
    """Answer with these bytes and hang up."""
    return lambda handler: _write(handler, content)


def reply(status: int, body: bytes = b"", *headers: str) -> Answer:
    """Answer as HTTP wants it."""
    head = "\r\n".join([f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *headers])
    return raw(f"{head}\r\n\r\n".encode() + body)


def listing(*tags: str) -> Answer:
    """Answer with a list of tags."""
    return reply(200, json.dumps({"name": "any", "tags": tags}).encode())


def dripping(content: bytes, *, quick: int = 0) -> Answer:
    """Answer byte by byte after a quick beginning, never idle for long and for a long time in all."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _write(handler, content[:quick])
        for byte in content[quick:]:
            time.sleep(DRIP_SECONDS)
            _write(handler, bytes([byte]))

    return answer


def endlessly(content: bytes) -> Answer:
    """Answer with this again and again until the client has gone, at most for about a minute."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        for _ in range(6_000):
            _write(handler, content)
            time.sleep(0.01)

    return answer


def hang_up(_handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""


def _write(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.wfile.write(content)
    handler.wfile.flush()


@contextlib.contextmanager
def serving(certificate: Path | None = None) -> Iterator[HttpRegistry]:
    """Serve on a free port of 127.0.0.1 until the block ends; over TLS with a file of certificate and key."""
    registry, lock = HttpRegistry(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                registry.requests.append(Request(self.path, dict(self.headers)))
                answer = registry.answers.pop(0) if registry.answers else registry.otherwise
            with contextlib.suppress(OSError):  # the client may have had enough
                answer(self)

        def log_message(self, *_arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64  # with the default of 5, some of ten connections at once would wait for a second

        def handle_error(self, *_arguments: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    registry.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
