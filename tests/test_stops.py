"""What a stop costs: the message in hand at most, and only for as long as the page is not known."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_house import House, house, make_settings
from fixtures_lanes import AS, add_jobs, add_lanes, add_worker, until, value

from browser.page.whatsapp import WhatsApp
from commands.demo_timing import PATIENCE
from errors import NotLinked, SendError, UiChanged, WrongChat
from sql.database import Database
from tasks.lanes import UNKNOWN_LIMIT, Drain
from tasks.pulse import Pulse
from tasks.sending.claimed_job import Job
from tasks.web import send
from tasks.web.lane import AccountWork
from wiring.worker import make_worker

TICKS = ".meta .status, .meta title, .cell-preview .status, .cell-preview title"
MESSAGES = 4


def ui_recheck(it: House, *pauses: float) -> None:
    """Have a page that is not known looked at again after so many seconds."""
    assert it.worker
    work = it.worker.lanes.works["account"]
    assert isinstance(work, AccountWork)
    work.errors.ui_recheck_seconds = pauses


@asynccontextmanager
async def drained(database: Database, url: str, folder: Path) -> AsyncIterator[tuple[AccountWork, Drain]]:
    """Begin a drain of the account acc_1, which holds its lease."""
    worker = make_worker(make_settings(folder, url, 1, 1), url, "home_1")
    await add_worker(database, worker.id)
    work = worker.lanes.works["account"]
    assert isinstance(work, AccountWork)
    async with worker.opened():
        assert await work.seats.lease("acc_1")
        (drain,) = await database.read(Drain, "begin_drain", lane="acc_1", worker=worker.id, wakeup=1)
        yield work, drain


async def rename(it: House, account: str, css: str) -> None:
    await it.client.post(f"/sandbox/accounts/{account}/rename", {"css": css})


async def statuses(it: House, jobs: list[str]) -> list[str]:
    return [(await it.client.get(f"/jobs/{job}"))["status"] for job in jobs]


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_renamed_tick_costs_one_message_however_often_the_page_is_looked_at(
    database_url: str, tmp_path: Path
) -> None:
    async with house(tmp_path, database_url, confirm_seconds=6, settle_seconds=15, send_backoff_seconds=0.2) as it:
        account = await it.link(kind="2026-08")
        ui_recheck(it, 1.0)
        await it.ended(await it.send(account, "15557770001"))
        await rename(it, account, TICKS)
        jobs = [await it.send(account, f"1555777001{number}", f"message {number}") for number in range(MESSAGES)]
        ended = await it.ended(jobs[0])
        assert (ended["error"]["code"], ended["error"]["reason"]) == ("outcome_unknown", "unreadable")
        looks = "select count(*) from account_changes where account_id = %s and to_state = 'disconnected'"
        before = await value(it.database, looks, account)
        await until(it.database, f"select least(({looks}), %s)", before + 2, values=[account, before + 2])
        assert await statuses(it, jobs[1:]) == ["queued"] * (MESSAGES - 1)
        counted = "select unknown_in_a_row from accounts where id = %s"
        assert await value(it.database, counted, account) == 1
        await rename(it, account, "#nothing")
        assert all([(await it.ended(job))["sentAt"] for job in jobs[1:]])
        received = [await it.received(f"1555777001{number}") for number in range(MESSAGES)]
        assert received == [[f"message {number}"] for number in range(MESSAGES)]


async def test_what_is_given_up_counts_and_closes_the_gate(database: Database, database_url: str) -> None:
    await add_lanes(database, "a", "b")
    await add_jobs(database, "a", UNKNOWN_LIMIT)
    await add_jobs(database, "b", UNKNOWN_LIMIT - 1)
    async with database.transaction() as tx:
        await tx.connection.execute(
            f"update jobs set {AS['submitting']}, submitted_at = now() - interval '1 day', error_reason = 'unreadable'"
        )
    pulse = Pulse(database_url, 900, breaker_seconds=60)
    await pulse.run_once()
    await pulse.close()
    assert (
        await value(database, "select string_agg(distinct error_reason, ' ') from jobs where state = 'failed'")
        == "unreadable"
    )
    counts = "select array_agg(unknown_in_a_row order by id) from accounts"
    assert await value(database, counts) == [UNKNOWN_LIMIT, UNKNOWN_LIMIT - 1]
    assert await value(database, "select array_agg(gate_reason order by id) from lanes") == ["outcome_unknown", None]
    assert await value(database, "select array_agg(open_at > now() order by id) from lanes") == [True, False]


@pytest.mark.parametrize("way", ["try_again", "not_pressed"])
async def test_a_job_that_is_queued_again_says_no_more_why_its_outcome_was_unknown(
    database: Database, way: str
) -> None:
    await add_lanes(database, "a")
    (job,) = await add_jobs(database, "a")
    (drain,) = await database.read(Drain, "begin_drain", lane="a", worker="wrk_a", wakeup=0)
    (taken,) = await database.read(Job, "take_job", lane="a", epoch=drain.epoch, worker="wrk_a")
    async with database.transaction() as tx:
        await tx.connection.execute(f"update jobs set {AS['submitting']}, submitter = claim")
    await database.all("note_reason", job=job, claim=taken.claim, reason="unreadable")
    await database.all(way, job=job, claim=taken.claim, seconds=0, code="page_hung", detail="")
    await value(database, "update jobs set expires_at = now() returning 1")
    assert len(await database.all("expire_jobs")) == 1
    assert '"error":{"code":"expired","detail":' in await value(database, "select body from outbox")
    assert "reason" not in await value(database, "select body from outbox")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("messages", "most", "attempts"), [(MESSAGES, 2, 2), (1, 3, 3), (1, 1, 2)])
async def test_a_chat_without_a_box_fails_in_the_end_and_stops_nobody_else(
    database_url: str, tmp_path: Path, messages: int, most: int, attempts: int
) -> None:
    async with house(tmp_path, database_url, send_attempts=most, send_backoff_seconds=0.2) as it:
        assert it.worker
        it.seats.patience = replace(PATIENCE, chat=6.0, boot=20.0)
        account = await it.link(kind="2026-08")
        ui_recheck(it, 1.0, 600.0)
        await it.ended(await it.send(account, "15557770001"))
        await rename(it, account, '[aria-label$="555-777-2000"]')
        jobs = [await it.send(account, f"1555777200{number}", "hello") for number in range(messages)]
        assert all([(await it.ended(job))["sentAt"] for job in jobs[1:]])
        ended = await it.ended(jobs[0])
        assert (ended["status"], ended["attempts"], ended["error"]["code"]) == ("failed", attempts, "ui_changed")
        assert "no compose box" in ended["error"]["detail"]
        stops = "select count(*) from account_changes where account_id = %s and to_state = 'disconnected'"
        assert await value(it.database, stops, account) == 1
        await it.ended(await it.send(account, "15557770001", "after it"))
        assert await it.received("15557770001") == ["hello", "after it"]


async def test_a_person_who_resumes_counts_an_attempt_of_what_was_in_hand(database: Database) -> None:
    await add_lanes(database, "a")
    in_hand, other = await add_jobs(database, "a", 2)
    async with database.transaction() as tx:
        await tx.connection.execute(
            "update jobs set error_code = 'ui_changed', started_at = now() where id = %s", [in_hand]
        )
    order = "select array_agg(id order by due_at, seq) from jobs"
    attempts = "select attempts from jobs where id = %s"
    await database.all("resume_account", account="a", org="org_default")
    assert await value(database, attempts, in_hand) == 0, "it was only paused"
    async with database.transaction() as tx:
        await tx.connection.execute("update accounts set probe_at = now()")
    for _ in range(2):
        await database.all("resume_account", account="a", org="org_default")
        assert (await value(database, attempts, in_hand), await value(database, order)) == (1, [other, in_hand])


@pytest.mark.long
async def test_an_enter_that_is_late_again_and_again_is_an_attempt(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, database_url, send_attempts=2, send_backoff_seconds=0.2) as it:
        account = await it.link(kind="2026-08")
        with monkeypatch.context() as patch:
            patch.setattr(send, "ENTER_MARGIN", 0.0)
            ended = await it.ended(await it.send(account, "15557770001", "too late"))
        assert (ended["attempts"], ended["error"]["code"]) == (2, "page_hung")
        assert [step["detail"] for step in ended["timeline"]].count("enter_not_pressed") == 2 * send.MAX_HELD_BACK - 1
        assert (await it.ended(await it.send(account, "15557770001", "in time")))["sentAt"]
        assert await it.received("15557770001") == ["in time"]


@pytest.mark.long
@pytest.mark.parametrize("error", [WrongChat(), UiChanged(element="compose")], ids=["wrong chat", "no box"])
async def test_a_look_that_the_page_does_not_bear_waits_longer_each_time(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: SendError
) -> None:
    looks = 0

    async def look_for(*_: object, **__: object) -> None:
        nonlocal looks
        looks += 1
        raise error

    async with house(tmp_path, database_url) as it:
        account = await it.link(kind="2026-08")
        job = await it.send(account, "15557770001")
        await it.ended(job)
        monkeypatch.setattr(WhatsApp, "look_for", look_for)
        async with it.database.transaction() as tx:
            await tx.connection.execute(
                f"update jobs set {AS['submitting']}, submitted_at = now(), due_at = now() where id = %s", [job]
            )
        other = await it.send(account, "15557770002", "meanwhile")
        waits = "select look_at - submitted_at > interval '15 seconds' from jobs where id = %s"
        await until(it.database, waits, wanted=True, values=[job])
        assert looks <= 3
        assert (await it.ended(other))["sentAt"]
        assert (await it.client.get(f"/jobs/{job}"))["status"] == "submitting"


async def test_each_selectors_are_tried_whoever_looks_first(database: Database) -> None:
    await add_lanes(database, "a")
    await add_worker(database)
    assert await database.one("lease_account", account="a", worker="wrk_a", lease=30)
    asked = "select probe_at <= now() from accounts"

    async def stop(by: str) -> None:
        began = await value(database, "select clock_timestamp()")
        stopped = {
            "account": "a",
            "worker": "wrk_a",
            "selectors": by,
            "pauses": [600.0],
            "began": began,
            "attend_at": None,
        }
        await database.all("stop_until_known", **stopped)
        await database.all("close_gate", lane="a", seconds=None, reason="ui_changed")

    async def asks(selectors: str) -> bool:
        await database.all("probe_with", selectors=selectors)
        return bool(await value(database, asked))

    await stop("1 old")
    assert not await asks("1 old")
    assert await asks("2 new")
    await stop("1 old")
    assert await asks("2 new"), "a worker with older selectors took that look"
    await stop("2 new")
    assert not await asks("2 new")
    assert not await asks("1 old")


async def test_a_login_that_is_doubted_in_a_look_opens_no_page_that_is_not_known(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    await add_lanes(database, "acc_1")
    await database.all("close_gate", lane="acc_1", seconds=None, reason="ui_changed")
    async with drained(database, database_url, tmp_path) as (work, drain):
        await work.errors.handle(drain, NotLinked(), opening=True)
    await database.all("open_linked_gate", account="acc_1", worker=work.seats.worker)
    assert await value(database, "select gate_reason from lanes where open_at = 'infinity'") == "ui_changed"
    assert await value(database, "select attend_at <= now() from lanes")


@pytest.mark.parametrize(
    ("reason", "seconds", "waits"),
    [(None, 40, True), (None, 20, False), ("rows_missing", 40, True), ("at_the_clock", 40, False)],
)
async def test_on_a_page_in_doubt_nothing_new_is_typed_before_the_message_in_hand_is_told(
    database: Database, database_url: str, tmp_path: Path, reason: str | None, seconds: int, *, waits: bool
) -> None:
    await add_lanes(database, "acc_1")
    (job, _) = await add_jobs(database, "acc_1", 2)
    async with database.transaction() as tx:
        await tx.connection.execute(
            f"update jobs set {AS['submitting']}, error_reason = %s, submitted_at = now() - interval '30 seconds' "
            "where id = %s",
            [reason, job],
        )
    async with drained(database, database_url, tmp_path) as (work, drain):
        await work.errors.wait_for_settling(drain, seconds)
        assert (await work.jobs.take(drain) is None) == waits
    assert await value(database, "select open_at < 'infinity' from lanes"), "it goes on by itself"
