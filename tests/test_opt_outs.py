"""Opt-outs by a stop word, and their confirmation, on a real database."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from fixtures_api import api, rows
from fixtures_lanes import add_jobs, add_lanes, value

from errors import OptedOut
from sql.database import Database
from tasks.lanes import wake_returned
from tasks.sending import opt_outs

PHONE, REPLY = "15551230001", "You will get no more messages from us."
MINUTES = timedelta(minutes=4)
WAKEUPS = "select count(*) from procrastinate_jobs where status = 'todo'"


async def says_stop(
    database: Database, phone: str = PHONE, account: str = "a", *, said: str = "STOP", within: timedelta = MINUTES
) -> list[str]:
    """Have somebody opt out, and return the jobs that confirm it."""
    known = {row[0] for row in await rows(database, "select id from jobs")}
    async with database.transaction() as tx:
        await wake_returned(tx, await opt_outs.opt_out(tx, account, phone, said, within))
    return [row[0] for row in await rows(database, "select id from jobs order by seq") if row[0] not in known]


async def with_reply(database: Database) -> None:
    await add_lanes(database, "a", "b")
    await value(database, "update orgs set opt_out_reply = %s returning 1", REPLY)


async def is_let_through(database: Database, job: str, phone: str = PHONE) -> bool:
    try:
        await opt_outs.check(database, "a", phone, job)
    except OptedOut:
        return False
    return True


async def test_without_a_confirmation_an_opt_out_sends_nothing(database: Database) -> None:
    await add_lanes(database, "a")
    assert await says_stop(database) == []
    assert await rows(database, "select phone, account_id, reason, reply_job from opt_outs") == [
        (PHONE, "a", "STOP", None)
    ]


async def test_an_opt_out_is_confirmed_once_by_a_job_of_the_account_that_was_told(database: Database) -> None:
    await with_reply(database)
    [job] = await says_stop(database)
    found: dict[str, Any] = await value(database, "select to_json(jobs) from jobs")
    assert {name: found[name] for name in ("account_id", "phone", "message", "priority", "state", "metadata")} == {
        "account_id": "a", "phone": PHONE, "message": REPLY, "priority": 1, "state": "queued", "metadata": None,
    }  # fmt: skip
    assert [step["detail"] for step in found["timeline"]] == ["confirms an opt-out"]
    assert await value(database, "select expires_at - send_at = interval '4 minutes' from jobs")
    assert await value(database, WAKEUPS) == 1
    assert await says_stop(database) == []
    assert await says_stop(database, account="b") == [], "an opt-out holds for all accounts of the org"
    assert await value(database, "select reply_job from opt_outs") == job


async def test_only_its_confirmation_is_let_through(database: Database) -> None:
    await with_reply(database)
    [mine] = await says_stop(database)
    [other] = await says_stop(database, "15551230002")
    [order] = await add_jobs(database, "a")
    assert await is_let_through(database, mine)
    assert not await is_let_through(database, other)
    assert not await is_let_through(database, order)
    assert await is_let_through(database, order, "15551230003")


async def test_a_second_opt_out_after_the_first_was_lifted_is_confirmed_again(database: Database) -> None:
    await with_reply(database)
    [first] = await says_stop(database)
    await database.all("lift_opt_out", org="org_default", phone=PHONE)
    [second] = await says_stop(database)
    assert second != first
    assert await is_let_through(database, second)
    assert not await is_let_through(database, first)


@pytest.mark.parametrize("within", [timedelta(), timedelta(seconds=-1)])
async def test_one_that_may_be_old_is_not_confirmed(database: Database, within: timedelta) -> None:
    await with_reply(database)
    assert await says_stop(database, within=within) == []
    assert not await is_let_through(database, "job_any")
    assert await says_stop(database) == [], "nor is the next one, while it holds"


async def test_who_was_entered_by_hand_is_answered_nothing(database: Database) -> None:
    await with_reply(database)
    await database.all("add_opt_out", id="opt_1", org="org_default", phone=PHONE, reason="by hand")
    assert await says_stop(database) == []
    assert not await is_let_through(database, "job_any")


async def test_the_other_form_of_a_number_is_the_same_person(database: Database) -> None:
    await with_reply(database)
    [job] = await says_stop(database, "5511987654321")
    assert await says_stop(database, "551187654321") == []
    assert await is_let_through(database, job, "551187654321")


@pytest.mark.parametrize("said", ["STOP\0", "STOP \ud83d"])
async def test_what_postgres_cannot_hold_loses_no_opt_out(database: Database, said: str) -> None:
    await with_reply(database)
    assert await says_stop(database, said=said)
    assert (await value(database, "select reason from opt_outs")).strip() == "STOP"


async def test_two_forms_of_a_number_that_opt_out_at_once_are_one_opt_out(database: Database) -> None:
    await with_reply(database)
    async with database.transaction() as tx:
        await opt_outs.opt_out(tx, "a", "5511987654321", "STOP", MINUTES)
        other = asyncio.create_task(says_stop(database, "551187654321", "b"))
        while not await value(database, "select count(*) from pg_locks where not granted"):
            assert not other.done()
    assert len(await other) == 1, "the confirmation of the first, which was not seen before"
    assert len(await rows(database, "select id from opt_outs")) == 1
    [(job,)] = await rows(database, "select id from jobs")
    assert await is_let_through(database, job, "5511987654321")


async def test_a_confirmation_is_not_sent_again(database: Database, database_url: str) -> None:
    await with_reply(database)
    [job] = await says_stop(database)
    await rows(database, "update jobs set state = 'failed', ended_at = now(), error_code = 'expired' returning id")
    async with api(database_url) as client:
        for _ in range(2):
            answer = await client.post(f"/jobs/{job}/retry", json={"force": True})
            assert answer.status_code == 409
            assert "confirms an opt-out" in answer.json()["detail"]
            await client.delete(f"/opt-outs/{PHONE}")
    assert await value(database, "select state from jobs") == "failed"


async def test_a_confirmation_goes_to_the_number_as_it_is_dialled(database: Database) -> None:
    await with_reply(database)
    await says_stop(database, "5215512345678")
    assert await rows(database, "select opt_outs.phone, jobs.phone from opt_outs join jobs on jobs.id = reply_job") == [
        ("5215512345678", "525512345678")
    ]


async def test_a_closed_lane_is_not_woken(database: Database) -> None:
    await with_reply(database)
    await database.all("close_gate", lane="a", seconds=None, reason="paused")
    [_] = await says_stop(database)
    assert await value(database, WAKEUPS) == 0


async def test_a_confirmation_that_cannot_be_queued_loses_no_opt_out(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await with_reply(database)
    async with database.transaction() as tx:
        await tx.connection.execute("alter table jobs add check (message not like 'You will%')")
    assert await says_stop(database) == []
    assert not await is_let_through(database, "job_any")
    assert await value(database, "select reply_job is null from opt_outs")
    [line] = [one for one in caplog.records if one.name == "tasks.sending.opt_outs"]
    assert (line.levelname, line.__dict__["event"]) == ("ERROR", "opt_out.unconfirmed")
    assert REPLY not in caplog.text
    assert PHONE not in caplog.text
