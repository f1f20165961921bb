"""More than an API process carries, for minutes: what it sheds, how it answers, what it keeps, and how it recovers."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench import service
from bench.http_load import Answers, flood, load, post
from bench.lanes_without_browser import MESSAGE
from bench.results import Table

MB = 2**20
ACCEPTED = 202
CONNECTIONS = 16  # with which it is measured how much is carried
SECONDS = 10.0  # for which that is measured, and of one line
SENDERS = 50  # accounts that send meanwhile
CALM = 0.25  # of what is carried: the load under which it recovers
CALM_MS = 250.0  # p99 of a second in which it has recovered
RECOVERY = 60  # seconds at most


async def run(minutes: float, times: float, folder: Path) -> int:
    """Send `times` what is carried for so many minutes; return 1 if something was lost, ended or did not recover."""
    columns = (
        "second",
        "answered a second",
        "accepted",
        "shed",
        "p50 of accepted, ms",
        "p99 of accepted, ms",
        "p99 of shed, ms",
        "API, MB",
        "worker, MB",
    )
    table, shed = Table("overload", columns), Counter[str]()
    async with AsyncExitStack() as stack:
        it = Load(**vars(await service.start(stack, SENDERS, WORKER_DUTIES="sessions")))
        carried = (await load(it.port, CONNECTIONS, SECONDS, it.request)).per_second
        print(f"{carried:.0f} messages a second are carried; {times * carried:.0f} are sent now.", flush=True)
        table.begin()
        answers, began, seen = Answers(), time.monotonic(), 0.0
        sending = asyncio.create_task(flood(it.port, times * carried, minutes * 60, it.request, answers))
        while not sending.done():
            await asyncio.wait((sending,), timeout=SECONDS)
            now = time.monotonic() - began
            each, answers.each = answers.each, []
            accepted = [answer for answer in each if answer[0] == ACCEPTED]
            others = [answer for answer in each if answer[0] != ACCEPTED]
            it.accepted += [json.loads(body)["jobId"] for _, _, body in accepted]
            shed.update(f"{status} {json.loads(body)['code'] if body else 'no answer'}" for status, _, body in others)
            counts = [f"{len(some) / (now - seen):.0f}" for some in (each, accepted, others)]
            waits = [_percentile(accepted, 50), _percentile(accepted, 99), _percentile(others, 99)]
            table.add(f"{now:.0f}", *counts, *waits, *it.sizes())
            seen = now
        await sending
        seconds = await _recovery(it, carried)
        lost, ended = await it.lost(), it.ended()
    table.write(folder)
    print(f"Shed: {', '.join(f'{count:,} {what}' for what, count in shed.most_common()) or 'nothing'}.")
    print(f"Accepted: {len(it.accepted):,}, of which {lost:,} have no job. Processes that ended: {ended}.")
    print(f"Calm again after {seconds} s." if seconds else f"Not calm again within {RECOVERY} s.")
    return int(bool(lost or ended or seconds is None))


def _percentile(answers: Iterable[tuple[int, float, bytes]], percent: int) -> str:
    seconds = sorted(took for _, took, _ in answers)
    return f"{seconds[int(len(seconds) * percent / 100)] * 1000:.0f}" if seconds else ""


async def _recovery(it: "Load", carried: float) -> int | None:
    """Return the seconds until one passes in which all messages of a small load are accepted, and soon."""
    for second in range(1, RECOVERY + 1):
        answers = await flood(it.port, CALM * carried, 1, it.request)
        it.accepted += [json.loads(body)["jobId"] for status, _, body in answers.each if status == ACCEPTED]
        if {status for status, *_ in answers.each} == {ACCEPTED} and float(_percentile(answers.each, 99)) < CALM_MS:
            return second
    return None


@dataclass
class Load(service.Service):
    """A service, what is asked of it, and what it has accepted."""

    #: keys of the accepted messages
    accepted: list[str] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def request(self) -> bytes:
        """Return a message to one of the accounts, with a key of its own."""
        number = next(self.numbers)
        order = {
            "phone": f"1555{number % 10_000_000:07}", "message": MESSAGE, "idempotencyKey": f"order-{number}",
            "account": self.lanes.accounts[number % len(self.lanes.accounts)],
        }  # fmt: skip
        return post("/send", json.dumps(order).encode(), x_api_key=self.key)

    def sizes(self) -> list[str]:
        """Return the resident memory of both processes, in MB."""
        return [
            "ended" if each.returncode is not None else f"{psutil.Process(each.pid).memory_info().rss / MB:.0f}"
            for each in (self.api, self.worker)
        ]

    def ended(self) -> int:
        """Return how many processes have ended."""
        return sum(each.returncode is not None for each in (self.api, self.worker))

    async def lost(self) -> int:
        """Return how many of the accepted messages have no job."""
        return int((await self.database.all("bench_lost", keys=self.accepted))[0]["lost"])
