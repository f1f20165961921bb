"""Batch writer of request results."""

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import Any

from errors import DatabaseError
from sql.database import Database

log = logging.getLogger(__name__)

BATCH_SIZE = 200  # results in one statement
BATCH_SECONDS = 0.003  # seconds that a batch is collected; a statement per result would cost as much as its request
RETRY_SECONDS = 0.5  # seconds between retries while the database is away

#: One result: a row of `end_attempts`.
Result = dict[str, Any]


@dataclass
class ResultWriter:
    """Writes results in batches: results that arrive while a statement runs are written by the next one."""

    database: Database
    _waiting: list[tuple[Result, asyncio.Future[None]]] = field(default_factory=list)
    _writing: asyncio.Task[None] | None = None

    def write(self, result: Result) -> asyncio.Future[None]:
        """Write a result; what is returned is done once it is committed, however long that takes."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((result, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())
        return written

    async def _write_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(BATCH_SECONDS)
            some, self._waiting = self._waiting[:BATCH_SIZE], self._waiting[BATCH_SIZE:]
            await self._write_batch(some)

    async def _write_batch(self, batch: list[tuple[Result, asyncio.Future[None]]]) -> None:
        error = await self._write([result for result, _ in batch])
        if error and len(batch) > 1:
            # Postgres may refuse one row of the statement: the other results are known and must not be lost with it.
            for one in batch:
                await self._write_batch([one])
            return
        for _, written in batch:
            if written.done():
                continue
            if error:
                written.set_exception(error)
            else:
                written.set_result(None)

    async def _write(self, results: list[Result]) -> Exception | None:
        while True:
            try:
                await self.database.all("end_attempts", results=json.dumps(results))
            except DatabaseError:
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:  # noqa: BLE001  # raised in the callers of `write`
                return error
            else:
                return None
