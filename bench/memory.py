"""Memory of live sessions, by their number: MB of PSS a seat, and of the worker's own processes."""

import asyncio

from bench.house import MB, House, open_house
from browser.engine.memory import measure

SETTLE_SECONDS = 20.0  # until the pages are idle


async def run(counts: list[int]) -> int:
    """Measure each number of live sandbox sessions, smallest first."""
    print("| live sessions | browsers, MB | MB a seat | worker | guard | driver |\n|---|---|---|---|---|---|")
    async with open_house(max_sessions=max(counts), idle_seconds=0, memory_limit_mb=0) as house:
        live: list[str] = []
        for count in sorted(counts):
            live += [await house.link(f"bench {number}") for number in range(len(live), count)]
            await _measure(house, live)
    return 0


async def _measure(house: House, live: list[str]) -> None:
    await house.client.post(
        "/send/batch",
        {"jobs": [{"account": account, "phone": "15551234567", "message": "hello"} for account in live]},
    )
    await asyncio.sleep(SETTLE_SECONDS)
    sizes = await measure([house.settings.profiles.resolve() / account for account in live])
    parts = house.parts()
    total = sum(sizes.values()) / MB
    print(
        f"| {len(sizes)} | {total:.0f} | {total / len(sizes):.0f} | {parts['worker']} | {parts['guard']} "
        f"| {parts['driver']} |",
        flush=True,
    )
