"""Run one of the peers: python -m bench.peers bare|nothing|insert PORT | jobs PORT URL | worker URL SLOTS."""

import asyncio
import sys

import uvicorn
from starlette.applications import Starlette

import server
from bench.peers import bare, handler, procrastinate_jobs


def _serve(app: Starlette, port: str) -> None:
    server.make_garbage_collection_rare()  # as ours does
    config = server.config(app, "127.0.0.1", int(port))
    config.lifespan = "on"
    uvicorn.Server(config).run()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", port]:
            _serve(bare.make(), port)
        case ["nothing" | "insert" as kind, port]:
            _serve(handler.make(kind), port)
        case ["jobs", port, url]:
            _serve(procrastinate_jobs.make(url), port)
        case ["worker", url, slots]:
            asyncio.run(procrastinate_jobs.work(url, int(slots)))
        case _:
            sys.exit(__doc__)
