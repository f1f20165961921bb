"""A peer: one procrastinate job for each message. Its account is its lock, so that one of an account runs at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import procrastinate
import psycopg
from procrastinate.schema import SchemaManager
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

QUEUE, CONNECTIONS = "send", 10


def make_database(url: str) -> str:
    """Make a database with procrastinate's tables alone; return its URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create database peers")
    peer = psycopg.conninfo.make_conninfo(url, dbname="peers")
    with psycopg.connect(peer, autocommit=True) as connection:
        connection.execute(SchemaManager.get_schema().encode())
    return peer


def open_jobs(url: str) -> procrastinate.App:
    """Return the app of the jobs, whose one task does nothing."""
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    )

    @app.task(name="send", queue=QUEUE)
    async def _send(phone: str, message: str) -> None:
        """Cost nothing, as the browser that it is compared with."""

    return app


async def work(url: str, slots: int) -> None:
    """Run a worker until it is ended."""
    async with (app := open_jobs(url)).open_async():
        await app.run_worker_async(queues=[QUEUE], concurrency=slots)


def make(url: str) -> Starlette:
    """Return an app that takes messages over HTTP."""
    jobs = open_jobs(url)

    async def send(request: Request) -> Response:
        order = await request.json()
        job = await jobs.configure_task("send", queue=QUEUE, lock=order["account"]).defer_async(
            phone=order["phone"], message=order["message"]
        )
        return JSONResponse({"status": "queued", "jobId": job}, 202)

    @asynccontextmanager
    async def opened(_: Starlette) -> AsyncIterator[None]:
        async with jobs.open_async():
            yield

    return Starlette(routes=[Route("/send", send, methods=["POST"])], lifespan=opened)
