"""Server-sent events from the server to an open page."""

import asyncio
import contextlib
import json
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

#: the data of an event
Data = dict[str, object]


class Stream:
    """The events of one open page, in order."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    def push(self, event: str, data: Data | None = None) -> None:
        """Send an event with its data."""
        self._chunks.put_nowait(f"event: {event}\ndata: {json.dumps(data or {})}\n\n".encode())

    def end(self) -> None:
        """End the stream after the events that were pushed before."""
        self._chunks.put_nowait(None)

    async def next(self, heartbeat: float) -> bytes | None:
        """Return the next chunk to send, a comment after so many seconds without one, or None at the end."""
        try:
            async with asyncio.timeout(heartbeat):
                return await self._chunks.get()
        except TimeoutError:
            return b": still here\n\n"


class EventStream(Response):
    """Answers with a stream until the peer disconnects or the stream ends, and calls `ended` then in any case."""

    def __init__(self, stream: Stream, heartbeat: float, ended: Callable[[], None]) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._stream, self._heartbeat, self._ended = stream, heartbeat, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        del scope
        watch = asyncio.create_task(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while chunk := await self._stream.next(self._heartbeat):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except OSError:
            pass  # the peer has disconnected
        finally:
            self._ended()
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._stream.end()
