"""Latency of a healthy endpoint, alone and beside endpoints that are dead or hang."""

import asyncio
import time
from pathlib import Path
from statistics import quantiles

from bench.outbox import Outbox, open_outbox, receiving
from bench.ports import held_ports
from bench.results import Table

EVERY = 0.05  # seconds between the events of the healthy endpoint


async def run(seconds: float, waiting: int, hanging: int, folder: Path) -> int:
    """Measure alone, then with `waiting` events for a dead endpoint and `hanging` endpoints, for `seconds` each."""
    async with open_outbox() as outbox, receiving() as hook, receiving(hangs=True) as hung:
        (well,) = await outbox.add_endpoints(hook, 1)
        await _latency(outbox, well, 3)
        table = Table("fairness", ("a healthy endpoint", "p50, ms", "p99, ms", "worst, ms", "p99, times that alone"))
        table.begin()
        alone = await _latency(outbox, well, seconds)
        _tell(table, "alone", alone, alone)
        (port,) = held_ports(1)
        dead = await outbox.add_endpoints(f"http://127.0.0.1:{port}/", 1)
        hangs = await outbox.add_endpoints(hung, hanging)
        await outbox.add_events(dead, waiting)
        await outbox.settle()
        await outbox.add_events(hangs, 3)
        beside = await _latency(outbox, well, seconds)
        _tell(table, f"beside {waiting:,} events for a dead endpoint and {hanging} that hang", beside, alone)
    table.write(folder)
    return 0


async def _latency(outbox: Outbox, endpoint: str, seconds: float) -> list[float]:
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        await outbox.add_events([endpoint], 1)
        count += 1
        await asyncio.sleep(EVERY)
    while await outbox.is_open([endpoint]):  # noqa: ASYNC110  # the state is in Postgres
        await asyncio.sleep(0.02)
    return await outbox.seconds(endpoint, count)


def _p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100)[98]


def _tell(table: Table, what: str, seconds: list[float], alone: list[float]) -> None:
    p50 = quantiles(seconds, n=100)[49]
    table.add(
        what, *(f"{value * 1000:.0f}" for value in (p50, _p99(seconds), max(seconds))), _p99(seconds) / _p99(alone)
    )
