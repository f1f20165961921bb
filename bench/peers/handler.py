"""Ceilings of our own: the same API, which keeps nothing of a message, or has one plain INSERT and commit for each."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette

from api.sending.acceptance import PATIENCE, Acceptance, Order, Outcome
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


class KeepsNothing(Acceptance):
    """Says that each order is queued."""

    async def insert(self, orders: Sequence[Order], patience: float = PATIENCE) -> list[Outcome]:  # noqa: ARG002
        """Return what has become of each order, as if it were a job."""
        now = datetime.now(UTC)
        return [Outcome("queued", order.id, "queued", order.request.content, None, None, now) for order in orders]

    async def wake(self, lanes: Collection[str]) -> None:
        """Wake nothing."""


@dataclass(frozen=True)
class InsertsPlainly(KeepsNothing):
    """Inserts each order by a statement and a commit of its own."""

    pool: AsyncConnectionPool[Any]

    async def insert(self, orders: Sequence[Order], patience: float = PATIENCE) -> list[Outcome]:
        """Return that each order is queued, once all are committed."""
        if self.pool.closed:
            await self.pool.open()
        await asyncio.gather(*(self._insert(order) for order in orders))
        return await super().insert(orders, patience)

    async def _insert(self, order: Order) -> None:
        wanted = order.request
        values = [order.id, wanted.account, wanted.phone, wanted.message, wanted.idempotency_key]
        async with self.pool.connection() as connection:
            await connection.execute(INSERT, values)


def make(kind: str) -> Starlette:
    """Return the API with the settings of the environment, which keeps `nothing` or does an `insert`."""
    settings = environment.load()
    url = environment.database_url(settings)
    app = make_api(settings, url)
    flusher = app.state.flusher
    terms = {field.name: getattr(flusher.acceptance, field.name) for field in fields(flusher.acceptance)}
    if kind == "insert":
        pool = AsyncConnectionPool(
            url, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False, kwargs={"autocommit": True}
        )
        flusher.acceptance = InsertsPlainly(**terms, pool=pool)
    else:
        flusher.acceptance = KeepsNothing(**terms)
    return app
