"""Latency of a healthy endpoint, alone and beside endpoints that are dead or hang."""

import asyncio
import time
from functools import partial
from pathlib import Path
from statistics import quantiles

from bench.outbox import Outbox, open_outbox, receiving
from bench.ports import held_ports
from bench.results import Spread, Table

EVERY = 0.05  # seconds between the events of the healthy endpoint


async def run(seconds: float, waiting: int, hanging: int, rounds: int, folder: Path) -> int:
    """Measure alone, then with `waiting` events for a dead endpoint and `hanging` endpoints, for `seconds` each.

    Each round has a database of its own.
    """
    table = Table("fairness", ("a healthy endpoint", "p50, ms", "p99, ms", "worst, ms", "p99, times that alone"))
    table.begin()
    pairs = [await _round(seconds, waiting, hanging) for _ in range(rounds)]
    alone, beside = [first for first, _ in pairs], [second for _, second in pairs]
    _tell(table, "alone", alone, alone)
    _tell(table, f"beside {waiting:,} events for a dead endpoint and {hanging} that hang", beside, alone)
    table.write(folder)
    return 0


async def _round(seconds: float, waiting: int, hanging: int) -> tuple[list[float], list[float]]:
    """Return the latencies alone and beside the others."""
    async with open_outbox() as outbox, receiving() as hook, receiving(hangs=True) as hung:
        (well,) = await outbox.add_endpoints(hook, 1)
        await _latency(outbox, well, 3)
        alone = await _latency(outbox, well, seconds)
        (port,) = held_ports(1)
        dead = await outbox.add_endpoints(f"http://127.0.0.1:{port}/", 1)
        hangs = await outbox.add_endpoints(hung, hanging)
        await outbox.add_events(dead, waiting)
        await outbox.settle()
        await outbox.add_events(hangs, 3)
        return alone, await _latency(outbox, well, seconds)


async def _latency(outbox: Outbox, endpoint: str, seconds: float) -> list[float]:
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        await outbox.add_events([endpoint], 1)
        count += 1
        await asyncio.sleep(EVERY)
    while await outbox.is_open([endpoint]):  # noqa: ASYNC110  # the state is in Postgres
        await asyncio.sleep(0.02)
    return await outbox.seconds(endpoint, count)


def _percentile(seconds: list[float], percent: int) -> float:
    return quantiles(seconds, n=100)[percent - 1]


def _tell(table: Table, what: str, rounds: list[list[float]], alone: list[list[float]]) -> None:
    measures = (partial(_percentile, percent=50), partial(_percentile, percent=99), max)
    ratios = [_percentile(one, 99) / _percentile(other, 99) for one, other in zip(rounds, alone, strict=True)]
    table.add(what, *(Spread([measure(one) * 1000 for one in rounds]) for measure in measures), Spread(ratios, 2))
