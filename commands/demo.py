"""`postrider demo`: link an account, send one message and verify its webhook, printed step by step."""

import asyncio
import fcntl
import json
import secrets
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import server
from browser.engine.chromium import find_chromium
from commands import environment
from commands.all_in_one import all_in_one
from commands.client import Client, Json, draw
from commands.demo_timing import PATIENCE, TIMING
from crypto import CryptoError, new_secret, verify
from errors import OperatorError
from settings import Settings
from sql import embedded
from sql.database import Database
from tasks.web.sessions import seats_of
from tasks.worker import Worker

PHONE = "15551234567"
MESSAGE = "Hello! Your order #42 is on its way.\nIt arrives on Friday."
LIMIT = 60.0  # seconds for each step
HOME, USED = "demo-", "in-use"  # prefix of a demo's directory; the file in it that is locked while the demo runs
FAST = replace(TIMING, delivered=0.2, read=0.4)  # recipients who read at once


@dataclass
class Receiver:
    """A webhook receiver that verifies what it gets."""

    secret: str
    events: asyncio.Queue[Json] = field(default_factory=asyncio.Queue)

    async def receive(self, request: Request) -> Response:
        """Answer 204 to an event with a good signature, 401 to any other."""
        body, headers = await request.body(), request.headers
        try:
            verify(
                [self.secret],
                headers["webhook-id"],
                headers["webhook-timestamp"],
                headers["webhook-signature"],
                body,
                now=time.time(),
            )
        except (CryptoError, KeyError):
            return Response(status_code=401)
        await self.events.put({"id": headers["webhook-id"], **json.loads(body)})
        return Response(status_code=204)


class Story:
    """Prints what happens, with the seconds since the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def tell(self, text: str) -> None:
        """Print a step."""
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)  # noqa: T201  # a command prints

    def show(self, text: str) -> None:
        """Print details of the last step."""
        for line in text.rstrip("\n").splitlines():
            print(f"          {line}", flush=True)  # noqa: T201  # a command prints


def run_demo(data_dir: Path) -> int:
    """Run the demo in a new data directory of its own; the picture goes to `data_dir`/demo.png."""
    with home(data_dir) as folder, server.listen() as api, server.listen() as hook:
        settings = environment.load(
            data_dir=folder, database_url=None, env="development", host="127.0.0.1", port=api.getsockname()[1],
            webhook_url=f"http://127.0.0.1:{hook.getsockname()[1]}/hook", webhook_secret=new_secret("whsec_"),
            max_sessions=1, webhook_allow_cidrs=None, api_secret=None,
        )  # fmt: skip
        return asyncio.run(_demo(settings, api, hook, data_dir / "demo.png"))


@contextmanager
def home(data_dir: Path) -> Iterator[Path]:
    """Make a directory for this demo, and remove those of demos that have ended or were killed.

    Another demo may still be running: in another terminal, or because only its `make` was killed.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with (data_dir / "demo.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            for old in data_dir.glob(f"{HOME}*"):
                _remove(old)
            own = Path(mkdtemp(prefix=HOME, dir=data_dir))
            fcntl.flock(stack.enter_context((own / USED).open("w")), fcntl.LOCK_EX)
        yield own


def _remove(old: Path) -> None:
    """Remove a demo's directory, unless that demo is running.

    The database server of a killed demo may still run there, and its browser may still write: files that cannot be
    removed now are removed by the next demo.
    """
    with (old / USED).open("a") as used, suppress(BlockingIOError):
        fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
        embedded.stop_server(old)
        shutil.rmtree(old, ignore_errors=True)


async def _demo(settings: Settings, api: socket.socket, hook: socket.socket, picture: Path) -> int:
    story = Story()
    story.tell("Starting an embedded PostgreSQL (from a Python wheel, on a Unix socket, fsync on), and a Chromium …")
    url, _ = await asyncio.gather(
        asyncio.to_thread(_database, settings),
        find_chromium(settings.chromium_path, sandbox=settings.chromium_sandbox, profiles=settings.profiles.resolve()),
    )
    receiver = Receiver(settings.webhook_secret.get_secret_value() if settings.webhook_secret else "")
    async with _serving(settings, url, receiver, api, hook) as worker:
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        async with Client(f"http://127.0.0.1:{settings.port}", key) as client:
            await client.wait_up(LIMIT)
            story.tell(f"The API listens on {client.url}; a worker and a webhook receiver are running.")
            account = await _link(story, client)
            job = await _send(story, client, receiver)
            await _report(story, client, url, job)
            await seats_of(worker.parts).sessions[account].page.screenshot(picture)
            story.tell(f"The chat as the browser shows it is in {picture}")
    _farewell(story)
    return 0


def _database(settings: Settings) -> str:
    environment.migrate(settings)
    return environment.database_url(settings)


@asynccontextmanager
async def _serving(
    settings: Settings, url: str, receiver: Receiver, api: socket.socket, hook: socket.socket
) -> AsyncIterator[Worker]:
    app = Starlette(routes=[Route("/hook", receiver.receive, methods=["POST"])])
    async with (
        server.running(server.config(app, "127.0.0.1", hook.getsockname()[1]), listener=hook),
        all_in_one(settings, url, PATIENCE, FAST, listener=api) as worker,
    ):
        yield worker


async def _link(story: Story, client: Client) -> str:
    account = (await client.post("/accounts", {"name": "Demo", "transport": "sandbox"}))["id"]
    await client.post(f"/accounts/{account}/connect")
    story.tell(f"POST /accounts made {account}; a real Chromium opens the sandbox's WhatsApp Web …")
    qr = await client.qr(account, LIMIT)
    story.tell("It shows this QR code. The sandbox's phone scans it, as yours would with a real account:")
    story.show(draw(qr))
    await client.scan(account)
    linked = await client.wait(f"/accounts/{account}", "state", {"ready"}, LIMIT)
    story.tell(f"Linked as +{linked['phone']}; the chat list is there.")
    return str(account)


async def _send(story: Story, client: Client, receiver: Receiver) -> str:
    key = f"order-42-{secrets.token_hex(3)}"
    body = {"phone": PHONE, "message": MESSAGE, "idempotencyKey": key, "metadata": {"order": 42}}
    answer = await client.post("/send", body)
    story.tell(f"POST /send answered 202 {json.dumps(answer)}: the job is a row in Postgres.")
    story.tell("The worker opens the chat, types, writes `submitting`, presses Enter and waits for the tick …")
    try:
        async with asyncio.timeout(LIMIT):
            event = await receiver.events.get()
            while event["type"] != "JobCompleted":
                event = await receiver.events.get()
    except TimeoutError:
        raise OperatorError(f"No JobCompleted arrived within {LIMIT:.0f} s.") from None
    story.tell(f"The webhook {event['type']} arrived, and its signature is valid ({event['id']}):")
    story.show(json.dumps(event["data"], indent=2))
    return key


async def _report(story: Story, client: Client, url: str, job: str) -> None:
    seen = await client.wait(f"/jobs/{job}", "status", {"read"}, LIMIT)
    story.tell(f"GET /jobs/{job} shows its timeline:")
    for step in seen["timeline"]:
        story.show(f"{step['at']}  {step['status']}{': ' + step['detail'] if step['detail'] else ''}")
    got = (await client.get(f"/sandbox/messages?phone={PHONE}"))["items"]
    if [item["text"] for item in got] != [MESSAGE]:
        raise OperatorError(f"The recipient has {len(got)} messages instead of exactly this one.")
    story.tell("The recipient has it once, word for word. In SQL it is this row (`select * from report.jobs`):")
    async with Database(url) as database:
        row: dict[str, Any] = await database.one("report_of_job", job=job) or {}
    story.show("\n".join(f"{name:16} {value}" for name, value in row.items()))


def _farewell(story: Story) -> None:
    story.tell("Done. Everything was real except WhatsApp's own page. Next:")
    story.show(
        "make up                  runs the service until Ctrl-C, and prints a curl line that works\n"
        "open .data/demo.png      shows the chat\n"
        "less README.md           explains how to link a real account, and how to deploy"
    )
