"""A wire between two parts: it carries bytes, until it is told to lose them or to break."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PIECE = 65_536  # bytes


@dataclass
class Wire:
    """A TCP port of the loopback that leads to `connect`.

    While `lost` is set, nothing passes and nobody is told, as on a network that drops packets.
    """

    name: str
    connect: Callable[[], Awaitable[Peer]]
    port: int = 0
    _server: asyncio.Server | None = None
    _passing: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _carrying: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Listen, on a port that stays the same."""
        self._passing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def lose(self) -> None:
        """Drop what is sent from now on: no byte passes, no connection is made, and none is seen to end."""
        self._passing.clear()

    def heal(self) -> None:
        """Carry again. What was sent meanwhile arrives late, as what TCP repeats does."""
        self._passing.set()

    def cut(self) -> None:
        """Break every connection there is, at both ends."""
        for writer in self._open:
            writer.transport.abort()

    async def stop(self) -> None:
        """End."""
        if self._server:
            self._server.close()
        self.cut()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._carrying.add(task)
        self._open.add(writer)
        try:
            await self._passing.wait()
            there, back = await self.connect()
        except OSError:
            writer.transport.abort()
        else:
            self._open.add(back)
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
            self._open.discard(back)
        finally:
            self._open.discard(writer)
            self._carrying.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        writing = asyncio.create_task(self._write(pieces, writer))
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                pieces.put_nowait(piece)
        if self._passing.is_set():
            pieces.put_nowait(b"")
            await writing
        else:
            # An end passes even then: who has gone would else be live in the other side's record.
            writing.cancel()
            writer.transport.abort()

    async def _write(self, pieces: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await pieces.get():
                await self._passing.wait()
                writer.write(piece)
                await writer.drain()
            writer.close()
