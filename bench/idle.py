"""CPU of sessions that have nothing to do: seconds a minute of the worker's own processes and of its browsers."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.house import House, open_house
from bench.results import Spread, Table
from commands.client import looks

CHATS, MESSAGES = 8, 3  # unread chats of each account, and messages of ours in the chat that stays open
WAIT_SECONDS = 600.0  # for the messages to be sent, and those that came in to be read
QUIET_SECONDS = 40.0  # after that, for whatever follows
SUSPENDED_SECONDS = 8.0  # after ten, Postgres ends the worker's connection for the pulse
SETTLE_SECONDS = 5.0  # for what it did not do meanwhile
PARTS = ("worker", "driver", "browsers")


async def run(counts: list[int], seconds: float, rounds: int, folder: Path) -> int:
    """Measure each number of live sandbox sessions, smallest first, in rounds of so many seconds."""
    table = Table("idle", ("live sessions", "worker", "driver", "browsers", "browsers, worker suspended"))
    table.begin()
    async with open_house(max_sessions=max(1, *counts), idle_seconds=0, memory_limit_mb=0) as house:
        live: list[str] = []
        for count in sorted(counts):
            more = [await house.link(f"bench {number}") for number in range(len(live), count)]
            live += more
            await _fill(house, more, count * MESSAGES)
            await _measure(table, house, len(live), seconds, rounds)
    table.write(folder)
    return 0


async def _fill(house: House, accounts: list[str], total: int) -> None:
    """Have people write to these accounts, send from each, and wait until all is read and `total` jobs have ended."""
    for account in accounts:
        for number in range(CHATS):
            letter = {"phone": f"1555222{number:04}", "text": f"This is message {number}."}
            await house.client.post(f"/sandbox/accounts/{account}/incoming", letter)
    jobs = [
        {"account": account, "phone": "15551234567", "message": f"message {number}"}
        for account in accounts
        for number in range(MESSAGES)
    ]
    if jobs:
        await house.client.post("/send/batch", {"jobs": jobs})
    async for _ in looks(WAIT_SECONDS):
        if await _is_done(house, accounts, total):
            break
    await asyncio.sleep(QUIET_SECONDS)


async def _is_done(house: House, accounts: list[str], total: int) -> bool:
    row = await house.database.one("bench_ended")
    read = [len((await house.client.get(f"/incoming?account={account}"))["items"]) for account in accounts]
    return row is not None and row["ended"] >= total and all(count >= CHATS for count in read)


async def _measure(table: Table, house: House, count: int, seconds: float, rounds: int) -> None:
    """Measure in turns with the worker as it is, and suspended: what the pages cost when nobody looks at them."""
    worker = psutil.Process(house.workers["first"].pid)
    rounds_of: dict[str, list[float]] = {part: [] for part in (*PARTS, "alone")}
    for _ in range(rounds):
        for part, spent in (await _over(worker, seconds)).items():
            rounds_of[part].append(spent)
        with _suspended(worker):
            rounds_of["alone"].append((await _over(worker, SUSPENDED_SECONDS))["browsers"])
        await asyncio.sleep(SETTLE_SECONDS)
    table.add(count, *(Spread(spent, 2) for spent in rounds_of.values()))


async def _over(worker: psutil.Process, seconds: float) -> dict[str, float]:
    """Return the CPU seconds a minute of each part; the guard counts as part of the worker."""
    before, began = _spent(worker), time.monotonic()
    await asyncio.sleep(seconds)
    after, minutes = _spent(worker), (time.monotonic() - began) / 60
    return {part: (after[part] - before[part]) / minutes for part in PARTS}


def _spent(worker: psutil.Process) -> dict[str, float]:
    spent = dict.fromkeys(PARTS, 0.0)
    for process in (worker, *worker.children(recursive=True)):
        times = process.cpu_times()
        spent[_part(process)] += times.user + times.system
    return spent


def _part(process: psutil.Process) -> str:
    if "run-driver" in process.cmdline():
        return "driver"
    return "worker" if "python" in process.name() else "browsers"


@contextmanager
def _suspended(process: psutil.Process) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
