"""A fortnight in three time zones: what the views tell, what the events said and what recipients got is the same.

Messages go through the whole house: HTTP, Postgres, a real Chromium, the sandbox. Each night the house stops, and all
that Postgres knows becomes a day older.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest
from fixtures_history import keep_up
from fixtures_house import House, house
from fixtures_lanes import until
from psycopg.sql import SQL, Identifier

from bench.ports import held_ports
from commands.client import Json
from commands.demo_timing import TIMING
from sql.database import Database

#: Zones whose clocks are never changed, so that a day is 24 hours; two of them far from UTC.
ZONES = ("America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Kiritimati")
NIGHTS, RETENTION = 14, 5.0  # days
#: Blue ticks come when the house of that day has stopped.
TICKS = replace(TIMING, delivered=0.4, read=20.0)
SENT = {"sent", "delivered", "read"}
OPT_OUT = "15551230099"
#: Numbers of a day's messages that are cancelled, due two days later, or have expired by the next day.
CANCELLED, LATER, EXPIRES = 90, 91, 92


@dataclass
class Order:
    """A message that was accepted."""

    account: str
    text: str
    phone: str
    #: how many nights had been before it
    night: int
    #: of each time that it ended: how many nights had been before it, and how
    ends: list[tuple[int, str]] = field(default_factory=list)
    #: as it was in Postgres before retention could delete it
    state: str = ""
    code: str | None = None

    @property
    def counters(self) -> Counter[str]:
        """In which columns of its day it counts."""
        found = Counter(["accepted"])
        if self.state in SENT:
            found.update(["sent", "delivered", "read"][: ["sent", "delivered", "read"].index(self.state) + 1])
        else:
            found[self.state if self.state in {"failed", "cancelled"} else "open"] += 1
        found["outcome_unknown"] += self.code == "outcome_unknown"
        return +found


@dataclass
class Fortnight:
    """What the test knows."""

    url: str
    folder: Path
    ports: tuple[int, int]
    zones: dict[str, str] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)
    #: how many messages have come in, by account and night
    incoming: Counter[tuple[str, int]] = field(default_factory=Counter)
    night: int = 0
    balances: int = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        """Run the house, and see meanwhile that it adds up."""
        async with house(
            self.folder, self.url, timing=TICKS, ports=self.ports, confirm_seconds=4, send_backoff_seconds=1,
            retention_days=RETENTION,
        ) as running:  # fmt: skip
            watching = asyncio.create_task(self.watch())
            yield running
            await self.delivered(running)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching  # it may have failed
            while not running.receiver.events.empty():
                self.events.append(running.receiver.events.get_nowait())

    async def watch(self) -> None:
        """Read the balance again and again while messages go out."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            await connection.execute("set role postrider_report")
            while True:
                cursor = await connection.execute("select * from report.balance where difference <> 0")
                assert await cursor.fetchall() == []
                self.balances += 1
                await asyncio.sleep(0.2)

    async def delivered(self, running: House) -> None:
        """Wait until all events of messages that have ended are with the receiver."""
        await until(running.database, "select count(*) from deliveries where ended_at is null", 0)

    async def begin(self, running: House) -> None:
        """Link the accounts, and ask for all events."""
        for zone in ZONES:
            self.zones[await running.link(zone, timeZone=zone)] = zone
        await running.client.post("/opt-outs", {"phone": OPT_OUT})
        async with running.database.transaction() as tx:
            await tx.connection.execute("update endpoints set events = '{*}'")

    async def day(self, running: House) -> None:
        """Send a day's messages, and wait until those that are due have ended."""
        client = running.client
        earlier = [job for job, order in self.orders.items() if not order.ends]
        today = []
        for number, account in enumerate(self.zones):
            today += [
                await self.order(running, account, phone, place) for place, phone in enumerate(self.phones(number))
            ]
            cancelled = await self.order(running, account, "15551230001", CANCELLED, sendAt=_later(60))
            assert (await client.delete(f"/jobs/{cancelled}"))["status"] == "cancelled"
            self.orders[cancelled].ends.append((self.night, "cancelled"))
            await self.order(running, account, "15551230001", LATER, sendAt=_later(47))
            await self.order(running, account, "15551230001", EXPIRES, sendAt=_later(20), expiresAt=_later(22))
        for job in (*earlier, *today):
            if datetime.fromisoformat((await client.get(f"/jobs/{job}"))["sendAt"]) < datetime.now(UTC):
                await self.ended(running, job)
        for number, account in enumerate(self.zones):
            if self.night % 4 == number:
                answer = {"phone": self.phones(number)[0], "text": f"Thank you for day {self.night}"}
                await client.post(f"/sandbox/accounts/{account}/incoming", answer)
                self.incoming[account, self.night] += 1
        await until(running.database, "select count(*) from incoming where created_at > now() - interval '1 hour'",
                    sum(count for (_, night), count in self.incoming.items() if night == self.night))  # fmt: skip

    async def retry(self, running: House) -> None:
        """Send a message that had expired two days ago after all."""
        job = next(job for job, order in self.orders.items() if order.ends == [(self.night - 2, "failed")]
                   and order.text.endswith(f"no. {EXPIRES}"))  # fmt: skip
        await running.client.post(f"/jobs/{job}/retry", {"force": True})
        await self.ended(running, job)

    async def ended(self, running: House, job: str) -> None:
        ended = await running.ended(job)
        self.orders[job].ends.append((self.night, "sent" if ended["sentAt"] else ended["status"]))

    def phones(self, number: int) -> list[str]:
        """Return whom an account writes to today."""
        usual = [f"1555123{number}{self.night % 5}{place}{place}" for place in range(1 + (self.night + number) % 4)]
        special = {0: "15550000404", 1: OPT_OUT, 2: "15550000503", 3: "15550000500"}.get((self.night + number) % 5)
        unknown = ["15550000409"] if self.night % 6 == number else []
        return [*usual, *([special] if special else []), *unknown]

    async def order(self, running: House, account: str, phone: str, place: int, **more: object) -> str:
        text = f"{account[-4:]} day {self.night} no. {place}"
        job = await running.send(account, phone, text, **more)
        self.orders[job] = Order(account, text, phone, self.night)
        return job

    def sleep(self) -> None:
        """Let a night pass: look at all messages once more, and let retention delete what is of age."""
        with psycopg.connect(self.url) as connection:
            for job, state, code in connection.execute("select coalesce(key, id), state, error_code from all_jobs"):
                self.orders[job].state, self.orders[job].code = state, code
        _age(self.url)
        self.night += 1

    # --- what must be so ------------------------------------------------------------------------------------------

    def local_day(self, account: str, night: int) -> date:
        """Return the local day on which something happened after so many nights."""
        return datetime.now(ZoneInfo(self.zones[account])).date() - timedelta(days=self.night - night)

    def told(self, view: str, *columns: str) -> dict[tuple[str, date], Counter[str]]:
        """Return what a view tells of each account and day, where that is more than nothing."""
        names = SQL(", ").join(map(Identifier, columns))
        with psycopg.connect(self.url, options="-c role=postrider_report") as connection:
            rows = connection.execute(
                SQL("select account_id, day, {} from report.{}").format(names, Identifier(view))
            ).fetchall()
        return {
            (account, day): Counter({name: count for name, count in zip(columns, counts, strict=True) if count})
            for account, day, *counts in rows
            if any(counts)
        }

    def volume(self) -> dict[tuple[str, date], Counter[str]]:
        found: defaultdict[tuple[str, date], Counter[str]] = defaultdict(Counter)
        for order in self.orders.values():
            found[order.account, self.local_day(order.account, order.night)] += order.counters
        return found

    def activity(self) -> dict[tuple[str, date], Counter[str]]:
        """Return what happened when: of a message that was tried again, how it ended last."""
        found: defaultdict[tuple[str, date], Counter[str]] = defaultdict(Counter)
        for order in self.orders.values():
            found[order.account, self.local_day(order.account, order.night)]["accepted"] += 1
            for night, end in order.ends[-1:]:
                found[order.account, self.local_day(order.account, night)][end] += 1
        return found

    def failures(self) -> Counter[tuple[str, date, str]]:
        return Counter(
            (order.account, self.local_day(order.account, order.night), order.code)
            for order in self.orders.values()
            if order.state == "failed" and order.code
        )

    def came_in(self) -> dict[tuple[str, date], Counter[str]]:
        return {
            (account, self.local_day(account, night)): Counter(received=count, answers=count)
            for (account, night), count in self.incoming.items()
        }


def _later(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def _age(url: str) -> None:
    """Make everything a day older: in two steps, so that no row comes to stand where another one still is."""
    with psycopg.connect(url, options="-c timezone=utc") as connection:
        # No trigger and no reference: it is the clock that changes, and not a row.
        connection.execute("set session_replication_role = replica")
        columns = connection.execute(
            """
            select relname, attname, atttypid::regtype::text from pg_class join pg_attribute on attrelid = pg_class.oid
            where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
              and relname !~ '^(procrastinate|_yoyo|yoyo)' and attnum > 0 and not attisdropped and attgenerated = ''
              and atttypid in ('timestamptz'::regtype, 'date'::regtype)
            """
        ).fetchall()
        tables: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for table, column, kind in columns:
            tables[table].append((column, kind))
        for days in (-10_000, 9_999):
            for table, moved in tables.items():
                changes = SQL(", ").join(
                    SQL("{0} = ({0} + {1} * interval '1 day')::{2}").format(Identifier(column), days, SQL(kind))
                    for column, kind in moved
                )
                connection.execute(SQL("update {} set {}").format(Identifier(table), changes))
        for table in ("jobs", "jobs_history"):
            connection.execute(
                SQL(
                    """
                    update {} set timeline = (
                        select jsonb_agg(step || jsonb_build_object('at',
                            to_char((step ->> 'at')::timestamptz - interval '1 day', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')))
                        from jsonb_array_elements(timeline) as step)
                    """
                ).format(Identifier(table))
            )


@pytest.mark.long
@pytest.mark.timeout(1500)
async def test_views_events_and_recipients_agree(database_url: str, tmp_path: Path) -> None:
    api, hook = held_ports(2)
    world = Fortnight(database_url, tmp_path, (api, hook))
    while world.night < NIGHTS:
        async with world.open() as running:
            if world.night == 0:
                await world.begin(running)
            await world.day(running)
            if world.night == 3:
                await world.retry(running)
        await asyncio.to_thread(world.sleep)
        async with Database(database_url) as database:
            await keep_up(database, days=RETENTION)
    states = Counter(order.state for order in world.orders.values())
    assert states.keys() - {"sent"} == {"delivered", "read", "failed", "cancelled", "queued"}
    assert world.balances > 10 * NIGHTS

    columns = ("accepted", "sent", "delivered", "read", "failed", "outcome_unknown", "cancelled", "open")
    assert world.told("daily_volume", *columns) == world.volume()
    assert world.told("daily_activity", "accepted", "sent", "failed", "cancelled") == world.activity()
    assert world.told("replies", "received", "answers", "opt_outs") == world.came_in()
    assert world.told("balance", "difference") == {}
    with psycopg.connect(database_url, options="-c role=postrider_report") as connection:
        reasons = connection.execute("select account_id, day, error_code, jobs from report.failure_reasons").fetchall()
        rows = connection.execute("select job_id, outcome from report.recipients").fetchall()
    assert {(account, day, code): jobs for account, day, code, jobs in reasons} == world.failures()
    codes = {code for *_, code in world.failures()}
    assert codes == {"not_on_whatsapp", "recipient_opted_out", "outcome_unknown", "expired"}

    kept: dict[str, str] = dict(rows)
    # Retention has deleted what is older than five days, and has left the days.
    young = {
        job for job, order in world.orders.items() if not order.ends or world.night - order.ends[-1][0] < RETENTION
    }
    assert young <= kept.keys()
    assert len(kept) < len(world.orders) / 2
    words = {"queued": "open"}
    for job, outcome in kept.items():
        order = world.orders[job]
        assert outcome == ("unknown" if order.code == "outcome_unknown" else words.get(order.state, order.state))

    told = Counter((event["data"]["jobId"], event["type"]) for event in world.events if "jobId" in event["data"])
    for job, order in world.orders.items():
        ends = Counter(end for _, end in order.ends)
        of_ends = {"sent": "JobCompleted", "failed": "JobFailed", "cancelled": "JobCancelled"}
        assert {end: told[job, kind] for end, kind in of_ends.items() if told[job, kind]} == ends, order
        assert told[job, "JobRead"] == (order.state == "read"), order
        if order.state == "delivered":
            assert told[job, "JobDelivered"] == 1, order

    async with world.open() as running:
        items = (await running.client.get("/sandbox/messages"))["items"]
    received = Counter(item["text"] for item in items)
    assert received == {order.text: 1 for order in world.orders.values() if order.state in SENT}
