"""Memory of live sessions, by their number: MB of PSS a seat, and of the worker's own processes."""

import asyncio
from pathlib import Path

from bench.house import MB, House, open_house
from bench.results import Table
from browser.engine.memory import measure

SETTLE_SECONDS = 20.0  # until the pages are idle


async def run(counts: list[int], folder: Path) -> int:
    """Measure each number of live sandbox sessions, smallest first."""
    table = Table("memory", ("live sessions", "browsers, MB", "MB a seat", "worker", "guard", "driver"))
    table.begin()
    async with open_house(max_sessions=max(counts), idle_seconds=0, memory_limit_mb=0) as house:
        live: list[str] = []
        for count in sorted(counts):
            live += [await house.link(f"bench {number}") for number in range(len(live), count)]
            await _measure(table, house, live)
    table.write(folder)
    return 0


async def _measure(table: Table, house: House, live: list[str]) -> None:
    await house.client.post(
        "/send/batch",
        {"jobs": [{"account": account, "phone": "15551234567", "message": "hello"} for account in live]},
    )
    await asyncio.sleep(SETTLE_SECONDS)
    sizes = await measure([house.settings.profiles.resolve() / account for account in live])
    parts = house.parts()
    total = sum(sizes.values()) / MB
    table.add(len(sizes), round(total), round(total / len(sizes)), parts["worker"], parts["guard"], parts["driver"])
