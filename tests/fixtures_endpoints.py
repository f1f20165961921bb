"""Endpoints of the API in process, and deliveries to a receiver that listens."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
from fixtures_api import ENCRYPTION_KEY, new_account
from fixtures_deliveries import working
from fixtures_lanes import value

from crypto import Sealer
from sql.database import Database
from tasks.delivery.lane import DeliveryWork
from tasks.lanes import Drain

SEALER = Sealer.from_text(ENCRYPTION_KEY)
ATTEMPTS = "select count(*) from attempts"


async def register(client: httpx2.AsyncClient, url: str = "http://receiver.test/", **fields: object) -> dict[str, Any]:
    """Register an endpoint; return it, with its secret."""
    answer = await client.post("/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    endpoint: dict[str, Any] = answer.json()
    return endpoint


async def happen(client: httpx2.AsyncClient, *keys: str) -> None:
    """Let an event of the type JobCancelled be written for each key."""
    accounts = (await client.get("/accounts")).json()["items"]
    account = accounts[0]["id"] if accounts else await new_account(client)
    for key in keys:
        order = {"phone": "15551230001", "message": key, "idempotencyKey": key, "account": account}
        assert (await client.post("/send", json=order)).status_code == 202
        assert (await client.delete(f"/jobs/{key}")).status_code == 200


def delivering(database: Database) -> AbstractAsyncContextManager[DeliveryWork]:
    """What delivers to endpoints of the API."""
    return working(database, sealer=SEALER)


async def deliver(database: Database, work: DeliveryWork, endpoint: str) -> int:
    """Drain an endpoint's lane; return how many requests were made."""
    (drain,) = await database.read(Drain, "begin_drain", lane=endpoint, worker="w", wakeup=1)
    before = await value(database, ATTEMPTS)
    if await work.begin(drain):
        while await work.one(drain):
            pass
    return int(str(await value(database, ATTEMPTS))) - int(str(before))
