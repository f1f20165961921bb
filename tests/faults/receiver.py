"""A webhook receiver as a program, to be killed: python -m faults.receiver <port> <secret> <file>.

It verifies each event and writes it into the file, a line each, before it answers.
"""

import json
import sys
import time
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crypto import CryptoError, verify
from server import config, run


def make(secret: str, file: Path) -> Starlette:
    """Return the receiver."""

    async def receive(request: Request) -> Response:
        body, headers = await request.body(), request.headers
        try:
            verify(
                [secret],
                headers["webhook-id"],
                headers["webhook-timestamp"],
                headers["webhook-signature"],
                body,
                now=time.time(),
            )
        except (CryptoError, KeyError) as error:
            line = {"refused": str(error), "body": body.decode(errors="replace")}
        else:
            line = {"id": headers["webhook-id"], **json.loads(body)}
        with file.open("a") as out:
            # What a killed one left half written ends there.
            out.write("\n" + json.dumps(line) + "\n")
        return Response(status_code=401 if "refused" in line else 204)

    return Starlette(routes=[Route("/hook", receive, methods=["POST"])])


if __name__ == "__main__":
    run(config(make(sys.argv[2], Path(sys.argv[3])), "127.0.0.1", int(sys.argv[1]), grace=1))
