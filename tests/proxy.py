"""A TCP proxy before a database, on loopback, that cuts, resets, delays and withholds what goes through it."""

import asyncio
import enum
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

CHUNK_BYTES = 65_536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger for 0 seconds


class Fault(enum.Enum):
    """How a connection ends."""

    CUT = "in good order, as when the server goes down"
    RESET = "by a reset, as when a firewall or a failover forgets it"


@dataclass(eq=False)
class _Link:
    """One connection of a client, and the one to the server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    fault_at_answer: Fault | None = None

    def end(self, fault: Fault) -> None:
        for writer in (self.client, self.server):
            if fault is Fault.RESET:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                writer.transport.abort()
            else:
                writer.close()


@dataclass
class _Plan:
    """What is to happen when a client says these words."""

    words: bytes
    fault: Fault
    loses_answer: bool = False
    goes_away: bool = False
    skip: int = 0
    is_done: bool = False

    def strikes(self, said: bytes) -> bool:
        if self.is_done or self.words not in said:
            return False
        self.is_done = self.skip == 0
        self.skip -= 1
        return self.is_done


@dataclass
class Proxy:
    """Passes everything on, but for the faults that a test asks for. Its methods may be called from any thread."""

    upstream: tuple[str, int]
    delay_seconds: float = 0.0  # before each piece is passed on, in either direction
    is_away: bool = False  # connections are accepted and ended at once
    is_mute: bool = False  # nothing is passed on any more
    struck: int = 0  # planned faults that came to pass
    port: int = field(default=0, init=False)
    _plans: list[_Plan] = field(default_factory=list, init=False)
    _links: set[_Link] = field(default_factory=set, init=False)
    _served: int = field(default=0, init=False)

    def fail_at(self, words: bytes, fault: Fault = Fault.RESET, **more: Any) -> None:
        """End the connection on which a client says these words, after `skip` times, once.

        The server never hears them; or it does, and `loses_answer`. Where it `goes_away`, all others end with it.
        """
        self._plans.append(_Plan(words, fault, **more))

    def end_all(self, fault: Fault) -> None:
        """End every connection there is, now."""

        async def end() -> None:
            for link in self._links:
                link.end(fault)

        self._run(end())

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        """Listen while the block runs."""
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        thread.start()
        server: asyncio.Server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._run(self._stop(server))
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        self.is_mute = False
        for link in self._links:
            link.end(Fault.CUT)
        await asyncio.wait_for(self._idle(), timeout=20)

    async def _idle(self) -> None:
        """Return when nobody is served any more."""
        while self._served:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served += 1
        try:
            await self._relay(reader, writer)
        finally:
            self._served -= 1

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_away:
            writer.close()
            return
        from_server, to_server = await asyncio.open_connection(*self.upstream)
        link = _Link(writer, to_server)
        self._links.add(link)
        try:
            await asyncio.gather(self._ask(link, reader), self._answer(link, from_server))
        finally:
            self._links.discard(link)
            link.end(Fault.CUT)

    async def _ask(self, link: _Link, reader: asyncio.StreamReader) -> None:
        """Pass on what the client says."""
        with suppress(OSError):
            while said := await reader.read(CHUNK_BYTES):
                plan = next((plan for plan in self._plans if plan.strikes(said)), None)
                if plan is not None:
                    self.struck += 1
                    if plan.goes_away:
                        self.is_away = True
                        for each in self._links:
                            each.end(plan.fault)
                    if not plan.loses_answer:
                        link.end(plan.fault)
                        return
                    link.fault_at_answer = plan.fault
                await self._pass_on(said, link.server)
        link.server.close()

    async def _answer(self, link: _Link, reader: asyncio.StreamReader) -> None:
        """Pass on what the server says."""
        with suppress(OSError):
            while said := await reader.read(CHUNK_BYTES):
                if link.fault_at_answer is not None:
                    link.end(link.fault_at_answer)
                    return
                await self._pass_on(said, link.client)
        link.client.close()

    async def _pass_on(self, said: bytes, writer: asyncio.StreamWriter) -> None:
        while self.is_mute:
            await asyncio.sleep(0.01)
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        writer.write(said)
        await writer.drain()
