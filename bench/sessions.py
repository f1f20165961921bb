"""Many accounts on few seats: are all served, how long do messages wait, and how much memory does it take."""

import asyncio
import random
import statistics
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from bench.house import MB, House, open_house
from sql.database import Row

PROGRESS = 20  # linked accounts between two lines of output
LINKING = 6  # accounts that are linked at once
POLL_SECONDS = 1.0  # between counts of the ended jobs
TIMEOUT = 1800.0  # seconds after the last message is due


async def run(accounts: int, seats: int, messages: int, recipients: int, over: float) -> int:
    """Link accounts, let messages fall due at random within `over` seconds, wait for all; return an exit code."""
    async with open_house(max_sessions=seats) as house:
        began = time.monotonic()
        linked = await _link(house, accounts)
        print(f"{accounts} accounts linked on {seats} seats in {time.monotonic() - began:.0f} s")
        scans = await _scans(house)
        began = time.monotonic()
        await _order(house, linked, messages, recipients, over)
        ended = await _finish(house, accounts * messages, over)
        print(f"{ended} of {accounts * messages} messages ended in {time.monotonic() - began:.0f} s")
        return await _report(house, accounts * messages, scans)


async def _link(house: House, accounts: int) -> list[str]:
    slots = asyncio.Semaphore(min(LINKING, max(1, house.settings.seats - 1)))

    async def link(number: int) -> str:
        async with slots:
            account = await house.link(f"bench {number}")
            if (number + 1) % PROGRESS == 0:
                print(f"  {number + 1} linked", flush=True)
            return account

    return await asyncio.gather(*(link(number) for number in range(accounts)))


async def _scans(house: House) -> int:
    row = await house.database.one("bench_scans")
    return int(row["scans"]) if row else 0


async def _order(house: House, accounts: list[str], messages: int, recipients: int, over: float) -> None:
    now = datetime.now(UTC) + timedelta(seconds=5)
    orders = [
        {
            "account": account,
            "phone": f"1555{place:03}{number % recipients:04}",
            "message": f"message {number} of account {place}",
            "sendAt": (now + timedelta(seconds=random.uniform(0, over))).isoformat(),  # noqa: S311  # no secret
        }
        for place, account in enumerate(accounts)
        for number in range(messages)
    ]
    for begin in range(0, len(orders), 1000):
        answer = await house.client.post("/send/batch", {"jobs": orders[begin : begin + 1000]})
        refused = [item for item in answer["items"] if item["status"] != 202]  # noqa: PLR2004  # accepted
        if refused:
            raise SystemExit(f"{len(refused)} messages were refused, the first: {refused[0]}")


async def _finish(house: House, total: int, over: float) -> int:
    end, printed, ended = time.monotonic() + over + TIMEOUT, 0.0, 0
    while ended < total and time.monotonic() < end:
        row = await house.database.one("bench_ended")
        ended = int(row["ended"]) if row else 0
        if time.monotonic() - printed > 30:  # noqa: PLR2004  # seconds between lines
            printed = time.monotonic()
            print(f"  {ended} of {total} ended, {house.watch.most} browsers at most", flush=True)
        await asyncio.sleep(POLL_SECONDS)
    return ended


async def _report(house: House, total: int, scans: int) -> int:
    waits = [row["seconds"] for row in await house.database.all("bench_waits")]
    states = {row["state"]: row["jobs"] for row in await house.database.all("bench_states")}
    wakes = _wakes(await house.database.all("bench_changes"))
    got = (await house.client.get("/sandbox/messages"))["items"]
    texts = [(item["account"], item["text"]) for item in got]
    again = await _scans(house) - scans
    print(f"jobs by state: {states}")
    print(f"recipients have {len(texts)} messages, {len(texts) - len(set(texts))} of them twice; {again} new QR codes")
    print(f"waiting time, due to sent: {_spread(waits)} s")
    print(f"wake-up, asleep to ready: {_spread(wakes)} s in {len(wakes)} wake-ups")
    print(f"browsers: {house.watch.most} at most, {house.watch.peak // MB} MB PSS at the peak; {house.parts()} MB")
    good = len(texts) == len(set(texts)) == total and again == 0 and house.watch.most <= house.settings.seats
    return 0 if good else 1


def _wakes(changes: list[Row]) -> list[float]:
    return [
        (ready["created_at"] - starting["created_at"]).total_seconds()
        for starting, ready in pairwise(changes)
        if starting["account_id"] == ready["account_id"]
        and (starting["from_state"], ready["from_state"], ready["to_state"]) == ("hibernated", "starting", "ready")
    ]


def _spread(values: list[float]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    at = {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] for name, part in (("p95", 0.95), ("p99", 0.99))
    }
    return f"p50 {statistics.median(ordered):.1f}, p95 {at['p95']:.1f}, p99 {at['p99']:.1f}, max {ordered[-1]:.1f}"
