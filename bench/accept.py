"""How many messages an API process accepts a second, compared with a ceiling and others that do the same.

Each runs as a program of its own on this machine, and rounds of all of them alternate. All but pgbench get their
requests from the same client.
"""

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.http_load import load, post
from bench.lanes_without_browser import Lanes
from bench.peers import handler, pgbench, procrastinate_jobs
from bench.peers.pgbench import MESSAGE
from bench.ports import held_ports
from bench.processes import running, serving
from bench.results import Cell, Spread, Table
from bench.service import ENCRYPTION_KEY, LIMITS, SLOTS, own_postgres
from commands.client import Client
from crypto import Sealer, hash_key, new_secret, sign_request
from sql import schema
from sql.database import Database
from sql.ids import new_id

PEERS = Path(__file__).parent / "peers"
BATCH, BATCH_CONNECTIONS = 1000, (1, 4)  # messages of one request to /send/batch, and connections that send them
SENDERS = 1000  # accounts of the measurement in which a worker sends meanwhile, to a browser that takes no time
WORKER_SECONDS = 60.0  # within which it sends its first message


@dataclass(frozen=True)
class Round:
    """What one program did in one round; times in ms, None where the program does not tell."""

    per_second: float
    p50: float | None = None
    p99: float | None = None


#: measures a program with so many connections for so many seconds
Measure = Callable[[int, float], Awaitable[Round]]


async def run(connections: list[int], seconds: float, rounds: int, waiting: int, folder: Path) -> int:
    """Measure each number of connections; `waiting` messages of one account wait in one of the measurements."""
    table = Table("accept", ("connections", "what", "messages a second", "p50, ms", "p99, ms", *MEASURES))
    batches = Table("batches", ("connections", f"messages a second, in batches of {BATCH:,}"))
    async with AsyncExitStack() as stack:
        contenders = await _contenders(stack, waiting)
        in_batches = contenders.pop(BATCHES)
        for measure in contenders.values():
            await measure(4, 1.0)  # connections and prepared statements, as in a process that runs
        table.begin()
        for count in connections:
            told: dict[str, list[Round]] = {name: [] for name in contenders}
            for _ in range(rounds):
                for name, measure in contenders.items():
                    told[name].append(await measure(count, seconds))
            for name, measured in told.items():
                table.add(
                    count, name, *_cells(measured), *(_ratio(measured, told.get(each)) for each in MEASURES.values())
                )
        table.write(folder)
        await in_batches(4, 1.0)
        batches.begin()
        for count in BATCH_CONNECTIONS:
            batches.add(count, Spread([(await in_batches(count, seconds)).per_second for _ in range(rounds)]))
    batches.write(folder)
    return 0


BATCHES = "Postrider, in batches"
NOTHING, PLAIN = "our API, which keeps nothing", "our API, with a plain INSERT and commit each"
BARE, PGBENCH = "the bare server, which keeps nothing", "pgbench, one row and commit each"
BULLMQ = "Express and a BullMQ job each"
#: column → what all are compared with in it
MEASURES = {"of ours that keeps nothing": NOTHING, "of ours with a plain INSERT": PLAIN, "of BullMQ": BULLMQ}


def _cells(rounds: list[Round]) -> tuple[Cell, ...]:
    p50, p99 = ([each.p50 for each in rounds], [each.p99 for each in rounds])
    return (
        Spread([each.per_second for each in rounds]),
        *(Spread([ms for ms in column if ms is not None], 1) if None not in column else "" for column in (p50, p99)),
    )


def _ratio(rounds: list[Round], others: list[Round] | None) -> Cell:
    """Return the median of the ratios of rounds that followed each other; nothing if there are no others."""
    if others is None:
        return ""
    return Spread([one.per_second / other.per_second for one, other in zip(rounds, others, strict=True)]).median


async def _contenders(stack: AsyncExitStack, waiting: int) -> dict[str, Measure]:
    folder, url = await own_postgres(stack)
    await asyncio.to_thread(schema.migrate, url)
    found = await _ours(stack, url, folder, waiting)
    found[BARE] = await _server(stack, "-m", "bench.peers", "bare")
    peer = await asyncio.to_thread(procrastinate_jobs.make_database, url)
    found["a procrastinate job each"] = await _server(stack, "-m", "bench.peers", "jobs", "{port}", peer)
    commits = await asyncio.to_thread(pgbench.make, peer, folder)

    async def commit(connections: int, seconds: float) -> Round:
        return Round(await commits(connections, seconds))

    found[PGBENCH] = commit
    if missing := [name for name in ("node", "npm", "redis-server") if shutil.which(name) is None]:
        print(f"Express with BullMQ is left out: {', '.join(missing)} not found.")
        print("Install them with `apt-get install nodejs npm redis-server`.")
    else:
        found[BULLMQ] = await _bullmq(stack, folder)
    return found


# --- Postrider -------------------------------------------------------------------------------------------------------


@dataclass
class _Requests:
    """Requests to our API, each with a message that no other has."""

    key: str
    account: str
    #: a key whose requests must be signed, and its secret
    signed_key: str
    secret: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def with_key(self) -> bytes:
        return self.to(self.account)

    def to(self, account: str) -> bytes:
        return post("/send", json.dumps(self._message(account)).encode(), x_api_key=self.key)

    def without_key(self) -> bytes:
        message = self._message(self.account)
        message["message"] += f" No. {message.pop('idempotencyKey')}"
        return post("/send", json.dumps(message).encode(), x_api_key=self.key)

    def signed(self) -> bytes:
        body, now = json.dumps(self._message(self.account)).encode(), str(int(time.time()))
        signature = sign_request(self.secret, now, "POST", b"/send", body).hex()
        return post("/send", body, x_api_key=self.signed_key, x_timestamp=now, x_signature=signature)

    def batch(self) -> bytes:
        messages = [self._message(self.account) for _ in range(BATCH)]
        return post("/send/batch", json.dumps({"jobs": messages}).encode(), x_api_key=self.key)

    def _message(self, account: str) -> dict[str, str]:
        number = next(self._numbers)
        return {
            "phone": f"1555{number % 10_000_000:07}", "message": MESSAGE, "account": account,
            "idempotencyKey": f"order-{number}",
        }  # fmt: skip


async def _ours(stack: AsyncExitStack, url: str, folder: Path, waiting: int) -> dict[str, Measure]:
    (port, *ports), key, secret = held_ports(3), new_secret("key_"), new_secret("sec_")
    variables = {
        "DATABASE_URL": url, "DATA_DIR": str(folder / "api"), "PORT": str(port), "ENV": "development", "API_KEY": key,
        "ENCRYPTION_KEY": ENCRYPTION_KEY, "LOG_LEVEL": "error", **LIMITS,
    }  # fmt: skip
    await stack.enter_async_context(serving(port, "-m", "cli", "api", variables=variables))
    await asyncio.to_thread(handler.make_table, url)
    ceilings = dict(zip(("nothing", "insert"), ports, strict=True))
    for kind, at in ceilings.items():
        command = ("-m", "bench.peers", kind, str(at))
        await stack.enter_async_context(serving(at, *command, variables=variables))
    async with Client(f"http://127.0.0.1:{port}", key) as client, Database(url) as database:
        await client.wait_up(60)
        accounts = [
            str((await client.post("/accounts", {"name": name, "transport": "sandbox"}))["id"]) for name in "ab"
        ]
        signing = new_id("key_")
        sealed = Sealer.from_text(ENCRYPTION_KEY).seal(secret.encode(), signing.encode())
        signed_key = new_secret("key_")
        await database.all(
            "create_key", id=signing, org="org_default", name="signed", hash=hash_key(signed_key), signing_secret=sealed
        )
        await _fill(database, accounts[1], waiting)
        senders = [f"acc_{number}" for number in range(SENDERS)]
        await Lanes(database, senders, 0).add()

    requests = _Requests(key, accounts[0], signed_key, secret)
    worker = {**variables, "DATA_DIR": str(folder / "worker"), "WORKER_DUTIES": "sessions", "MAX_SESSIONS": str(SLOTS)}
    turns = itertools.cycle(senders)
    to_senders = _over_http(port, lambda: requests.to(next(turns)))

    async def while_sent(connections: int, seconds: float) -> Round:
        async with running("-m", "bench.worker_without_browser", variables=worker), Database(url) as database:
            before = await _sent(database)
            await to_senders(1, 0.1)
            async with asyncio.timeout(WORKER_SECONDS):
                while await _sent(database) == before:  # noqa: ASYNC110  # the state is in Postgres
                    await asyncio.sleep(0.1)
            return await to_senders(connections, seconds)

    async def in_batches(connections: int, seconds: float) -> Round:
        async with Database(url) as database:
            before = await _jobs(database)
            answers = await load(port, connections, seconds, requests.batch)
            accepted = await _jobs(database) - before
        if accepted != len(answers.seconds) * BATCH:
            raise RuntimeError(f"of {len(answers.seconds)} batches, {accepted} messages were accepted")
        return Round(accepted / answers.took)

    return {
        "Postrider, with idempotency keys": _over_http(port, requests.with_key),
        "Postrider, without keys": _over_http(port, requests.without_key),
        "Postrider, with keys, signed": _over_http(port, requests.signed),
        f"Postrider, with keys, {waiting:,} of the account waiting": _over_http(port, lambda: requests.to(accounts[1])),
        f"Postrider, with keys, to {SENDERS:,} accounts, while a worker sends": while_sent,
        NOTHING: _over_http(ceilings["nothing"], requests.with_key),
        PLAIN: _over_http(ceilings["insert"], requests.with_key),
        BATCHES: in_batches,
    }


async def _sent(database: Database) -> int:
    return sum(row["jobs"] for row in await database.all("bench_states") if row["state"] == "sent")


async def _jobs(database: Database) -> int:
    return sum(row["jobs"] for row in await database.all("bench_states"))


async def _fill(database: Database, account: str, waiting: int) -> None:
    """Have so many messages of an account wait."""
    async with database.transaction() as tx:
        await tx.connection.execute("set local statement_timeout = 0")
        await tx.connection.execute(
            """
            insert into jobs
                (id, org_id, account_id, content_hash, phone, message, due_at, send_at, expires_at, timeline)
            select 'job_' || md5(gen_random_uuid()::text), 'org_default', %s, sha256(n::text::bytea), '1555' || n, %s,
                   now(), now(), now() + interval '1 day', step('queued')
            from generate_series(1, %s) as n
            """,
            [account, MESSAGE, waiting],
        )


# --- the others ------------------------------------------------------------------------------------------------------


def _over_http(port: int, request: Callable[[], bytes]) -> Measure:
    async def measure(connections: int, seconds: float) -> Round:
        answers = await load(port, connections, seconds, request)
        if set(answers.statuses) != {202}:
            raise RuntimeError(f"not every message was accepted: {dict(answers.statuses)}")
        return Round(answers.per_second, answers.percentile(50), answers.percentile(99))

    return measure


def _plain_order() -> Callable[[], bytes]:
    numbers = itertools.count()

    def request() -> bytes:
        number = next(numbers)
        order = {
            "phone": f"1555{number % 10_000_000:07}", "message": MESSAGE, "account": "acc_1",
            "idempotencyKey": f"order-{number}",
        }  # fmt: skip
        return post("/send", json.dumps(order).encode())

    return request


async def _server(stack: AsyncExitStack, *command: str) -> Measure:
    """Start a server that takes our orders; "{port}" in its command, or what is added to it, is its port."""
    (port,) = held_ports(1)
    arguments = command if "{port}" in command else (*command, "{port}")
    await stack.enter_async_context(serving(port, *(each.replace("{port}", str(port)) for each in arguments)))
    return _over_http(port, _plain_order())


async def _bullmq(stack: AsyncExitStack, folder: Path) -> Measure:
    home = folder / "bullmq"
    await asyncio.to_thread(shutil.copytree, PEERS / "bullmq", home)
    npm = await asyncio.create_subprocess_exec(
        "npm", "install", "--no-audit", "--no-fund", "--loglevel=error", cwd=home, stdout=asyncio.subprocess.DEVNULL
    )
    if await npm.wait():
        raise RuntimeError("npm could not install Express and BullMQ.")
    (redis,) = held_ports(1)
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    command = ("redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--dir", str(home), *durable)
    await stack.enter_async_context(serving(redis, *command, "--loglevel", "warning"))
    return await _server(stack, "node", str(home / "server.js"), "{port}", str(redis))
