"""One run: orders and faults at random from a seed, then quiet, then the four records side by side."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psutil
from fixtures_postgres import ALL_ROWS, FORGOTTEN, WRONG_DEPTHS, WRONG_STATES

from bench.house import most_at_once
from errors import DatabaseUnavailable, OperatorError
from faults.cluster import Cluster
from faults.kinds import KINDS, Missed
from faults.load import ASK, crowd, make_orders, place
from faults.records import ENDS, Records, Row, read_received

MOST_FAULTS = 4
QUIET = 180.0  # seconds after the last fault until what is open is stuck
LOOK = 0.5  # seconds between looks
LIVE = {"ready", "hibernated"}
SWEPT = "lane.forgotten"  # the event of a worker's log


@dataclass
class Outcome:
    """What a run was, and what was wrong."""

    seed: int
    faults: list[tuple[str, str]] = field(default_factory=list)
    #: how the jobs ended: a state, or the code of a failure
    ends: Counter[str] = field(default_factory=Counter)
    #: of those whose outcome is unknown, how many had arrived
    unknown_arrived: int = 0
    orders: int = 0
    #: messages of the crowd that were accepted
    crowd: int = 0
    wrong: list[str] = field(default_factory=list)
    #: seconds from the last fault until all was quiet, and of the whole
    recovery: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Tell it in a line."""
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        faults = "; ".join(f"{name} {what}".strip() for name, what in self.faults)
        verdict = "ok" if not self.wrong else f"WRONG ({len(self.wrong)})"
        times = f"{self.seconds:.0f} s, quiet after {self.recovery:.0f} s, {self.crowd} of the crowd"
        return f"seed {self.seed}: {verdict} in {times} | {ends} | {faults}"


@dataclass(frozen=True)
class Depth:
    """A lane whose count of waiting messages is wrong."""

    id: str
    counted: int
    queued: int


@dataclass(frozen=True)
class Contradiction:
    """A job or delivery whose state is not what its other columns say."""

    id: str
    state: str


@dataclass(frozen=True)
class Mark:
    """A lane whose work nobody looks at in time."""

    id: str
    due_at: datetime
    marked: datetime | None


@dataclass(frozen=True)
class Plan:
    """What a run is made of."""

    #: kinds of faults
    kinds: Sequence[str]
    #: messages, and seconds in which they fall due and the faults strike
    jobs: int
    over: float
    #: clients that order message after message meanwhile, for an account that is not linked
    crowd: int


async def run(cluster: Cluster, seed: int, plan: Plan) -> Outcome:
    """Place the orders with faults among them, wait for quiet, and compare."""
    rng, outcome, began = random.Random(seed), Outcome(seed), time.monotonic()  # noqa: S311  # no secret
    before = await _state(cluster)
    name, received = f"run {seed}", cluster.received.stat().st_size if cluster.received.exists() else 0
    orders = make_orders(name, cluster.accounts, plan.jobs, plan.over, rng)
    outcome.orders = len(orders)
    chosen = [(rng.uniform(0, plan.over), rng.choice(plan.kinds)) for _ in range(rng.randint(1, MOST_FAULTS))]
    url = f"http://127.0.0.1:{cluster.wires['client-api'].port}"
    async with asyncio.TaskGroup() as group:
        group.create_task(place(url, cluster.key, orders, ASK))
        others = group.create_task(crowd(url, cluster.key, name, cluster.unlinked, clients=plan.crowd, over=plan.over))
        harm = [
            group.create_task(_strike(cluster, kind, at, random.Random(f"{seed} {number}")))  # noqa: S311
            for number, (at, kind) in enumerate(chosen)
        ]
    outcome.faults = [fault.result() for fault in harm]
    cluster.heal()
    healed = time.monotonic()
    await _quiet(cluster, name)
    outcome.recovery = time.monotonic() - healed
    records = await _collect(cluster, name, received)
    records.orders = orders
    told = Records(others.result(), await cluster.read(Row, ROWS, list(ENDS), f"{name} crowd %"), {}, [])
    outcome.crowd = len(told.rows)
    outcome.wrong = [
        *records.wrong(),
        *told.crowd_wrong(),
        *await _accounts(cluster, before),
        *await _lanes(cluster, before),
    ]
    outcome.ends = Counter(map(_end, records.rows))
    outcome.unknown_arrived = sum(
        row.text in records.got.get(row.phone, []) for row in records.rows if row.error == "outcome_unknown"
    )
    outcome.seconds = time.monotonic() - began
    return outcome


def _end(row: Row) -> str:
    """Name how a job ended: by its state, or by its error and the reason."""
    if row.state != "failed":
        return row.state
    return f"{row.error} ({row.reason})" if row.reason else row.error or row.state


async def _strike(cluster: Cluster, kind: str, at: float, rng: random.Random) -> tuple[str, str]:
    await asyncio.sleep(at)
    try:
        return kind, await KINDS[kind](cluster, rng)
    except (Missed, DatabaseUnavailable, psutil.NoSuchProcess):
        return kind, "missed"


async def _quiet(cluster: Cluster, name: str) -> None:
    """Wait until no job of the run is open and every event of them has been delivered, or it has taken too long."""
    end = time.monotonic() + QUIET
    while time.monotonic() < end:
        try:
            if await cluster.value(OPEN, f"{name} message %") == 0:
                return
        except DatabaseUnavailable:
            pass
        await asyncio.sleep(LOOK)


OPEN = """
    select (select count(*) from jobs where message like %s and state in ('queued', 'sending', 'submitting'))
         + (select count(*) from deliveries where state in ('pending', 'sending'))
"""

ROWS = """
    select id, key, message as text, phone, state, error_code as error, error_reason as reason, attempts,
           array(select type from outbox where job_id = jobs.id and type = any (%s) order by created_at) as events
    from jobs where message like %s
"""


async def _collect(cluster: Cluster, name: str, received: int) -> Records:
    rows = await cluster.read(Row, ROWS, list(ENDS), f"{name} message %")
    got: dict[str, list[str]] = {}
    for item in (await cluster.whatsapp.get("/sandbox/messages"))["items"]:
        if item["text"].startswith(f"{name} message "):
            got.setdefault(item["phone"], []).append(item["text"])
    shown = {row.text: str((await cluster.client.get(f"/jobs/{row.name}"))["status"]) for row in rows}
    return Records([], rows, got, read_received(cluster.received, received), shown)


@dataclass(frozen=True)
class State:
    """What a run begins with."""

    #: login codes that were shown
    codes: object
    #: account → sessions that have ended
    ended: dict[str, list[dict[str, str]]]
    #: lines of logs about lanes that the sweep found
    swept: list[str]


async def _state(cluster: Cluster) -> State:
    codes = await cluster.value("select count(*) from outbox where type = 'QrIssued'")
    ended = {name: [one for one in await _sessions(cluster, name) if one["end"]] for name in cluster.accounts}
    return State(codes, ended, _swept(cluster))


async def _sessions(cluster: Cluster, account: str) -> list[dict[str, str]]:
    sessions: list[dict[str, str]] = (await cluster.whatsapp.get(f"/sandbox/sessions?account={account}"))["items"]
    return sessions


async def _accounts(cluster: Cluster, before: State) -> list[str]:
    """Return what is wrong with the accounts: out of service, linked anew, or live twice at once."""
    wrong = []
    for account in cluster.accounts:
        try:
            await cluster.client.wait(f"/accounts/{account}", "state", LIVE, 90)
        except OperatorError as error:
            wrong.append(f"STUCK: {error}")
        sessions = [one for one in await _sessions(cluster, account) if one not in before.ended[account]]
        if (most := most_at_once(sessions)) > 1:
            wrong.append(f"TWICE: account {account} had {most} live sessions at once")
    codes = (await _state(cluster)).codes
    if codes != before.codes:
        wrong.append(f"LOGIN: {before.codes} codes had been shown before and {codes} after")
    return wrong


async def _lanes(cluster: Cluster, before: State) -> list[str]:
    """Return what is wrong with the lanes: a count, work that nobody will look at, or rows that lack their parents."""
    depths, forgotten = await cluster.read(Depth, WRONG_DEPTHS), await cluster.read(Mark, FORGOTTEN)
    broken = await cluster.database.all("broken_references", **ALL_ROWS)
    contradictions = await cluster.read(Contradiction, WRONG_STATES)
    return [
        *(f"DEPTH: {row.id} counts {row.counted} waiting messages and has {row.queued}" for row in depths),
        *(f"FORGOTTEN: {row.id} has work at {row.due_at} and its first mark at {row.marked}" for row in forgotten),
        *(f"FORGOTTEN: {line}" for line in _swept(cluster)[len(before.swept) :]),
        *(f"STATE: {row.id} is {row.state}, and has a claim or an end that is not of it" for row in contradictions),
        *(f"REFERENCE: {row['table']} {row['id']} lacks its account, endpoint, event or key" for row in broken),
    ]


def _swept(cluster: Cluster) -> list[str]:
    """Return the lines of the workers' logs about lanes that were forgotten, and found by the sweep."""
    logs = [part.log for part in cluster.workers if part.log.exists()]
    return [line for log in logs for line in log.read_text().splitlines() if SWEPT in line]
