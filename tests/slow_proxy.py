"""A proxy for HTTP that makes a storage as slow and unreliable as one far away: latency, cut connections, refusals."""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"
THROTTLED = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"


@dataclass
class SlowProxy:
    """What to do to requests; may be changed while it serves."""

    upstream: int
    latency: float = 0.0
    jitter: float = 0.0
    resets: float = 0.0  # the share of requests whose connection is cut
    refusals: float = 0.0  # the share of requests that begin a burst of refusals
    burst: int = 20
    headers: dict[str, str] = field(default_factory=dict)  # that every request gets
    port: int = 0
    requests: int = 0
    cut: int = 0
    refused: int = 0
    most_at_once: int = 0
    _at_once: int = 0
    _burst_left: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    @contextmanager
    def serving(self) -> Iterator["SlowProxy"]:
        """Serve on a free port, from a thread."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(_close(server), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(_length(head))
        self.requests += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.latency + self.jitter * self._random.random())
            if self._random.random() < self.resets:
                self.cut += 1
                return False
            if self._burst_left or self._random.random() < self.refusals:
                self._burst_left = (self._burst_left or self.burst) - 1
                self.refused += 1
                writer.write(self._random.choice([REFUSAL, THROTTLED]))
                return True
            writer.write(await self._forward(head, body))
        finally:
            self._at_once -= 1
        return True

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
        replaced = {b"connection", *(name.lower().encode() for name in self.headers)}
        kept = [line for line in lines if line.partition(b":")[0].lower() not in replaced]
        added = [f"{name}: {value}".encode() for name, value in self.headers.items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        writer.write(b"\r\n".join([first, *kept, *added, b"Connection: close", b"", body]))
        answer = await reader.read()
        writer.close()
        answered, _, content = answer.partition(b"\r\n\r\n")
        kept = [
            line for line in answered.split(b"\r\n") if not line.lower().startswith((b"connection:", b"keep-alive:"))
        ]
        return b"\r\n".join([*kept, b"", content])


async def _close(server: asyncio.Server) -> None:
    server.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
