"""Takes what would go to Sentry, on a port of this machine."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import until


@dataclass
class Sink:
    """What was reported so far."""

    dsn: str
    events: list[dict[str, Any]] = field(default_factory=list)

    def about(self, text: str) -> list[dict[str, Any]]:
        """Return the events that contain a text, as soon as there is one."""
        return until(lambda: [event for event in self.events if text in json.dumps(event)])


@contextmanager
def listening() -> Iterator[Sink]:
    """Listen until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            lines = (gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body).splitlines()
            found = [json.loads(line) for line in lines if line]
            # An envelope's own head, then for each item its head and its body.
            sink.events += [
                item for head, item in zip(found[1::2], found[2::2], strict=True) if head["type"] == "event"
            ]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sink = Sink(f"http://public@127.0.0.1:{server.server_port}/1")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield sink
        finally:
            server.shutdown()
            thread.join()
