"""A small world for test_model.py: a clock, a chat, disks that outlive workers, and workers that stop at every step.

Real are Postgres with every named query, and Sender, Lanes, Pulse, Rescue, LostWakeups and acceptance. The model's own
are the world outside: the page, the disks with profiles, procrastinate's loop, time. A drain is a task that stops
before each statement and before each thing it does on its page, until it is told to go on: well, badly, or with its
answer lost.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg
from fixtures_lanes import add_worker
from psycopg.rows import dict_row

from api.accounts.actions import steer
from api.sending.acceptance import Acceptance, Accepted, Order
from api.sending.send_request import SendRequest
from browser.page.bubbles import Bubble, Side, Tick
from browser.page.evidence import Evidence as Taken
from browser.page.history import Finding, Reason, judge
from browser.page.submit import Seen
from errors import (
    AttemptFailed,
    BrowserLost,
    DatabaseUnavailable,
    LeaseLost,
    NotOnWhatsApp,
    OutcomeUnknown,
    PageCrashed,
    PageHung,
    ProfileElsewhere,
    SendError,
)
from sql.database import Database, Row, Transaction
from sql.scope import Scope
from tasks.lanes import Drain, Lanes, LostWakeups, Unattended
from tasks.pulse import Pulse
from tasks.sending.claimed_job import Policy
from tasks.sending.jobs import Jobs
from tasks.web.account_errors import is_of_account
from tasks.web.evidence_store import EvidenceStore
from tasks.web.incoming import Incoming
from tasks.web.job_evidence import JobEvidence
from tasks.web.seats import CLOSE_MARGIN, GUARD_MARGIN, Session
from tasks.web.send import Sender
from tasks.web.state_changes import Account

T = TypeVar("T")

ACCOUNT, ENDPOINT, ORG = "acc_model", "whe_model", "org_default"
HOMES = ("home_a", "home_b")
LEASE = 30.0  # seconds
DEAD = 35.0  # seconds, as environment.py has it
TTL = timedelta(days=1)
DEDUPE = 10.0  # seconds
POLICY = Policy(attempts=3, backoff_seconds=5, confirm_seconds=60, settle_seconds=900)
#: read and never written by what is modelled here; stopping at them would only make runs longer
READ_ONLY = frozenset({"opted_out", "account_to_drain", "worker_at_home", "sealed_profile", "wakeups_in_hand"})
#: Postgres's clock is ours: these come before pg_catalog's in the search path.
CLOCK = """
create schema model;
create function model.now() returns timestamptz language sql stable as
$$ select current_setting('model.now')::timestamptz $$;
create function model.pg_postmaster_start_time() returns timestamptz language sql stable as
$$ select '-infinity'::timestamptz $$;
do $$
declare
    place record;
begin
    for place in select table_name, column_name from information_schema.columns
                 where table_schema = 'public' and column_default = 'now()' loop
        execute format('alter table %I alter column %I set default model.now()', place.table_name, place.column_name);
    end loop;
end $$;
alter function door.accept(json, interval, interval, bigint, text) set search_path = model, pg_catalog, public, pg_temp;
"""
SETUP = """
insert into lanes (id, org_id, kind, queue)
values ('acc_model', 'org_default', 'account', 'account'), ('whe_model', 'org_default', 'endpoint', 'endpoint');
insert into api_keys (id, org_id, name, key_hash) values ('key_1', 'org_default', 'x', 'x');
insert into accounts (id, org_id, name, transport, wanted, state, linked, profile_generation)
values ('acc_model', 'org_default', 'x', 'sandbox', 'connected', 'hibernated', true, 1);
insert into profiles (account_id, org_id, generation, whole, sealed, raw_bytes, worker)
values ('acc_model', 'org_default', 1, true, convert_to('{}', 'utf8'), 2, 'wrk_0');
insert into endpoints (id, org_id, url, events, secret)
values ('whe_model', 'org_default', 'https://example.org/', '{*}', '');
"""


class How(StrEnum):
    """How a step goes."""

    WELL = "well"
    BADLY = "badly"  # it is not done, and says so
    LOST = "lost"  # it is done, and its answer is lost


class Gone(BaseException):
    """The worker of this drain is dead: nothing of it runs any more, no finally clause either."""


# --- drains that stop at every step --------------------------------------------------------------------------------


@dataclass(eq=False)
class Actor:
    """A drain on its way: stopped before what `label` names, or done."""

    worker: "ModelWorker"
    wakeup: int
    label: str = ""
    drain: Drain | None = None
    #: the last statement that it ran, with its values
    ran: tuple[str, dict[str, Any]] | None = None
    task: "asyncio.Task[None] | None" = None
    _gate: "asyncio.Future[How] | None" = None
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self, label: str) -> How:
        """Wait until it is told how to go on. Raise Gone once its worker is dead."""
        if self.worker.dead:
            raise Gone
        self.label, self._gate = label, asyncio.get_running_loop().create_future()
        self._settled.set()
        how = await self._gate
        if self.worker.dead:
            raise Gone
        return how

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin, and return when it stops for the first time."""
        self.task = asyncio.create_task(self._whole(work))
        await self._wait()

    async def _whole(self, work: Coroutine[Any, Any, None]) -> None:
        CURRENT.set(self)
        try:
            await work
        except Gone:
            pass
        finally:
            self.label, self._gate = "", None
            self._settled.set()

    async def go(self, how: How) -> None:
        """Do the next step, and return when it stops again or has ended. Raise what nobody foresaw."""
        assert self._gate
        self.ran = None
        self._settled.clear()
        self._gate.set_result(how)
        await self._wait()

    async def _wait(self) -> None:
        await self._settled.wait()
        if self.ended and self.task:
            await self.task

    @property
    def ended(self) -> bool:
        return self._gate is None


CURRENT: ContextVar[Actor | None] = ContextVar("CURRENT", default=None)


async def stop(label: str) -> How:
    """Stop before a step, where a drain does it; whatever else there is does it at once."""
    actor = CURRENT.get()
    return await actor.stop(label) if actor else How.WELL


class Stepped(Transaction):
    """Statements that stop before the first of them, and may lose the answer of the last."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], stack: AsyncExitStack | None) -> None:
        super().__init__(connection, scope=Scope(ORG))
        self.how: How | None = None
        self._stack = stack

    async def all(self, name: str, /, **values: object) -> list[Row]:
        await self._begin(name, values)
        return await super().all(name, **values)

    async def read(self, shape: type[T], name: str, /, **values: object) -> list[T]:
        await self._begin(name, values)
        return await super().read(shape, name, **values)

    async def _begin(self, name: str, values: dict[str, Any]) -> None:
        if self.how is not None or name in READ_ONLY:
            return
        self.how = await stop(name)
        if self.how is How.BADLY:
            raise DatabaseUnavailable
        if actor := CURRENT.get():
            actor.ran = name, values
        if self._stack is not None:
            await self._stack.enter_async_context(self.connection.transaction())


class SteppedDatabase(Database):
    """The database on one connection, inside a transaction that is rolled back with the example."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    @asynccontextmanager
    async def transaction(self, *, one_snapshot: bool = False) -> AsyncIterator[Transaction]:
        assert not one_snapshot, "the transaction around it has begun"
        async with AsyncExitStack() as stack:
            tx = Stepped(self.connection, stack)
            yield tx
        if tx.how is How.LOST:
            raise DatabaseUnavailable

    @asynccontextmanager
    async def _statement(self) -> AsyncIterator[Transaction]:
        tx = Stepped(self.connection, None)
        yield tx
        if tx.how is How.LOST:
            raise DatabaseUnavailable


class Busy(asyncio.Lock):
    """What a session's actions hold; whoever waits for it stops."""

    async def acquire(self) -> Any:
        while self.locked():
            await stop("busy")
        return await super().acquire()


# --- the world outside -----------------------------------------------------------------------------------------------


@dataclass
class Message:
    """A message of ours as a profile has it."""

    id: str
    text: str
    job: str
    #: WhatsApp has it, and so has its recipient
    left: bool = False

    def bubble(self) -> Bubble:
        return Bubble(self.id, self.text, Tick.SENT if self.left else Tick.PENDING, Side.OURS)


@dataclass
class Profile:
    """A browser profile: its generation, and what its chats show."""

    generation: int
    chats: dict[str, list[Message]] = field(default_factory=dict)

    def sealed(self) -> bytes:
        return json.dumps({phone: [vars(one) for one in chat] for phone, chat in self.chats.items()}).encode()

    @classmethod
    def opened(cls, sealed: bytes) -> "Profile":
        chats = {phone: [Message(**one) for one in chat] for phone, chat in json.loads(sealed).items()}
        return cls(0, chats)


@dataclass(eq=False)
class Page:
    """The page of an open session, as Sender sees it."""

    world: "World"
    profile: Profile
    #: the job that is being typed: what the world knows, and not the page
    job: str = ""
    alive: bool = True
    phone: str = ""
    box: str = ""
    armed_until: float | None = None
    swallowed: bool = False

    @property
    def inbox(self) -> "Page":
        return self

    async def arrival(self) -> None:
        """Wait for nothing."""

    async def conversation(self, seen: str | None = None) -> None:
        """Read nothing: nobody writes to us here."""

    async def _stop(self, label: str) -> How:
        how = await stop(label)
        if not self.alive:
            raise BrowserLost
        return how

    async def open_chat(self, phone: str, *, known_only: bool = False, messages: Collection[str] = ()) -> None:
        how = await self._stop("open_chat")
        if how is How.BADLY:
            raise PageHung
        if how is How.LOST and not known_only and not messages:
            raise NotOnWhatsApp
        self.phone, self.box = phone, ""

    async def write(self, text: str) -> None:
        self.box = text

    async def clear(self) -> None:
        self.box = ""

    async def arm(self, seconds: float) -> str | None:
        how = await self._stop("arm")
        if how is How.BADLY:
            raise PageHung
        self.armed_until, self.swallowed = self.world.clock + seconds, False
        if how is How.LOST:
            raise PageHung
        chat = self.profile.chats.get(self.phone)
        return chat[-1].id if chat else None

    async def press_enter(self) -> None:
        how = await self._stop("press_enter")
        if how is How.BADLY:
            raise PageHung
        self.world.press(self)
        if how is How.LOST:
            raise PageHung

    async def held_back(self) -> str:
        if await self._stop("held_back") is not How.WELL:
            raise PageHung
        return "late" if self.swallowed else ""

    async def confirm(self, text: str, anchor: str | None, timeout: float, seen: Seen) -> Bubble:  # noqa: ASYNC109  # as the real one
        how = await self._stop("confirm")
        message = self.profile.chats[self.phone][-1]
        assert message.text == text, f"after {anchor} in {timeout} s"
        if how is How.BADLY:
            raise OutcomeUnknown(bubble=message.id, reason=Reason.AT_THE_CLOCK)
        await seen(message.id)
        self.world.leave(message)
        if how is How.LOST:
            raise PageCrashed
        return message.bubble()

    async def look_for(
        self, phone: str, text: str, anchor: str | None, *, bubble: str | None = None, others: Collection[str] = ()
    ) -> Finding:
        how = await self._stop("look_for")
        if how is How.BADLY:
            raise PageHung
        rows = [message.bubble() for message in self.profile.chats.get(phone, [])]
        ids = [row.id for row in rows]
        whole = anchor is None or anchor in ids
        # Lost is the chat's beginning: the page has not loaded all of it.
        rows = rows[ids.index(anchor) + 1 :] if anchor in ids else rows
        return judge(text, rows, whole=whole and how is How.WELL, bubble=bubble, others=others)

    async def survey(self) -> tuple[dict[str, int], set[str]]:
        """Tell nothing of how well the page is known."""
        return {}, set()

    async def evidence(self) -> Taken:
        return Taken(b"", "")


# --- workers ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class ModelWorker:
    """A worker process: its lanes and its sender are real."""

    world: "World"
    id: str
    home: str
    procrastinate: int
    lanes: Lanes
    jobs: Jobs
    sender: Sender
    lost: LostWakeups
    dead: bool = False
    frozen: bool = False
    #: until when it may hold the account, by its own clock
    lease_until: float = 0.0
    session: Session | None = None
    page: Page | None = None

    @property
    def runs(self) -> bool:
        return not (self.dead or self.frozen)

    @property
    def armed(self) -> Page | None:
        """Its page, if that would let an Enter through now."""
        page = self.page
        until = page.armed_until if page and page.alive else None
        return page if until is not None and until >= self.world.clock else None

    def close(self) -> None:
        """Close the browser; its profile stays on the disk."""
        if self.page:
            self.page.alive = False
        self.session = self.page = None

    # what AccountWork does, without a browser

    async def begin(self, drain: Drain) -> bool:
        """Settle, as AccountWork.begin."""
        actor = CURRENT.get()
        assert actor
        actor.drain = drain
        if (await self._account()).half_done:
            await self.jobs.release(drain)
        if not await self._lease():
            raise Unattended
        half_done = (await self._account()).half_done
        try:
            session = self.session if self.page and self.page.alive else await self._open()
            assert session
            if half_done:
                await self.sender.settler.settle(drain, session)
        except LeaseLost as error:
            raise Unattended from error
        except SendError as error:
            await self._meet(error)
            return False
        return True

    async def one(self, drain: Drain) -> bool:
        """Send the next job, as AccountWork.one."""
        session, page = self.session, self.page
        if session is None or page is None or not page.alive:
            return False
        async with session.busy:
            job = await self.jobs.take(drain)
            if job is None:
                return False
            page.job = job.id
            try:
                await self.sender.send(drain, session, job)
            except SendError as error:
                if not is_of_account(error):
                    raise
                await self._meet(error)
                return False
        return True

    async def _lease(self) -> bool:
        before = self.world.clock
        async with self.world.database.transaction() as tx:
            ours = await tx.one("lease_account", account=ACCOUNT, worker=self.id, lease=LEASE)
            holder = None if ours else await tx.one("lease_holder", account=ACCOUNT)
            if ours:
                await tx.all("move_lane", lane=ACCOUNT, queue=f"account@{self.id}")
            elif holder and holder["live"]:
                await tx.all("move_lane", lane=ACCOUNT, queue=f"account@{holder['leased_by']}")
        if ours:
            self.lease_until = before + LEASE
        return ours is not None

    async def _meet(self, error: SendError) -> None:
        """Do what Trouble does about a page that failed, and about a profile on another disk."""
        if isinstance(error, AttemptFailed):
            self.close()
            await self._gate(1, error)
        elif isinstance(error, ProfileElsewhere):
            home = await self.world.database.one("worker_at_home", account=ACCOUNT, worker=self.id)
            if home is None:
                await self._gate(10, error)
            await self.leave()
            if home:
                await self.world.database.all("move_lane", lane=ACCOUNT, queue=f"account@{home['id']}")
                await self.world.database.all("attend", lane=ACCOUNT, seconds=0)

    async def _gate(self, seconds: float, error: SendError) -> None:
        await self.world.database.all(
            "close_held_gate", account=ACCOUNT, worker=self.id, seconds=seconds, reason=error.code, attend=seconds,
            look=seconds, began=None, attend_at=None,
        )  # fmt: skip

    async def leave(self) -> None:
        """Close, seal the whole profile and give the lease back, as Seats.leave."""
        self.close()
        gone = self.home in self.world.disks and await self.seal(whole=True)
        if gone:
            del self.world.disks[self.home]
        async with self.world.database.transaction() as tx:
            if await tx.one("release_account", account=ACCOUNT, worker=self.id, put_away=gone):
                await tx.all("move_lane", lane=ACCOUNT, queue="account")
                await tx.all("attend", lane=ACCOUNT, seconds=0)

    # what Profiles does, with a disk in memory

    async def _account(self) -> Account:
        rows = await self.world.database.read(Account, "account_to_drain", account=ACCOUNT, keepalive=0.0)
        return rows[0]

    async def _open(self) -> Session:
        account = await self._account()
        self.close()
        profile = await self._obtain(account)
        if self.lease_until - self.world.clock < CLOSE_MARGIN:
            raise LeaseLost
        self.page = Page(self.world, profile)
        self.session = Session(ACCOUNT, cast("Any", self.page), profile.generation, busy=Busy())
        return self.session

    async def _obtain(self, account: Account) -> Profile:
        disk, database = self.world.disks.get(self.home), self.world.database
        if disk and account.profile_home == self.home and disk.generation == account.profile_generation:
            await self._held("use_profile", generation=disk.generation)
            return disk
        sealed = await database.one("sealed_profile", account=ACCOUNT)
        assert sealed
        elsewhere = account.profile_home not in {None, self.home} and not sealed["whole"]
        if elsewhere and await database.one("worker_at_home", account=ACCOUNT, worker=self.id):
            raise ProfileElsewhere
        self.world.disks.pop(self.home, None)
        row = await self._held("restore_profile", sealed=sealed["generation"])
        profile = self.world.disks[self.home] = Profile.opened(bytes(sealed["sealed"]))
        profile.generation = row["generation"]
        return profile

    async def _held(self, name: str, **values: object) -> Row:
        row = await self.world.database.one(name, account=ACCOUNT, worker=self.id, home=self.home, **values)
        if row is None:
            raise LeaseLost
        return row

    async def seal(self, *, whole: bool) -> bool:
        """Store a copy of the profile on the disk."""
        profile = self.world.disks[self.home]
        return bool(await self.world.database.one(
            "store_profile", account=ACCOUNT, worker=self.id, home=self.home, generation=profile.generation,
            whole=whole, sealed=profile.sealed(), raw_bytes=1,
        ))  # fmt: skip

    # what Heartbeat does

    async def beat(self) -> None:
        """Show a sign of life; end when it was declared dead, close what is no longer leased."""
        before = self.world.clock
        row = await self.world.database.one(
            "renew_worker", worker=self.id, ids=[self.procrastinate], lease=LEASE, open=[]
        )
        if row is None:
            self.world.kill(self)
        elif row["leases"]:
            self.lease_until = before + LEASE
        else:
            self.close()


@dataclass(eq=False)
class World:
    """Everything there is: one account with a lane, two homes, some workers, the recipients."""

    connection: psycopg.AsyncConnection[Any]
    loop: asyncio.AbstractEventLoop
    evidence: EvidenceStore
    database: SteppedDatabase = field(init=False)
    pulse: Pulse = field(init=False)
    #: seconds since the example began; everybody's clock
    clock: float = 0.0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    #: the guard ends a browser before its lease ends; it may be dead itself
    guarded: bool = True
    workers: list[ModelWorker] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    disks: dict[str, Profile] = field(default_factory=dict)
    #: job → ids of its messages that its recipient has, and of those for which Enter was let through
    received: dict[str, set[str]] = field(default_factory=dict)
    entered: dict[str, set[str]] = field(default_factory=dict)
    _messages: int = 0

    def __post_init__(self) -> None:
        self.database = SteppedDatabase(self.connection)
        self.pulse = Pulse("", settle_seconds=POLICY.settle_seconds, dead=DEAD)

    def run(self, work: Awaitable[T]) -> T:
        async def whole() -> T:
            return await work

        return self.loop.run_until_complete(whole())

    async def open(self) -> None:
        await self.connection.execute("begin")
        await self.tell_time()
        await self.connection.execute(SETUP)
        # What the API asks a door for is of this org.
        await self.connection.execute("select set_config('app.org', %s, true)", [ORG])

    async def close(self) -> None:
        """End every task, and forget everything."""
        for worker in self.workers:
            worker.dead = True
        for actor in self.actors:
            if not actor.ended:
                await actor.go(How.WELL)
        await self.connection.execute("rollback")

    async def rows(self, query: str, **values: object) -> list[Row]:
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    # --- time ------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return self.began + timedelta(seconds=self.clock)

    def at_clock(self, clock: float) -> datetime:
        return self.began + timedelta(seconds=clock)

    def wire(self, seconds: float) -> str:
        return self.at_clock(self.clock + seconds).isoformat()

    async def tell_time(self) -> None:
        await self.rows("select set_config('model.now', %(now)s, false)", now=self.now.isoformat())

    async def advance(self, seconds: float) -> None:
        """Let time pass. Whoever runs renews all the while; whoever is frozen or dead does not."""
        for worker in self.running:
            await worker.beat()
        before = self.now
        self.clock += seconds
        await self.tell_time()
        ids = [worker.id for worker in self.running]
        for worker in self.running:
            worker.lease_until += seconds
        await self.rows("update workers set renewed_at = %(now)s where id = any (%(ids)s)", now=self.now, ids=ids)
        await self.rows(
            "update accounts set lease_until = lease_until + %(by)s where leased_by = any (%(ids)s) "
            "and lease_until > %(before)s",
            by=timedelta(seconds=seconds), ids=ids, before=before,
        )  # fmt: skip
        await self.rows(
            "update procrastinate_workers set last_heartbeat = %(now)s where id = any (%(ids)s)",
            now=self.now, ids=[worker.procrastinate for worker in self.running],
        )  # fmt: skip
        for worker in self.workers:
            if self.guarded and worker.page and worker.lease_until - GUARD_MARGIN < self.clock:
                worker.page.alive = False

    async def beat_pulse(self, *, judges: bool = True) -> None:
        """Run one turn of the pulse: of one that never slept, or of one that has just begun and calls nobody dead."""
        self.pulse._connection, self.pulse._seen = self.connection, self.now
        self.pulse._judging_from = self.now + timedelta(seconds=0 if judges else DEAD)
        await self.pulse.run_once()

    # --- workers ---------------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[ModelWorker]:
        return [worker for worker in self.workers if worker.runs]

    @property
    def alive(self) -> list[ModelWorker]:
        return [worker for worker in self.workers if not worker.dead]

    @property
    def idle(self) -> list[ModelWorker]:
        """Those that lease the account, as far as they know, and have no drain in hand."""
        return [one for one in self.running if one.lease_until > self.clock and not self.drains_of(one)]

    @property
    def sealable(self) -> list[ModelWorker]:
        """Those with an open browser."""
        return [one for one in self.running if one.page and one.page.alive]

    def at(self, label: str) -> list[Actor]:
        """The drains that are stopped there, also in a frozen worker."""
        return [actor for actor in self.actors if actor.label == label and not actor.worker.dead]

    async def start(self, home: str) -> ModelWorker | None:
        """Start a worker process, unless one has that home."""
        if any(worker.home == home and not worker.dead for worker in self.workers):
            return None
        name = f"wrk_{len(self.workers) + 1}"
        await add_worker(self.database, name, home=home)
        row = await self.rows("select worker_id from procrastinate_register_worker_v1()")
        incoming = Incoming(self.database, cast("Any", None))
        lanes, jobs = Lanes(self.database, name, {}), Jobs(self.database, name, POLICY)
        worker = ModelWorker(
            self, name, home, row[0]["worker_id"], lanes, jobs,
            Sender(jobs, incoming, JobEvidence(self.database, self.evidence)), LostWakeups(self.database, lanes),
        )  # fmt: skip
        lanes.works = {"account": worker}
        self.workers.append(worker)
        await worker.beat()
        return worker

    def kill(self, worker: ModelWorker) -> None:
        """End a process and its browser; what is on the disk stays."""
        worker.dead = True
        worker.close()

    async def fetch(self, worker: ModelWorker) -> Actor | None:
        """Have the worker take a wake-up, as procrastinate does, and begin its drain."""
        rows = await self.rows(
            "select id from procrastinate_fetch_job_v2(%(queues)s::varchar[], %(id)s) where id is not null",
            queues=[f"account@{worker.id}", "account"], id=worker.procrastinate,
        )  # fmt: skip
        if not rows:
            return None
        actor = Actor(worker, rows[0]["id"])
        self.actors.append(actor)
        await actor.run(self._drain(actor))
        return actor

    async def _drain(self, actor: Actor) -> None:
        # Whatever a task raises, procrastinate writes that it ended.
        with suppress(DatabaseUnavailable):
            await actor.worker.lanes.drain(ACCOUNT, actor.wakeup)
        if await stop("finish") is not How.BADLY:
            await self.rows(
                "select procrastinate_finish_job_v1(id, 'succeeded', true) from procrastinate_jobs "
                "where id = %(id)s and status = 'doing'", id=actor.wakeup,
            )  # fmt: skip

    async def unlock(self) -> None:
        """End the wake-ups in hand in procrastinate's table, as a person with its shell can."""
        await self.rows(
            "select procrastinate_finish_job_v1(id, 'failed', true) from procrastinate_jobs where status = 'doing'"
        )
        await self.database.all("attend", lane=ACCOUNT, seconds=0)

    @property
    def stopped(self) -> list[Actor]:
        """The drains that can go on."""
        return [actor for actor in self.actors if actor.worker.runs and not actor.ended]

    def drains_of(self, worker: ModelWorker) -> list[Actor]:
        return [actor for actor in self.actors if actor.worker is worker and not actor.ended]

    # --- recipients ------------------------------------------------------------------------------------------------

    def press(self, page: Page) -> None:
        """Let an Enter through if it comes while the page is armed for it."""
        if page.armed_until is None or self.clock > page.armed_until:
            page.swallowed = True
            return
        page.armed_until = None
        self._messages += 1
        message = Message(f"true_{self._messages}", page.box, page.job)
        page.profile.chats.setdefault(page.phone, []).append(message)
        self.entered.setdefault(page.job, set()).add(message.id)
        page.box = ""

    def leave(self, message: Message) -> None:
        """Have WhatsApp take a message, which knows it by its id."""
        message.left = True
        self.received.setdefault(message.job, set()).add(message.id)

    def connect(self) -> None:
        """Have everything at the clock leave, where a browser is open."""
        for worker in self.workers:
            if worker.page and worker.page.alive:
                for chat in worker.page.profile.chats.values():
                    for message in chat:
                        self.leave(message)

    # --- the API ---------------------------------------------------------------------------------------------------

    async def order(self, **fields: Any) -> str:
        """Accept an order; return its jobId."""
        acceptance = Acceptance(self.database, ttl=TTL, dedupe=timedelta(seconds=DEDUPE), max_queued=0)
        order = Order(SendRequest.model_validate({"account": ACCOUNT, **fields}), b"x", "")
        (answer,) = await acceptance.accept([order])
        assert isinstance(answer, Accepted), answer
        return answer.job_id

    async def cancel(self, job: str) -> bool:
        async with self.database.transaction() as tx:
            cancelled = await tx.one("cancel_job", org=ORG, job=job)
            if cancelled:
                await tx.all("wake", lanes=cancelled["lanes"])
            return cancelled is not None

    async def retry(self, job: str, *, force: bool) -> bool:
        async with self.database.transaction() as tx:
            retried = await tx.one("retry_job", org=ORG, job=job, force=force, ttl=TTL)
            if retried and retried["open"]:
                await tx.all("wake", lanes=[retried["lane"]])
            return retried is not None

    async def steer(self, wish: str) -> None:
        """Pause or resume the account, or stop or start everything."""
        async with self.database.transaction() as tx:
            if wish.endswith("_all"):
                await tx.all(wish)
                return
            row = await tx.one(f"{wish}_account", account=ACCOUNT, org=ORG)
            assert row
            if wish == "pause":
                await tx.all("pause_gate", lane=ACCOUNT)
            else:
                await steer(tx, ACCOUNT, row)
                await tx.all("wake", lanes=[ACCOUNT])


def local_evidence(folder: Path) -> EvidenceStore:
    return EvidenceStore.at(str(folder), folder)
