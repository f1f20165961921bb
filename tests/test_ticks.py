"""Delivered and read: no account hides another's messages, and a page with nothing new is looked at less often."""

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

from fixtures_history import run
from fixtures_lanes import AS, add_jobs, add_lanes, value

from browser.page.bubbles import Bubble, Side, Tick
from browser.page.history import Finding, Verdict
from errors import PageHung
from sql.database import Database
from tasks.lanes import Drain
from tasks.sending.claimed_job import Policy
from tasks.sending.jobs import Jobs
from tasks.web.job_evidence import JobEvidence
from tasks.web.seats import Seats, Session
from tasks.web.settle import Settler
from tasks.web.ticks import LONGEST_PAUSE, Pauses, Ticks

#: Seconds after a message at which its account is looked at while nothing comes of it.
LOOKS = [0, 1, 3, 7, 15, 31, 61, 91]


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Page:
    """A page that shows the ticks it is given, and counts how often it is read."""

    alive = True

    def __init__(self) -> None:
        self.shown: dict[str, Tick] = {}
        self.looks = 0
        self.broken = False

    async def ticks(self, ids: Collection[str]) -> dict[str, Tick]:
        self.looks += 1
        if self.broken:
            raise PageHung("It does not answer.")
        return {bubble: tick for bubble, tick in self.shown.items() if bubble in ids}

    async def look_for(self, _phone: str, text: str, _anchor: str | None, **_: object) -> Finding:
        return Finding(Verdict.SENT, Bubble("b", text, Tick.SENT, Side.OURS))

    async def chat_ticks(self) -> dict[str, Tick]:
        return {}


def opened(*accounts: str) -> dict[str, Session]:
    return {account: Session(account, cast("Any", Page()), 1, used=0.0) for account in accounts}


def page(session: Session) -> Page:
    return cast("Page", session.page)


def ticks_of(database: Database, sessions: dict[str, Session], clock: Clock) -> Ticks:
    seats = cast("Seats", SimpleNamespace(sessions=sessions, live=sessions.get))
    return Ticks(database, seats, Pauses(clock))


async def sent(database: Database, account: str, count: int, *, hours: float = 0) -> list[str]:
    """Have so many sent messages that wait for a tick, the first of them the oldest; return their ids."""
    jobs = await add_jobs(database, account, count, wake=False)
    await run(
        database,
        """
        update jobs
        set state = 'sent', bubble = 'b_' || id, sent_at = at, ended_at = at, submitted_at = at
        from (
            select id as place, now() - %s * interval '1 hour' + seq * interval '1 millisecond' as at from jobs
        ) as times
        where id = place and id = any (%s)
        """,
        hours, jobs,
    )  # fmt: skip
    return jobs


# --- the query ---------------------------------------------------------------------------------------------------


async def test_an_account_with_a_thousand_waiting_messages_hides_none_of_another(database: Database) -> None:
    await add_lanes(database, "loud", "quiet")
    (job,) = await sent(database, "quiet", 1, hours=48)
    loud = await sent(database, "loud", 1000)
    rows = await database.all("awaiting_ticks", accounts=["loud", "quiet"])
    assert [row["id"] for row in rows] == [*reversed(loud[-100:]), job], "the newest of each, the newest first"
    sessions = opened("loud", "quiet")
    page(sessions["quiet"]).shown = {f"b_{job}": Tick.DELIVERED}
    await ticks_of(database, sessions, Clock()).run_once()
    assert await value(database, "select array_agg(id) from jobs where state = 'delivered'") == [job]


async def test_messages_that_were_cancelled_hide_none_that_wait_for_a_tick(database: Database) -> None:
    await add_lanes(database, "a")
    waiting = await sent(database, "a", 120, hours=1)
    await add_jobs(database, "a", 1100, wake=False)
    await run(database, f"update jobs set {AS['cancelled']} where state = 'queued'")
    (unknown,) = await add_jobs(database, "a", 1, wake=False)
    failed = f"{AS['failed']}, error_code = 'outcome_unknown', bubble = 'b', submitted_at = now()"
    await run(database, f"update jobs set {failed} where id = %s", unknown)
    rows = await database.all("awaiting_ticks", accounts=["a"])
    assert [row["id"] for row in rows] == [unknown, *reversed(waiting[-99:])], "the newest, sent or perhaps sent"


async def test_only_the_newest_messages_of_each_account_are_read(database: Database) -> None:
    await add_lanes(database, "loud", "quiet", "silent")
    await sent(database, "loud", 3000)
    await sent(database, "quiet", 20, hours=1)
    await run(database, "analyze jobs")
    read = "select seq_scan, seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'jobs'"
    async with database.transaction() as tx:
        before = await (await tx.connection.execute(read)).fetchone()
        assert len(await tx.all("awaiting_ticks", accounts=["loud", "quiet", "silent"])) == 120
        after = await (await tx.connection.execute(read)).fetchone()
    assert before
    assert after
    assert (after[0] - before[0], after[1] - before[1]) == (0, 1020)


# --- pauses ------------------------------------------------------------------------------------------------------


def looks(pauses: Pauses, clock: Clock, used: dict[str, float], seconds: range) -> list[int]:
    """Return the seconds at which account a is due, asked once in each."""
    found = []
    for second in seconds:
        clock.now = second
        if "a" in pauses.due(used):
            found.append(second)
    return found


def test_a_pause_doubles_up_to_the_longest() -> None:
    clock = Clock()
    assert looks(Pauses(clock), clock, {"a": 0.0}, range(100)) == LOOKS
    assert LOOKS[-1] - LOOKS[-2] == LONGEST_PAUSE


def test_a_pause_starts_over_when_a_session_was_used_and_when_a_tick_came() -> None:
    clock = Clock()
    pauses = Pauses(clock)
    looks(pauses, clock, {"a": 0.0}, range(40))
    assert looks(pauses, clock, {"a": 39.5}, range(40, 80)) == [40, 41, 43, 47, 55, 71]
    pauses.start_over("a")
    assert looks(pauses, clock, {"a": 39.5}, range(80, 90)) == [80, 81, 83, 87]


def test_each_account_has_a_pause_of_its_own_and_one_that_is_gone_is_forgotten() -> None:
    clock = Clock()
    pauses = Pauses(clock)
    looks(pauses, clock, {"a": 0.0}, range(40))
    assert pauses.due({"a": 0.0, "b": 39.0}) == ["b"]
    for number in range(1000):
        pauses.due({f"gone{number}": 0.0})
    assert len(pauses._pauses) == 1
    pauses.start_over("gone0")
    assert pauses.due({"a": 0.0}) == ["a"]


async def test_an_account_that_is_not_due_is_neither_asked_for_nor_looked_at(database: Database) -> None:
    await add_lanes(database, "a")
    (first,) = await sent(database, "a", 1)
    sessions, clock = opened("a"), Clock()
    session = sessions["a"]
    ticks = ticks_of(database, sessions, clock)

    async def looked(seconds: range) -> list[int]:
        found = []
        for second in seconds:
            before, clock.now = page(session).looks, second
            await ticks.run_once()
            found += [second] * (page(session).looks - before)
        return found

    assert await looked(range(10)) == [0, 1, 3, 7]
    ticks.database = cast("Database", None)
    assert await looked(range(10, 15)) == []
    ticks.database = database

    page(session).shown = {f"b_{first}": Tick.DELIVERED}
    assert await looked(range(15, 24)) == [15, 16, 17, 19, 23], "a tick came, so that others may follow"
    page(session).broken = True
    assert await looked(range(24, 55)) == [31, 47]
    page(session).broken = False

    # Whichever drain sends a message does it through the session, and touches that after the result is written.
    (second,) = await sent(database, "a", 1)
    page(session).shown = {f"b_{second}": Tick.READ}
    session.touch()
    assert await looked(range(55, 56)) == [55]
    assert await value(database, "select state from jobs where id = %s", second) == "read"


async def test_a_message_that_is_settled_starts_the_pause_over(database: Database) -> None:
    await add_lanes(database, "a")
    (job,) = await add_jobs(database, "a", wake=False)
    await run(database, f"update jobs set {AS['submitting']}, submitted_at = now() where id = %s", job)
    jobs = Jobs(database, "wrk_a", Policy(attempts=3, backoff_seconds=5, confirm_seconds=60, settle_seconds=900))
    session = opened("a")["a"]
    settler = Settler(jobs, JobEvidence(database, cast("Any", None)))
    (drain,) = await database.read(Drain, "begin_drain", lane="a", worker="wrk_a", wakeup=0)
    await settler.settle(drain, session)
    assert await value(database, "select state from jobs") == "sent"
    assert session.used > 0
