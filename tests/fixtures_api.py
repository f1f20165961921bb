"""The API in process: an app on a database of the test's own, and clients of it."""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import httpx2
from psycopg.sql import Composed
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from settings import Settings, read
from sql.database import Database
from sql.roles import Role
from wiring.api import create_app

#: Where there is no Postgres.
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
KEY = "test-key-0123456789"
ADMIN_KEY = "test-admin-key-0123456789"
ENCRYPTION_KEY = base64.b64encode(bytes(32)).decode()


def settings(**values: object) -> Settings:
    """Return settings for tests: no rate limit, nothing from the environment's own files."""
    defaults = {
        "api_key": KEY,
        "admin_key": ADMIN_KEY,
        "encryption_key": ENCRYPTION_KEY,
        "rate_limit_per_minute": 0,
        "_env_file": None,
    }
    return read(**(defaults | values))


def production(url: str) -> dict[str, str]:
    """Return the settings that make it production."""
    return {"env": "production", "database_url": url}


@asynccontextmanager
async def running(url: str, mounts: Sequence[BaseRoute] = (), **values: str | float | None) -> AsyncIterator[Starlette]:
    """Run an app with its lifespan on a database."""
    app = create_app(settings(**values), Database(url, Role.API), mounts)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: Starlette, address: str = "127.0.0.1", **headers: str) -> httpx2.AsyncClient:
    """Return a client of the app, which sends the key unless `headers` have another."""
    transport = httpx2.ASGITransport(app, client=(address, 40000))
    named = {"x-api-key": KEY} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.AsyncClient(transport=transport, base_url="http://postrider.test", headers=named)


@asynccontextmanager
async def api(url: str, **values: str | float | None) -> AsyncIterator[httpx2.AsyncClient]:
    """Run an app and return a client of it."""
    async with running(url, (), **values) as app, client_of(app) as client:
        yield client


async def new_account(client: httpx2.AsyncClient, name: str = "Shop") -> str:
    """Create an account and return its id."""
    answer = await client.post("/accounts", json={"name": name, "transport": "sandbox"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def rows(database: Database, statement: LiteralString | Composed) -> list[tuple[Any, ...]]:
    """Run a statement of the test's own."""
    async with database.transaction() as tx:
        return await (await tx.connection.execute(statement)).fetchall()
