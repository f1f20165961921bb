"""A browser that takes too much memory: one that grew is opened anew, one that did so at once is left alone."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fixtures_lanes import add_lanes, value

from sql.database import Database
from tasks.web.seats import Seats, Session
from tasks.web.watchdog import MB, STARTUP_SECONDS, Watchdog

LIMIT = 100


class Reopening:
    """The seats of a worker, as far as the watchdog uses them."""

    worker = "wrk_a"

    def __init__(self) -> None:
        self.closed: list[str] = []

    def draining(self, _: str) -> bool:
        return False

    async def close(self, account: str) -> None:
        self.closed.append(account)


@pytest.fixture
async def watchdog(database: Database) -> Watchdog:
    await add_lanes(database, "acc_1")
    async with database.transaction() as tx:
        await tx.connection.execute("update accounts set leased_by = 'wrk_a', lease_until = now() + interval '1 hour'")
    return Watchdog(database, cast("Seats", Reopening()), LIMIT)


def session(age: float) -> Session:
    async def answers() -> bool:
        return True

    page = cast("Any", SimpleNamespace(alive=True, answers=answers))
    return Session("acc_1", page, 1, opened=time.monotonic() - age)


@pytest.mark.parametrize(
    ("age", "sizes", "reopened", "heavy"),
    [
        (0, [LIMIT - 1, LIMIT + 50], 0, LIMIT + 50),  # it loads, and weighs so much when it has
        (0, [LIMIT + 50, LIMIT + 60], 0, LIMIT + 50),
        (0, [LIMIT + 50, 2 * LIMIT + 1], 1, LIMIT + 50),  # the hard limit
        (STARTUP_SECONDS + 1, [LIMIT - 1, LIMIT + 1], 1, None),  # it has grown
        (STARTUP_SECONDS + 1, [LIMIT - 1], 0, None),
    ],
)
async def test_a_heavy_browser(
    watchdog: Watchdog, age: float, sizes: list[int], reopened: int, heavy: int | None
) -> None:
    one = session(age)
    for size in sizes:
        await watchdog._look(one, size * MB)
    assert len(cast("Reopening", watchdog.seats).closed) == reopened
    assert await value(watchdog.database, "select heavy_mb from accounts") == heavy
