"""Downloads: reports are made in a temporary file, and read from it as fast or slowly as the client takes them.

So no connection and no snapshot of Postgres waits for a client.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from tempfile import SpooledTemporaryFile
from typing import IO

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from errors import DatabaseBusy
from sql.database import RETRY_AFTER
from sql.exports import SECONDS, Export, one_at_a_time

log = logging.getLogger(__name__)

MAKING = 2  # reports that a process makes at once, each on a connection of its own
KEPT = 20  # files at once, of as many keys
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

    async def answer(self, key: str, export: Export, headers: Mapping[str, str]) -> Response:
        """Make the report of a key's request, and return the response that streams it.

        Raises what the export raises, and TooManyRequests or DatabaseBusy when its turn does not come.
        """
        await self._wait_for_turn(key)
        file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  # the response closes it
        try:
            await self._make(export, file)
        except BaseException:
            file.close()
            self._free(key)
            raise
        return Download(file, headers, lambda: self._free(key))

    async def _wait_for_turn(self, key: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while key in self._keys or self._making == MAKING or len(self._keys) == KEPT:
                    await self._changed.wait()
        except TimeoutError:
            if key in self._keys:
                raise one_at_a_time() from None
            raise DatabaseBusy("Too many reports are being made.", retry_after=RETRY_AFTER[DatabaseBusy]) from None
        self._keys.add(key)

    def _free(self, key: str) -> None:
        self._keys.discard(key)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _make(self, export: Export, file: IO[bytes]) -> None:
        self._making += 1
        task = asyncio.create_task(asyncio.to_thread(export.write, file))
        try:
            await asyncio.wait([task], timeout=SECONDS + OVERTIME)
        finally:
            if not task.done():
                await asyncio.to_thread(export.stop)
                await asyncio.wait([task])
            self._making -= 1
            self._tell()
        task.result()


class Download(Response):
    """Streams a file, whose length is known, and closes it."""

    def __init__(self, file: IO[bytes], headers: Mapping[str, str], closed: Callable[[], None]) -> None:
        self._file, self._closed = file, closed
        length = file.seek(0, 2)
        file.seek(0)
        super().__init__(headers={**headers, "content-length": str(length)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's
        """Send it; give up a client that takes no chunk for a minute."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while scope["method"] != "HEAD" and (chunk := await asyncio.to_thread(self._file.read, CHUNK)):
                async with asyncio.timeout(STALLED):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._file.close()
            self._closed()
