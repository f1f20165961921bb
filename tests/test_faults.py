"""Processes that stop, die and come back; Postgres that goes away."""

import asyncio
import signal
from pathlib import Path

import httpx2
import pytest
from fixtures_house import KEY, Cluster, cluster
from fixtures_postgres import open_folder

from sql import embedded, schema
from sql.embedded import stop_server

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]


async def sent_count(it: Cluster) -> int:
    jobs = (await it.client.get("/jobs?limit=200"))["items"]
    return sum(1 for job in jobs if job["sentAt"])


async def wait_sent(it: Cluster, count: int, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while await sent_count(it) < count:
            await asyncio.sleep(0.1)


async def wait_alive(it: Cluster) -> None:
    """Wait until the worker serves its health: before that it has not begun to mind signals."""
    async with asyncio.timeout(30), httpx2.AsyncClient(trust_env=False) as http:
        while True:
            try:
                if (await http.get(f"http://127.0.0.1:{it.settings.worker_port}/healthz")).is_success:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.05)


async def test_rolling_restarts_lose_and_double_nothing(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        worker = await it.start("worker")
        accounts = await asyncio.gather(*(it.link(str(n)) for n in range(2)))
        texts = {account: [f"{n} of {account}" for n in range(6)] for account in accounts}
        for n in range(6):
            for number, account in enumerate(accounts):
                await it.send(account, f"155533300{number:02}", texts[account][n])
        for restarts in range(3):
            await wait_sent(it, 2 + 3 * restarts)
            await wait_alive(it)
            assert await worker.stop() == 0
            worker = await it.start("worker")
        await wait_sent(it, 12)
        for number, account in enumerate(accounts):
            assert await it.received(f"155533300{number:02}") == texts[account]
        for account in accounts:
            # One that had nothing left to send sleeps since the last restart; the next message wakes it without a scan.
            assert (await it.ended(await it.send(account, "15553330099", f"after {account}")))["sentAt"]
            assert (await it.client.get(f"/accounts/{account}"))["state"] == "ready", "no new scan was asked for"


async def test_a_killed_worker_loses_and_doubles_nothing(database_url: str, tmp_path: Path) -> None:
    async with cluster(tmp_path, database_url) as it:
        worker = await it.start("worker")
        account = await it.link()
        texts = [f"message {n}" for n in range(6)]
        for text in texts:
            await it.send(account, "15553330000", text)
        await wait_sent(it, 2)
        await worker.stop(signal.SIGKILL)
        await it.start("worker")
        await wait_sent(it, 6)
        assert await it.received("15553330000") == texts


async def test_while_postgres_is_away_nothing_is_accepted_and_then_all_goes_on() -> None:
    with open_folder() as folder:
        await _stop_and_start(folder)


async def _stop_and_start(folder: Path) -> None:
    url = embedded.start(folder)
    schema.migrate(url)
    async with cluster(folder, url) as it:
        await it.start("worker")
        account = await it.link()
        accepted: list[str] = []
        refused: list[httpx2.Response] = []

        async def sender() -> None:
            async with httpx2.AsyncClient(base_url=it.client.url, headers={"x-api-key": KEY}, timeout=15) as http:
                for n in range(40):
                    body = {"account": account, "phone": "15553330001", "message": f"n{n}", "idempotencyKey": f"k{n}"}
                    response = await http.post("/send", json=body)
                    if response.status_code == 202:
                        accepted.append(f"k{n}")
                    else:
                        refused.append(response)
                    if len(refused) == 2:
                        return

        sending = asyncio.create_task(sender())
        async with asyncio.timeout(30):
            while len(accepted) < 5:
                await asyncio.sleep(0.01)
        stop_server(folder)
        await sending
        assert {response.status_code for response in refused} == {503}
        assert all(response.headers["retry-after"] for response in refused)
        async with httpx2.AsyncClient(base_url=it.client.url) as http:
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/healthz")).status_code == 200
        assert embedded.start(folder) == url
        await it.client.wait_up(60)
        last = await it.send(account, "15553330001", "the last", idempotencyKey="last")
        assert (await it.ended(last, 60))["sentAt"]
        async with it.database.transaction() as tx:
            cursor = await tx.connection.execute("select key from jobs where key = any (%s)", [[*accepted, "last"]])
            rows = {key for (key,) in await cursor.fetchall()}
        assert rows == {*accepted, "last"}, "a 202 was answered for what is not in the table"
        await wait_sent(it, len(rows))
        assert len(await it.received("15553330001")) == len(rows)
    stop_server(folder)
