"""The clients: orders in a known number, each with a text of its own, and what they were told."""

import asyncio
import itertools
import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import httpx2

PATIENCE = 5.0  # seconds that a client waits for an answer
AGAIN = 0.5  # seconds until it asks again
ASK = 60.0  # seconds for which a client goes on asking after the time of its order
CLIENTS = 3
PAUSE = 0.25  # seconds between the orders of one client of the crowd

#: codes of answers that say that nothing was accepted
REFUSED_FOR_NOW = {"database_busy", "database_full", "too_many_requests", "queue_full"}

#: "202", a refusal for good, or no answer that says
Told = Literal["accepted", "refused", "unknown"]


@dataclass
class Order:
    """One message that a client wants sent, and what it was told."""

    text: str
    account: str
    phone: str
    #: without one a client cannot ask again: it would have two
    key: str | None
    #: seconds after the beginning of the run
    at: float
    #: seconds until it is to go, and until it is not wanted any more
    ahead: float | None = None
    expires: float | None = None
    #: seconds after which the client takes it back
    takes_back: float | None = None
    told: Told = "unknown"
    job: str | None = None
    #: whether it was told that the job was cancelled
    cancelled: bool = False
    #: when it was asked first and when it was accepted, by the loop's clock
    asked_at: float = 0.0
    told_at: float = math.inf
    #: every status that came, 0 for none
    answers: list[int] = field(default_factory=list)

    def body(self) -> dict[str, object]:
        """Return the request."""
        now = datetime.now(UTC)
        body: dict[str, object] = {"account": self.account, "phone": self.phone, "message": self.text}
        if self.key:
            body["idempotencyKey"] = self.key
        if self.ahead is not None:
            body["sendAt"] = (now + timedelta(seconds=self.ahead)).isoformat()
        if self.expires is not None:
            body["expiresAt"] = (now + timedelta(seconds=self.expires)).isoformat()
        return body


def make_orders(name: str, accounts: list[str], count: int, over: float, rng: random.Random) -> list[Order]:
    """Return orders that fall due within `over` seconds, oldest first: some ahead, taken back or expiring."""
    orders = []
    for number in range(count):
        account = rng.randrange(len(accounts))
        order = Order(
            text=f"{name} message {number}",
            account=accounts[account],
            # Few recipients, so that messages to one meet each other.
            phone=f"15557{account:02}{rng.randrange(3):04}",
            key=None if rng.random() < 0.1 else f"{name.replace(' ', '-')}-{number}",
            at=rng.uniform(0, over),
        )
        kind = rng.random()
        if kind < 0.1:
            order.ahead = rng.uniform(1, over)
        elif kind < 0.2:
            order.takes_back = rng.uniform(0, 2)
        elif kind < 0.25:
            order.ahead, order.takes_back = over, rng.uniform(0, over / 2)
        elif kind < 0.3:
            order.expires = rng.uniform(1, 5)
        orders.append(order)
    return sorted(orders, key=lambda order: order.at)


async def place(url: str, key: str, orders: list[Order], over: float) -> None:
    """Place the orders at their times; ask again until told or until `over` seconds after the last one was due."""
    async with httpx2.AsyncClient(
        base_url=url, headers={"x-api-key": key}, trust_env=False, timeout=PATIENCE
    ) as http, asyncio.TaskGroup() as group:  # fmt: skip
        began = asyncio.get_running_loop().time()
        for order in orders:
            group.create_task(_place(http, order, began, over))


async def crowd(url: str, key: str, name: str, account: str, *, clients: int, over: float) -> list[Order]:
    """Have so many clients place one order after the other for `over` seconds, and ask again until told."""
    orders: list[Order] = []
    clock = asyncio.get_running_loop().time
    end = clock() + over
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(
        base_url=url, headers={"x-api-key": key}, trust_env=False, timeout=PATIENCE, limits=limits
    ) as http, asyncio.TaskGroup() as group:  # fmt: skip

        async def one(client: int) -> None:
            for number in itertools.count():
                if clock() > end:
                    return
                which = f"{client}-{number}"
                order = Order(
                    f"{name} crowd {which}", account, "15557990000", f"{name.replace(' ', '-')}-crowd-{which}", 0.0
                )
                orders.append(order)
                await _place(http, order, clock(), ASK)
                await asyncio.sleep(PAUSE)

        for client in range(clients):
            group.create_task(one(client))
    return orders


async def _place(http: httpx2.AsyncClient, order: Order, began: float, over: float) -> None:
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(max(0.0, began + order.at - clock()))
    # The same bytes each time: another time would be another content under the same key.
    body, end, order.asked_at = order.body(), clock() + over, clock()
    while order.told == "unknown" and clock() < end:
        status, answer = await _ask(http, "POST", "/send", body)
        order.answers.append(status)
        if status == 202:
            order.told, order.job, order.told_at = "accepted", str(answer["jobId"]), clock()
        elif 400 <= status < 500 and status != 429:
            order.told = "refused"
        elif order.key is None and answer.get("code") not in REFUSED_FOR_NOW:
            break  # it may have been accepted: asking again could send it twice
        else:
            await asyncio.sleep(AGAIN)
    if order.job and order.takes_back is not None:
        await asyncio.sleep(order.takes_back)
        status, _ = await _ask(http, "DELETE", f"/jobs/{order.job}", None)
        order.cancelled = status in {200, 204}


async def _ask(
    http: httpx2.AsyncClient, method: str, path: str, body: dict[str, object] | None
) -> tuple[int, dict[str, object]]:
    try:
        response = await http.request(method, path, json=body)
        return response.status_code, response.json() if response.content else {}
    except (httpx2.HTTPError, ValueError):
        return 0, {}
