"""What came of requests, written as many at a time as there are."""

import asyncio
import json
import logging
from dataclasses import dataclass, field
from typing import Any

from errors import DatabaseUnavailable
from sql.database import COLLISIONS, Database

log = logging.getLogger(__name__)

MOST = 200  # results in one statement
GATHER = 0.003  # seconds in which results come together: a statement for each would cost as much as its request
AGAIN = 0.5  # seconds between tries while the database is away

#: One result: a row of `end_attempts`.
Result = dict[str, Any]


@dataclass
class ResultWriter:
    """A writer of results: while one statement is under way, what else becomes known waits for the next."""

    database: Database
    _waiting: list[tuple[Result, asyncio.Future[None]]] = field(default_factory=list)
    _writing: asyncio.Task[None] | None = None

    async def write(self, result: Result) -> None:
        """Write a result and return once it is committed, however long that takes."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((result, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())
        await written

    async def _write_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER)
            some, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            error = await self._write([result for result, _ in some])
            for _, written in some:
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
            except DatabaseUnavailable:
                await asyncio.sleep(AGAIN)
            except COLLISIONS:
                await asyncio.sleep(AGAIN)
            except Exception as error:  # noqa: BLE001  # whoever waits for it has to know
                return error
            else:
                return None
