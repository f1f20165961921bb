"""Two workers that want the same account, one of them frozen now and then for longer than its lease."""

import asyncio
import signal
import time
from collections import Counter

from bench.house import House, free_worker, most_at_once, open_house

LEASE = 15.0  # seconds
FROZEN = LEASE + 7  # seconds, more than a takeover takes
BETWEEN = 8.0  # seconds between two freezes
SEND_EVERY = 1.0  # seconds


async def run(seconds: float) -> int:
    """Freeze whoever holds the account, again and again; return 0 when no two sessions were ever live at once."""
    async with open_house(max_sessions=1, lease_seconds=LEASE) as house:
        account = await house.link("contested")
        # Sealed, so that another disk can take over.
        await house.client.post(f"/accounts/{account}/disconnect")
        await house.client.wait(f"/accounts/{account}", "state", {"disconnected"}, 60)
        await house.client.post(f"/accounts/{account}/connect")
        keeper = asyncio.create_task(_keep(house, "second"))
        sending = asyncio.create_task(_send(house, account))
        frozen = await _freeze(house, account, seconds)
        sending.cancel()
        code = await _report(house, account, frozen)
        keeper.cancel()
        return code


async def _keep(house: House, name: str) -> None:
    """Run another worker; what ends is started again, as a platform does, the first one too."""
    environments = {
        "first": house.environment,
        "second": free_worker(house.environment, house.settings.data_dir / name),
    }
    house.workers["second"] = await house.start(environments["second"])
    while True:
        for each, process in list(house.workers.items()):
            if process.returncode is not None:
                house.workers[each] = await house.start(environments[each])
        await asyncio.sleep(0.5)


async def _send(house: House, account: str) -> None:
    number = 0
    while True:
        await house.client.post(
            "/send", {"account": account, "phone": f"1555123{number:04}", "message": f"message {number}"}
        )
        number += 1
        await asyncio.sleep(SEND_EVERY)


async def _freeze(house: House, account: str, seconds: float) -> int:
    end, times = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        holder = (await house.client.get(f"/accounts/{account}"))["worker"]
        row = await house.database.one("bench_host", worker=holder) if holder else None
        process = next((one for one in house.workers.values() if row and str(one.pid) == row["pid"]), None)
        if process is None or process.returncode is not None:
            await asyncio.sleep(0.5)
            continue
        times += 1
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(FROZEN)
        finally:
            process.send_signal(signal.SIGCONT)
        await asyncio.sleep(BETWEEN)
    return times


async def _report(house: House, account: str, frozen: int) -> int:
    await asyncio.sleep(5)
    spans = (await house.client.get(f"/sandbox/sessions?account={account}"))["items"]
    most = most_at_once(spans)
    got = Counter(item["text"] for item in (await house.client.get("/sandbox/messages"))["items"])
    states = {row["state"]: row["jobs"] for row in await house.database.all("bench_states")}
    twice = sum(1 for count in got.values() if count > 1)
    print(f"frozen {frozen} times for {FROZEN:.0f} s; {len(spans)} sessions, {most} live at once at most")
    print(f"recipients have {len(got)} messages, {twice} of them twice; jobs by state: {states}")
    return 0 if most == 1 and not twice else 1
