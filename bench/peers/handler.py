"""Ceilings of our own: the same API, which keeps nothing of a message, or has one plain INSERT and commit for each."""

from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette

from api.sending.acceptance import Accepted, Answer, Order
from commands import environment
from wiring.api import make_api

CONNECTIONS = 10
TABLE = """
    create table plain_orders (
        id text primary key, account text, phone text, message text, key text,
        created_at timestamptz not null default now())
"""
INSERT = "insert into plain_orders (id, account, phone, message, key) values (%s, %s, %s, %s, %s)"


def make_table(url: str) -> None:
    """Make the table of the plain INSERT."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)


class KeepsNothing:
    """In place of the flusher: says that each order is queued."""

    def admit(self, org: str) -> None:
        """Let it in."""

    async def accept(self, _: str, order: Order) -> Answer:
        """Return the answer of a new job."""
        return Accepted(order.request.idempotency_key or order.id, "queued", replayed=False)


class InsertsPlainly(KeepsNothing):
    """Inserts each order by a statement and a commit of its own, and answers it then."""

    def __init__(self, url: str) -> None:
        self._pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            url, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False, kwargs={"autocommit": True}
        )

    async def accept(self, org: str, order: Order) -> Answer:
        """Return the answer of a new job once its row is committed."""
        if self._pool.closed:
            await self._pool.open()
        wanted = order.request
        async with self._pool.connection() as connection:
            await connection.execute(
                INSERT, [order.id, wanted.account, wanted.phone, wanted.message, wanted.idempotency_key]
            )
        return await super().accept(org, order)


def make(kind: str) -> Starlette:
    """Return the API with the settings of the environment, which keeps `nothing` or does an `insert`."""
    settings = environment.load()
    url = environment.database_url(settings)
    app = make_api(settings, url)
    app.state.flusher = InsertsPlainly(url) if kind == "insert" else KeepsNothing()
    return app
