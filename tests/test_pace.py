"""Pace at the level of lanes: real Postgres, real drains; submitted_at is moved in SQL where people would wait."""

import asyncio
import itertools
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from fixtures_lanes import AS, SENT, add_jobs, add_lanes, add_worker, lane_worker, pulse_until, until, value
from fixtures_postgres import own_database
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from sql.database import Database
from sql.pace_limits import PaceLimits
from tasks.lanes import Drain
from tasks.sending.claimed_job import Job
from tasks.sending.pace import LONGEST_GAP, Pace, PaceStatus

NONE = PaceLimits(0, 0, 0, 0, 0, 0, per_recipient_hour=0, gap_seconds=(0, 0), quiet_hours=None)
GATE = "select gate_reason from lanes"


# --- a worker that paces -----------------------------------------------------------------------------------------


@dataclass
class Paced:
    """Takes jobs as AccountWork does, and submits them without a page."""

    database: Database
    pace: Pace
    done: list[str] = field(default_factory=list)

    async def begin(self, drain: Drain) -> bool:
        await self.database.all("release_typed", lane=drain.lane, epoch=drain.epoch)
        return True

    async def one(self, drain: Drain) -> bool:
        if not await self.pace.before(drain):
            return False
        jobs = await self.database.read(Job, "take_job", lane=drain.lane, epoch=drain.epoch, worker="wrk_a")
        for job in jobs:
            if await self.pace.admits(job):
                await self._send(drain, job)
        return bool(jobs)

    async def _send(self, drain: Drain, job: Job) -> None:
        submit = {"job": job.id, "claim": job.claim, "anchor": None, "generation": 1, "margin": 10, "look": 5}
        submit["pressed_on"] = "here"
        if not await value(self.database, "select count(*) from workers where id = 'wrk_a'"):
            await add_worker(self.database)
        assert await self.database.one("lease_account", account=drain.lane, worker="wrk_a", lease=30)
        assert await self.database.one("submit_job", lane=drain.lane, epoch=drain.epoch, worker="wrk_a", **submit)
        await self.database.all("job_sent", job=job.id, claim=job.claim, bubble=None, detail=None)
        self.done.append(job.id)


def paced(database: Database, *, defer: bool = False, **limits: Any) -> Paced:
    return Paced(database, Pace(database, replace(NONE, **limits), defer, lambda: False))


async def drain(work: Paced, lane: str = "a") -> None:
    """One turn of the lane, as a wake-up runs it."""
    turn = await begin(work.database, lane)
    await work.begin(turn)
    while await work.one(turn):
        pass


async def begin(database: Database, lane: str = "a") -> Drain:
    return (await database.read(Drain, "begin_drain", lane=lane, worker="wrk_a", wakeup=1))[0]


async def run(database: Database, statement: str, *values: object) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute(statement, values or None)


async def sent_before(database: Database, seconds: list[float], phone: str = "1999") -> None:
    """Add messages that were submitted so many seconds ago."""
    for job in await add_jobs(database, "a", len(seconds), phone=phone, wake=False):
        await run(
            database,
            f"update jobs set {AS['sent']}, phone = %s, submitted_at = now() - %s * interval '1 s' "
            "where id = %s",
            phone, seconds.pop(0), job,
        )  # fmt: skip


async def pass_time(database: Database, seconds: float) -> None:
    """Move everything that was into the past, as if so much time had passed."""
    await run(database, "update jobs set submitted_at = submitted_at - %s * interval '1 s'", seconds)
    await run(database, "update jobs set due_at = due_at - %s * interval '1 s'", seconds)
    await run(database, "update lanes set open_at = open_at - %s * interval '1 s'", seconds)


# --- minute and hour ---------------------------------------------------------------------------------------------


async def test_twenty_go_in_a_minute_and_the_rest_follow_in_order_when_it_is_over(
    database: Database, database_url: str
) -> None:
    await add_lanes(database, "a")
    work = paced(database, per_minute=20, per_hour=100)
    async with lane_worker(database_url, "wrk_a") as worker:
        worker.lanes.works = {"account": work}
        jobs = await add_jobs(database, "a", 25)
        await until(database, GATE, "pace_minute")
        assert work.done == jobs[:20]
        exact = "select open_at = (select min(submitted_at) + interval '1 minute' from jobs) from lanes"
        assert await value(database, exact)
        assert await value(database, "select count(*) from jobs where state = 'queued' and attempts = 0") == 5
        await pass_time(database, 61)
        await pulse_until(worker.pulse, database, 25)
    assert work.done == jobs


@pytest.mark.parametrize(("limit", "seconds", "reason"), [("per_minute", 60, "minute"), ("per_hour", 3600, "hour")])
async def test_a_window_is_full_at_its_limit_and_not_before(
    database: Database, limit: str, seconds: int, reason: str
) -> None:
    await add_lanes(database, "a")
    limits: dict[str, Any] = {limit: 3}
    work = paced(database, **limits)
    # The third has left the window, so that one more may go.
    await sent_before(database, [seconds - 20, seconds - 30, seconds + 1])
    jobs = await add_jobs(database, "a", 2, wake=False)
    await drain(work)
    assert work.done == jobs[:1]
    assert await value(database, GATE) == f"pace_{reason}"
    left = await value(database, "select extract(epoch from open_at - now())::float8 from lanes")
    assert 0 < left <= 20


async def test_a_new_worker_forgets_nothing(database: Database, database_url: str) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [1.0] * 20)
    work = paced(database, per_minute=20)
    async with lane_worker(database_url, "wrk_a") as worker:
        worker.lanes.works = {"account": work}
        await add_jobs(database, "a")
        await until(database, GATE, "pace_minute")
    assert work.done == []


async def test_a_message_counts_from_its_permission_to_press_enter(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [1.0])
    await run(database, f"update jobs set {AS['failed']}, error_code = 'outcome_unknown'")
    await add_jobs(database, "a", wake=False)
    await drain(paced(database, per_hour=1))
    assert await value(database, GATE) == "pace_hour"


async def test_a_limit_lowered_at_run_time_holds_at_once(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [float(second) for second in range(1, 11)])
    await add_jobs(database, "a", wake=False)
    await drain(paced(database, per_minute=3))
    # The third newest was submitted 3 s ago; when it is a minute old, two are left.
    left = await value(database, "select extract(epoch from open_at - now())::float8 from lanes")
    assert 50 < left <= 57


async def test_zero_switches_every_limit_off(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [1.0] * 50, phone="15551")
    jobs = await add_jobs(database, "a", 30, phone="1555", wake=False)
    work = paced(database)
    await drain(work)
    assert work.done == jobs


async def test_an_account_without_pace_is_not_held_up(database: Database) -> None:
    await add_lanes(database, "a")
    await run(database, "update accounts set pace = false")
    jobs = await add_jobs(database, "a", 10, wake=False)
    await run(database, "update jobs set phone = '1555'")
    work = paced(database, per_minute=1, per_hour=1, per_day=1, per_recipient_hour=1, gap_seconds=(60, 60))
    await drain(work)
    assert work.done == jobs
    assert await value(database, "select open_at = '-infinity' from lanes")


@pytest.mark.parametrize(("open_at", "reason"), [("infinity", "paused"), ("9999-01-01", "offline")])
async def test_a_gate_that_others_closed_stays_closed(database: Database, open_at: str, reason: str) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [1.0])
    await add_jobs(database, "a", 2, wake=False)
    work = paced(database, per_minute=1, per_day=1)
    turn = await begin(database)
    await run(database, "update lanes set open_at = %s, gate_reason = %s", open_at, reason)
    before = await value(database, "select open_at::text from lanes")
    assert not await work.pace.before(turn)
    assert not await paced(database, per_minute=1).pace.before(turn)
    assert await value(database, "select open_at::text from lanes") == before
    assert await value(database, GATE) == reason
    assert await value(database, "select count(*) from jobs where state = 'queued'") == 2, "what is paused waits"


async def test_an_older_drain_moves_no_gate_and_rejects_nothing(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [1.0])
    await add_jobs(database, "a", wake=False)
    old = await begin(database)
    await begin(database)
    for work in (paced(database, per_minute=1), paced(database, per_day=1)):
        assert not await work.pace.before(old)
    assert await value(database, "select open_at = '-infinity' from lanes")
    assert await value(database, "select count(*) from jobs where state = 'queued'") == 1


# --- recipients --------------------------------------------------------------------------------------------------


async def test_a_recipient_who_had_enough_holds_up_nobody_else(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [1000.0] + [100.0] * 9, phone="1777")
    held = await add_jobs(database, "a", 3, seconds=-60, wake=False)
    await run(database, "update jobs set phone = '1777' where state = 'queued'")
    others = await add_jobs(database, "a", 2, phone="1888", wake=False)
    work = paced(database, per_recipient_hour=10)
    await drain(work)
    assert work.done == others
    assert await value(database, "select open_at = '-infinity' from lanes")
    waiting = "select array_agg(id order by due_at, seq) from jobs where state = 'queued' and attempts = 0"
    assert await value(database, waiting) == held
    assert await value(
        database,
        "select min(due_at) filter (where state = 'queued') = min(submitted_at) + interval '1 hour' from jobs",
    )
    assert await value(database, "select claim from jobs where id = %s", held[0]) is None
    reason = await value(database, "select timeline -> -1 ->> 'detail' from jobs where id = %s", held[0])
    assert reason == "pace_recipient"


async def test_what_is_put_off_keeps_its_order_when_more_comes(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [3599.0 - 10 * number for number in range(2)], phone="1777")
    later = await add_jobs(database, "a", seconds=300, wake=False)
    soon = await add_jobs(database, "a", 3, wake=False)
    await run(database, "update jobs set phone = '1777'")
    await run(database, "update jobs set send_at = due_at where state = 'queued'")
    await run(database, "update jobs set submitted_at = submitted_at + interval '1000 s'")
    work = paced(database, per_recipient_hour=2)
    await drain(work)
    (newest,) = await add_jobs(database, "a", wake=False)
    await run(database, "update jobs set phone = '1777' where id = %s", newest)
    await drain(work)
    assert work.done == []
    for _ in range(5):
        await pass_time(database, 3600)
        await drain(work)
    assert work.done == [*soon, newest, *later]
    assert await value(database, "select max(attempts) from jobs where state = 'sent'") == 1


async def test_a_job_that_was_tried_before_keeps_its_count(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [1.0], phone="1777")
    await add_jobs(database, "a", wake=False)
    await run(database, "update jobs set phone = '1777', attempts = 2 where state = 'queued'")
    await drain(paced(database, per_recipient_hour=1))
    assert await value(database, "select attempts from jobs where state = 'queued' and claim is null") == 2


# --- the day -----------------------------------------------------------------------------------------------------


async def test_over_the_days_limit_what_is_due_fails_and_later_days_stay(database: Database) -> None:
    await add_lanes(database, "a")
    await run(
        database,
        "insert into lanes (id, org_id, kind, queue) values ('whe_1', 'org_default', 'endpoint', 'endpoint');"
        "insert into endpoints (id, org_id, url, events, secret) "
        "values ('whe_1', 'org_default', 'x', '{JobFailed}', '')",
    )
    # Where it is about noon, so that no midnight comes within the test.
    await run(database, "update accounts set time_zone = %s", f"Etc/GMT{datetime.now(UTC).hour - 12:+d}")
    sent = await add_jobs(database, "a", 2, wake=False)
    work = paced(database, per_day=2)
    await drain(work)
    assert work.done == sent
    due = await add_jobs(database, "a", 501, wake=False)
    later = await add_jobs(database, "a", 3, seconds=24 * 3600, wake=False)
    await drain(work)
    failed = "select array_agg(id order by seq) from jobs where state = 'failed' and error_code = 'daily_cap_exceeded'"
    assert await value(database, failed) == due
    assert "2 messages today and may send 2" in await value(
        database, "select error_detail from jobs where id = %s", due[0]
    )
    assert await value(database, "select array_agg(id order by seq) from jobs where state = 'queued'") == later
    assert await value(database, "select count(*) from deliveries") == 501
    assert await value(database, "select count(*) from procrastinate_jobs where lock = 'whe_1'") == 1
    assert await value(database, "select open_at = '-infinity' from lanes where id = 'a'"), (
        "what is due later fails later"
    )


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/Sao_Paulo", "Europe/Berlin", "Pacific/Kiritimati"])
async def test_deferred_messages_wait_for_the_next_local_midnight(database: Database, zone: str) -> None:
    await add_lanes(database, "a")
    await run(database, "update accounts set time_zone = %s", zone)
    jobs = await add_jobs(database, "a", 3, wake=False)
    work = paced(database, defer=True, per_day=2)
    await drain(work)
    assert work.done == jobs[:2]
    assert await value(database, GATE) == "pace_day"
    opens: datetime = await value(database, "select open_at from lanes")
    local = opens.astimezone(ZoneInfo(zone))
    now: datetime = await value(database, "select now()")
    assert (local.time(), now < opens <= now + timedelta(hours=25)) == (time(), True)
    assert await value(database, "select state from jobs where id = %s", jobs[2]) == "queued"


async def test_yesterday_is_the_accounts_own_yesterday(database: Database) -> None:
    """At 18:10 UTC it is 23:55 in Kathmandu: what was sent then is not counted ten minutes later."""
    await add_lanes(database, "a")
    await run(database, "update accounts set time_zone = 'Asia/Kathmandu'")
    await sent_before(database, [0.0] * 4)
    await run(database, "update jobs set submitted_at = '2026-05-01T18:10Z'")
    used = "select day_used from pace_of('a', '{\"per_day\": 4}', %s)"
    assert [await value(database, used, at) for at in ("2026-05-01T18:14Z", "2026-05-01T18:15Z")] == [4, 0]
    closed = "select reason || iso(opens_at) from pace_of('a', '{\"per_day\": 4}', '2026-05-01T18:14Z')"
    assert await value(database, closed) == "pace_day2026-05-01T18:15:00.000Z"


@pytest.mark.parametrize(
    ("at", "began", "ends"),
    [
        ("2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ("2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
    ],
)
async def test_a_day_on_which_clocks_change_has_23_or_25_hours(
    database: Database, at: str, began: str, ends: str
) -> None:
    await add_lanes(database, "a")
    await run(database, "update accounts set time_zone = 'Europe/Berlin'")
    await sent_before(database, [0.0, 0.0])
    first, second = await value(database, "select array_agg(id) from jobs")
    await run(database, "update jobs set submitted_at = %s where id = %s", began, first)
    await run(database, "update jobs set submitted_at = %s::timestamptz - interval '1 s' where id = %s", began, second)
    row = "select day_used || ' ' || iso(resets_at) from pace_of('a', '{}', %s)"
    assert await value(database, row, at) == f"1 {ends.removesuffix('Z')}:00.000Z"


async def test_the_ramp_grows_with_each_day_since_the_account_was_first_ready(database: Database) -> None:
    await add_lanes(database, "a")
    await run(database, "update accounts set time_zone = 'Europe/Berlin'")
    limits = Jsonb({"per_day": 190, "ramp_start": 100, "ramp_step": 50, "ramp_max": 2000})
    limit = "select day_limit from pace_of('a', %s, %s)"
    assert await value(database, limit, limits, "2026-03-28T22:00Z") == 100, "never ready: as on the first day"
    await run(database, "update accounts set first_ready_at = '2026-03-28T22:30Z'")  # 23:30 in Berlin
    for at, wanted in (
        ("2026-03-28T22:59Z", 100),
        ("2026-03-28T23:00Z", 150),
        ("2026-03-29T21:59Z", 150),
        ("2026-03-29T22:00Z", 190),
        ("2027-01-01T00:00Z", 190),
    ):
        assert await value(database, limit, limits, at) == wanted
    await run(database, "update accounts set pace = false")
    assert await value(database, limit, limits, "2026-03-28T22:59Z") is None


@given(
    st.tuples(st.integers(0, 3000), st.integers(0, 500), st.integers(0, 100), st.integers(0, 3000)), st.integers(0, 99)
)
def test_the_days_limit_is_the_smaller_of_both_and_zero_is_none(
    connection: psycopg.Connection, limits: tuple[int, int, int, int], days: int
) -> None:
    per_day, start, step, most = limits
    ramp = min(start + step * days, most or 10**9) if start else 10**9
    row = connection.execute(
        "select day_limit(row(0, 0, %s, %s, %s, %s, null, null)::pace_limits, %s)", [*limits, days]
    ).fetchone()
    wanted = min(per_day or 10**9, ramp)
    assert row == (wanted if wanted < 10**9 else None,)


# --- clocks ------------------------------------------------------------------------------------------------------

#: Zones whose past is settled: clocks that leap at midnight, over midnight, by half an hour, by 45 minutes off, never.
ZONES = [
    "UTC", "Asia/Kathmandu", "America/Sao_Paulo", "Europe/Berlin", "America/Havana", "America/New_York",
    "Australia/Lord_Howe", "Pacific/Apia", "Europe/Lisbon",
]  # fmt: skip
NO_DAY = {("Pacific/Apia", date(2011, 12, 30))}  # the day on which Samoa changed sides of the date line


@pytest.fixture(scope="module")
def connection(postgres: str) -> Iterator[psycopg.Connection]:
    with own_database(postgres) as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection


@settings(max_examples=300)
@given(zone=st.sampled_from(ZONES), day=st.dates(date(2011, 1, 1), date(2025, 12, 31)))
def test_midnight_is_the_first_moment_of_a_day(connection: psycopg.Connection, zone: str, day: date) -> None:
    check_midnight(connection, zone, day)


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("America/Sao_Paulo", date(2018, 11, 4)),  # no midnight
        ("America/Sao_Paulo", date(2018, 2, 18)),  # the hour before it twice
        ("America/Havana", date(2023, 3, 12)),  # no midnight
        ("America/Havana", date(2023, 11, 5)),  # midnight twice
        ("Europe/Berlin", date(2026, 3, 29)),
        ("Pacific/Apia", date(2011, 12, 31)),  # after a day that was not
    ],
)
def test_midnight_on_the_days_on_which_clocks_change(connection: psycopg.Connection, zone: str, day: date) -> None:
    check_midnight(connection, zone, day)


def check_midnight(connection: psycopg.Connection, zone: str, day: date) -> None:
    if (zone, day) in NO_DAY:
        return
    row = connection.execute("select midnight(%s, %s)", [day, zone]).fetchone()
    assert row
    at: datetime = row[0]
    assert at.astimezone(ZoneInfo(zone)).date() == day
    assert (at - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date() < day


@settings(max_examples=200)
@given(
    zone=st.sampled_from(ZONES),
    at=st.datetimes(datetime(2012, 1, 1), datetime(2025, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis adds it
    begin=st.integers(0, 1439),
    length=st.integers(1, 20 * 60),
)
def test_quiet_hours_end_by_the_clock_on_the_wall(
    connection: psycopg.Connection, zone: str, at: datetime, begin: int, length: int
) -> None:
    check_quiet(connection, zone, at, clock(begin), clock(begin + length))


@pytest.mark.parametrize("hour", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
@pytest.mark.parametrize(
    ("begin", "end"), [("22:00", "02:30"), ("02:15", "02:45"), ("21:00", "08:00"), ("02:30", "03:15")]
)
def test_quiet_hours_on_the_nights_on_which_berlins_clocks_change(
    connection: psycopg.Connection, hour: datetime, begin: str, end: str
) -> None:
    for minutes in range(-120, 180, 5):
        at = hour + timedelta(minutes=minutes)
        check_quiet(connection, "Europe/Berlin", at, time.fromisoformat(begin), time.fromisoformat(end))


def clock(minutes: int) -> time:
    return time(minutes // 60 % 24, minutes % 60)


def is_quiet(at: datetime, zone: str, begin: time, end: time) -> bool:
    now = at.astimezone(ZoneInfo(zone)).time()
    return begin <= now < end if begin < end else now >= begin or now < end


def check_quiet(connection: psycopg.Connection, zone: str, at: datetime, begin: time, end: time) -> None:
    row = connection.execute("select quiet_until(%s, %s, %s, %s)", [at, begin, end, zone]).fetchone()
    assert row
    if not is_quiet(at, zone, begin, end):
        assert row[0] is None
        return
    minutes = (at.replace(second=0, microsecond=0) + timedelta(minutes=number) for number in itertools.count(1))
    first = next(minute for minute in minutes if not is_quiet(minute, zone, begin, end))
    now = at.astimezone(ZoneInfo(zone))
    left = (datetime.combine(date.min, end) - datetime.combine(date.min, now.time())) % timedelta(days=1)
    # Where clocks show the end twice, or leap over it, up to an hour more.
    assert first <= row[0] <= at + left + timedelta(hours=1)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
async def test_in_quiet_hours_messages_wait_and_none_fails(database: Database, zone: str) -> None:
    await add_lanes(database, "a")
    await run(database, "update accounts set time_zone = %s", zone)
    await sent_before(database, [1.0])
    await add_jobs(database, "a", wake=False)
    now: datetime = (await value(database, "select now()")).astimezone(ZoneInfo(zone)).replace(second=0, microsecond=0)
    begin, end = now - timedelta(hours=1), now + timedelta(hours=1)
    work = paced(database, per_day=1, quiet_hours=(begin.time(), end.time()))
    await drain(work)
    assert (work.done, await value(database, GATE)) == ([], "quiet_hours")
    assert await value(database, "select open_at from lanes") == end
    assert await value(database, "select count(*) from jobs where state = 'queued'") == 1


async def test_a_window_that_opens_in_quiet_hours_opens_at_their_end(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [0.0])
    await run(database, "update jobs set submitted_at = '2026-05-01T20:30Z'")
    limits = Jsonb({"per_hour": 1, "quiet_from": "21:00", "quiet_to": "08:00"})
    row = "select reason || ' ' || iso(opens_at) from pace_of('a', %s, %s)"
    assert await value(database, row, limits, "2026-05-01T20:40Z") == "quiet_hours 2026-05-02T08:00:00.000Z"
    assert await value(database, row, limits, "2026-05-02T08:00Z") is None


# --- the gap -----------------------------------------------------------------------------------------------------


async def test_messages_keep_their_distance(database: Database) -> None:
    await add_lanes(database, "a")
    jobs = await add_jobs(database, "a", 4, wake=False)
    work = paced(database, gap_seconds=(0.3, 0.6))
    await drain(work)
    assert work.done == jobs
    times = await value(database, "select array_agg(submitted_at order by submitted_at) from jobs")
    assert min(after - before for before, after in itertools.pairwise(times)) >= timedelta(seconds=0.3)


async def test_a_gap_ends_early_when_the_worker_stops(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [0.0])
    await add_jobs(database, "a", wake=False)
    stopping = asyncio.Event()
    pace = Pace(database, replace(NONE, gap_seconds=(9, 9)), defer=False, stopping=stopping.is_set)
    waiting = asyncio.create_task(pace.before(await begin(database)))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.5)
    assert not waiting.done()
    stopping.set()
    assert await asyncio.wait_for(waiting, 30) is False


async def test_a_long_gap_closes_the_gate_and_is_the_same_at_every_look(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [1.0])
    await add_jobs(database, "a", wake=False)
    work = paced(database, gap_seconds=(LONGEST_GAP + 10, 600))
    await drain(work)
    assert (work.done, await value(database, GATE)) == ([], "pace_gap")
    opens = await value(database, "select open_at from lanes")
    await run(database, "update lanes set open_at = '-infinity'")
    await drain(paced(database, gap_seconds=(LONGEST_GAP + 10, 600)))
    again = await value(database, "select open_at from lanes")
    assert abs(again - opens) < timedelta(seconds=0.1)


@given(took=st.floats(0, 1.0), seed=st.integers(0, 10_000))
def test_a_full_minute_is_reached_with_gaps_at_random(took: float, seed: int) -> None:
    """Twenty-five are due at once; what each takes to type varies by a fifth."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    at, sent = 1000.0, list[float]()
    while len(sent) < 20:
        typing = took * chance.uniform(0.8, 1.2)
        if sent:
            gap = look(at, sent, due=25 - len(sent), took=typing, salt=seed).gap("a", 2, 5)
            assert 2 <= gap <= 5
            at += gap
        at += typing
        sent.append(at)
    assert sent[-1] - sent[0] < 60


@given(st.integers(0, 10_000))
def test_few_messages_have_the_whole_gap_at_random(seed: int) -> None:
    gaps = [look(1000.0, [1000.0], due=1, took=1.0, salt=salt).gap("a", 2, 5) for salt in range(seed, seed + 200)]
    assert 2 <= min(gaps) < 2.5
    assert 4.5 < max(gaps) <= 5


@given(st.integers(0, 10_000))
def test_a_gap_that_is_too_long_for_the_minutes_limit_stays_at_random(seed: int) -> None:
    """With ten seconds at least, twenty in a minute are out of reach: nothing is gained by always waiting the least."""
    gaps = [look(1000.0, [1000.0], due=20, took=1.0, salt=salt).gap("a", 10, 20) for salt in range(seed, seed + 200)]
    assert 10 <= min(gaps) < 12
    assert 18 < max(gaps) <= 20


def look(at: float, sent: list[float], *, due: int, took: float, salt: int) -> PaceStatus:
    """What Postgres would say right after the last of these submissions."""
    minute = [one for one in sent if one > at - 60]
    last = datetime.fromtimestamp(sent[-1] + salt * 1000, UTC)
    return PaceStatus(
        due=min(due, 20), opens_at=None, reason=None, quiet_until=None, minute_limit=20, minute_used=len(minute),
        day_limit=None, day_used=0, day_over=None, resets_at=last, time_zone="UTC", now=last, submitted_at=last,
        since=at - sent[-1], room=min(minute) + 60 - sent[-1], took=took,
    )  # fmt: skip


async def test_nothing_is_waited_for_when_nothing_is_due(database: Database) -> None:
    await add_lanes(database, "a")
    await sent_before(database, [0.0] * 3)
    await add_jobs(database, "a", seconds=60, wake=False)
    work = paced(database, per_minute=1, gap_seconds=(60, 60))
    await asyncio.wait_for(drain(work), 20)
    assert await value(database, "select open_at = '-infinity' from lanes")
    assert await value(database, SENT) == 3
