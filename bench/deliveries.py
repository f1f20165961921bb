"""Throughput of webhooks: deliveries a second to a receiver on this machine, compared with the bare HTTP client."""

import asyncio
import time
from pathlib import Path

import httpx2

from bench.outbox import BODY, Outbox, open_outbox, receiving
from bench.results import Spread, Table

CONCURRENCY = 32
ROUNDS = 5  # the median is reported


async def run(counts: list[int], events: int, folder: Path) -> int:
    """For each number of endpoints, measure rounds of the bare client and of our deliveries, alternately."""
    table = Table("deliveries", ("endpoints", "deliveries a second", "bare client", "ratio"))
    table.begin()
    async with open_outbox() as outbox, receiving() as hook:
        for count in counts:
            endpoints = await outbox.add_endpoints(hook, count)
            # Warm up: connections and prepared statements, as in a running worker.
            await _deliver(outbox, endpoints, events)
            await outbox.settle()
            pairs = [(await _plain(hook, events), await _deliver(outbox, endpoints, events)) for _ in range(ROUNDS)]
            bare, ours = (Spread(column) for column in zip(*pairs, strict=True))
            table.add(count, ours, bare, Spread([one / other for other, one in pairs], 2))
    table.write(folder)
    return 0


async def _plain(hook: str, requests: int) -> float:
    """Return the requests a second of the client alone."""
    body, left = b"x" * BODY, list(range(requests))

    async def post(client: httpx2.AsyncClient) -> None:
        while left:
            left.pop()
            (await client.post(hook, content=body)).raise_for_status()

    async with httpx2.AsyncClient(trust_env=False) as client:
        began = time.monotonic()
        await asyncio.gather(*(post(client) for _ in range(CONCURRENCY)))
        return requests / (time.monotonic() - began)


async def _deliver(outbox: Outbox, endpoints: list[str], events: int) -> float:
    """Return the deliveries a second, from the first wake-up to the last record."""
    await outbox.add_events(endpoints, events // len(endpoints))
    began = time.monotonic()
    while await outbox.is_open(endpoints):  # noqa: ASYNC110  # the state is in Postgres
        await asyncio.sleep(0.02)
    return events / (time.monotonic() - began)
