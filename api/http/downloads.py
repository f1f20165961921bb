"""Downloads: reports are made in a temporary file, and read from it as fast or slowly as the client takes them.

So no connection and no snapshot of Postgres waits for a client.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from tempfile import SpooledTemporaryFile
from typing import IO

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from errors import DatabaseBusy
from sql.database import RETRY_AFTER
from sql.exports import SECONDS, Export, one_at_a_time

log = logging.getLogger(__name__)

#: Of a process:
MAKING = 2  # reports that are made at once, each on a connection of its own
KEPT = 20  # reports at once that are made or read, of as many keys
PATIENCE = 10.0  # seconds that a request waits for its turn
OVERTIME = 20.0  # seconds after which an export that Postgres has not stopped is given up
STALLED = 60.0  # seconds in which a client must take a chunk
CHUNK = 1 << 16  # bytes sent at once
IN_MEMORY = 1 << 20  # bytes of a report that needs no file


class Downloads:
    """Makes the reports of a process: few at a time, and for each key one, from its request to its last byte."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._making = 0
        self._changed = asyncio.Event()

    async def answer(self, key: str, export: Export, headers: Mapping[str, str], receive: Receive) -> Response:
        """Make the report of a key's request, and return the response that streams it.

        Raises what the export raises, ClientDisconnect when `receive` says that the client has gone meanwhile, and
        TooManyRequests or DatabaseBusy when its turn does not come.
        """
        await self._wait_for_turn(key)
        try:
            return Download(await self._made(export, receive), headers, lambda: self._free(key))
        except BaseException:
            self._free(key)
            raise

    async def _wait_for_turn(self, key: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while key in self._keys or self._making == MAKING or len(self._keys) == KEPT:
                    await self._changed.wait()
        except TimeoutError:
            if key in self._keys:
                raise one_at_a_time() from None
            raise DatabaseBusy("Too many read reports.", retry_after=RETRY_AFTER[DatabaseBusy]) from None
        self._keys.add(key)

    def _free(self, key: str) -> None:
        self._keys.discard(key)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _made(self, export: Export, receive: Receive) -> IO[bytes]:
        file: IO[bytes] = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  # the response closes it
        self._making += 1
        task = asyncio.create_task(asyncio.to_thread(export.write, file))
        # The slot is free when the thread has ended, whatever becomes of this request.
        task.add_done_callback(self._end)
        try:
            await _written(task, export, receive)
        except BaseException:
            task.add_done_callback(lambda _: _close(file))
            raise
        return file

    def _end(self, task: "asyncio.Task[int]") -> None:
        self._making -= 1
        self._tell()
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not tell of it


async def _written(task: "asyncio.Task[int]", export: Export, receive: Receive) -> None:
    """Wait until an export has ended; stop it when its client goes, its time is over, or its request is cancelled."""
    gone = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait([task, gone], timeout=SECONDS + OVERTIME, return_when=asyncio.FIRST_COMPLETED)
        left = gone.done() and not task.done()
    finally:
        gone.cancel()
        if not task.done():
            # Shielded: it is stopped also if the request is cancelled once more.
            await asyncio.shield(asyncio.create_task(asyncio.to_thread(export.stop)))
            await asyncio.wait([task])
    if left:
        raise ClientDisconnect
    task.result()


async def _gone(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # a full disk does not take what a file still has to write either
        file.close()


class Download(Response):
    """Streams a file, whose length is known, and closes it."""

    def __init__(self, file: IO[bytes], headers: Mapping[str, str], closed: Callable[[], None]) -> None:
        self._file, self._closed = file, closed
        length = file.seek(0, 2)
        file.seek(0)
        super().__init__(headers={**headers, "content-length": str(length)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's
        """Send it; give up a client that takes nothing for a minute, by an answer that does not end."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while scope["method"] != "HEAD" and (chunk := await asyncio.to_thread(self._file.read, CHUNK)):
                await _send(send, chunk, more=True)
            await _send(send, b"", more=False)
        except TimeoutError:
            log.info("a client takes nothing of its report", extra={"event": "report.abandoned"})
        finally:
            _close(self._file)
            self._closed()


async def _send(send: Send, chunk: bytes, *, more: bool) -> None:
    # The last one waits too, for what the client has not taken of those before.
    async with asyncio.timeout(STALLED):
        await send({"type": "http.response.body", "body": chunk, "more_body": more})
