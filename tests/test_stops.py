"""What a stop costs: the message in hand at most, and only for as long as the page is not known."""

from pathlib import Path

import pytest
from fixtures_house import House, house
from fixtures_lanes import add_jobs, add_lanes, until, value

from sql.database import Database
from tasks.accounts import AccountWork
from tasks.lanes import UNKNOWN_MOST, Pulse

TICKS = ".meta .status, .meta title, .cell-preview .status, .cell-preview title"
MESSAGES = 4


def look_anew(it: House, *pauses: float) -> None:
    """Have a page that is not known looked at again after so many seconds."""
    assert it.worker
    work = it.worker.lanes.works["account"]
    assert isinstance(work, AccountWork)
    work.trouble.look_anew = pauses


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
        look_anew(it, 1.0)
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
    await add_jobs(database, "a", UNKNOWN_MOST)
    await add_jobs(database, "b", UNKNOWN_MOST - 1)
    async with database.transaction() as tx:
        await tx.connection.execute(
            "update jobs set state = 'submitting', submitted_at = now() - interval '1 day', error_reason = 'unreadable'"
        )
    pulse = Pulse(database_url, 900, breaker_seconds=60)
    await pulse.run_once()
    await pulse.close()
    assert (
        await value(database, "select string_agg(distinct error_reason, ' ') from jobs where state = 'failed'")
        == "unreadable"
    )
    counts = "select array_agg(unknown_in_a_row order by id) from accounts"
    assert await value(database, counts) == [UNKNOWN_MOST, UNKNOWN_MOST - 1]
    assert await value(database, "select array_agg(gate_reason order by id) from lanes") == ["outcome_unknown", None]
    assert await value(database, "select array_agg(open_at > now() order by id) from lanes") == [True, False]
