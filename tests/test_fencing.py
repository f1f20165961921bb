"""A worker that was only slow comes back to an account that is another's by now, and changes nothing."""

import ast
import asyncio
import gc
import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from fixtures_api import api, new_account
from fixtures_history import waits_for_a_lock
from fixtures_lanes import SENT, add_jobs, add_lanes, add_worker, lane_worker, until, value

from sql.database import Database, Transaction
from sql.loader import queries
from tasks.lanes import Drain
from tasks.pulse import Pulse
from tasks.sending.claimed_job import Job

ROOT = Path(__file__).parent.parent
OLD, NEW = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
MOMENT = datetime(2100, 1, 1, tzinfo=UTC)

#: What a worker writes with while it has a lane, each with what has to be so for it to write, beyond `taken_over`.
FENCED: dict[str, LiteralString] = {
    # --- by the lane's epoch, or a wake-up in hand
    "begin_drain": "select 1",
    "end_drain": "select 1",
    "take_job": "select 1",
    "submit_job": "select 1",
    "release_typed": "select 1",
    "take_submitted": "update jobs set state = 'submitting' where claim is not null",
    "attend_when_open": "update lanes set open_at = '2200-01-01', attend_at = null",
    "settle_later": "update jobs set state = 'submitting' where claim is not null",
    "hold_gate": "select 1",
    "reject_over_day": "select 1",
    "take_deliveries": "select 1",
    "write_health": "select 1",
    "disable_endpoint": "select 1",
    "recover_some": "insert into recoveries (id, org_id, endpoint_id, since, until, place_at, begun_in) "
    "values ('rec_1', 'org_default', 'whe_1', now(), now(), now(), '3')",
    # --- by the claim
    "job_sent": "select 1",
    "job_failed": "select 1",
    "try_again": "select 1",
    "return_job": "select 1",
    "settle_soon": "update jobs set state = 'submitting' where claim is not null",
    "put_off_settling": "update jobs set state = 'submitting', submitted_at = now() where claim is not null",
    "note_bubble": "update jobs set state = 'submitting' where claim is not null",
    "note_reason": "update jobs set state = 'submitting' where claim is not null",
    # Others wait for the same number.
    "put_off_recipient": "update jobs set phone = (select phone from jobs where state = 'sending')",
    # --- by the lease
    "lease_account": "select 1",
    "release_account": "select 1",
    "close_held_gate": "select 1",
    "open_linked_gate": "update lanes set gate_reason = 'not_linked'",
    "disconnect_unscanned": "select 1",
    "write_state": "select 1",
    "mark_linked": "select 1",
    "mark_ready": "select 1",
    "fail_backlog": "select 1",
    "set_qr": "select 1",
    "set_pairing_code": "select 1",
    "set_restriction": "select 1",
    "lift_restriction": "update accounts set restriction = 'new_chats'",
    "count_failure": "select 1",
    "count_reconnect": "select 1",
    "new_profile": "select 1",
    "use_profile": "select 1",
    "restore_profile": "select 1",
    "store_profile": "select 1",
    "delete_profile": "select 1",
    "set_profile_aside": "select 1",
    "drop_kept_profile": "update profiles set kept_since = now()",
    "note_memory": "select 1",
    "doubt_page": "select 1",
    "stop_until_known": "select 1",
    "open_known_gate": "update lanes set gate_reason = 'ui_changed'",
    "answer_checkup": "insert into checkups (account_id, org_id) values ('a', 'org_default')",
}

#: What an unchanged claim allows whoever has the lane by now: a result that is known is never thrown away.
BY_CLAIM = {
    "job_sent", "job_failed", "try_again", "return_job", "settle_soon", "note_bubble", "note_reason",
    "put_off_recipient", "put_off_settling",
}  # fmt: skip

NUDGE = "It asks that a lane be looked at, by whoever may; nothing is decided."
LEADER = "The one process that holds the pulse's lock writes it, on that connection; it asks Postgres what is so."
SEEN = "It was seen on the page, and is so whoever saw it; recorded once."
OWN = "It is the worker's own row, or wake-up, which nobody else ever has."
UPKEEP = "Anybody may do it, any number of times."
ALLOWED = {
    "not_pressed": "Only the worker that was to press Enter knows; it names the claim under which it was allowed to.",
    "end_attempts": "What came of requests that were made; each delivery is fenced by its claim.",
    "set_evidence": "A picture of that job that was taken; nothing is decided by it.",
    "wake": NUDGE,
    "attend": NUDGE,
    "move_lane": "Where a lane is woken; whoever is woken wrongly moves it to the holder of the lease.",
    "restore_accounts": NUDGE,
    "probe_with": NUDGE,
    "job_delivered": SEEN,
    "job_read": SEEN,
    "late_tick": SEEN,
    "record_incoming": SEEN,
    "number_incoming": SEEN,
    "opt_out": SEEN,
    "confirm_opt_out": "It comes with the opt-out that the same transaction wrote; the job that it queues is fenced.",
    "register_worker": OWN,
    "tell_keys": OWN,
    "renew_worker": OWN + " The leases are those that are its own and have not ended.",
    "unregister_worker": OWN,
    "finish_lost_wakeup": OWN,
    "fetch_wakeups": OWN + " Nobody has them yet, as with procrastinate_fetch_job_v2.",
    "return_wakeups": OWN,
    "ensure_partitions": UPKEEP,
    "keep_alive": UPKEEP,
    "drop_old_partition": UPKEEP,
    "move_ended_jobs": UPKEEP,
    "take_report_marks": UPKEEP,
    "roll_up_days": UPKEEP,
    "seal_report_days": UPKEEP,
    "check_report_day": UPKEEP,
    "purge_jobs": UPKEEP,
    "purge_history": UPKEEP,
    "purge_evidence": UPKEEP,
    "purge_deliveries": UPKEEP,
    "purge_events": UPKEEP,
    "purge_attempts": UPKEEP,
    "purge_recoveries": UPKEEP,
    "purge_changes": UPKEEP,
    "purge_incoming": UPKEEP,
    "purge_checkups": UPKEEP,
    "purge_kept_profiles": UPKEEP,
    "purge_endpoints": UPKEEP,
    "purge_accounts": UPKEEP,
    "purge_tokens": UPKEEP,
    "purge_contents": UPKEEP,
    "sweep_keys": UPKEEP,
    "purge_signatures": UPKEEP,
    "purge_secrets": UPKEEP,
    "purge_api_processes": UPKEEP,
    "use_marks": LEADER,
    "sweep": LEADER,
    "finish_lapsed_wakeups": LEADER,
    "reclaim_lapsed": LEADER,
    "reclaim_queues": LEADER,
    "reclaim_wakeups": LEADER,
    "expire_jobs": LEADER,
    "cancel_for_deleted": LEADER,
    "give_up_settling": LEADER,
    "fail_waiting": LEADER,
    "dead_workers": LEADER,
    "finish_dead_wakeups": LEADER,
    "finish_orphaned_wakeups": LEADER,
    "close_dead_sessions": LEADER,
    "free_dead_leases": LEADER,
    "free_dead_drains": LEADER,
}

WRITES = re.compile(
    r"\b(insert into|update|delete from|procrastinate_\w+_v\d|change_state|record_event|job_event|end_jobs|"
    r"disable_endpoint|ensure_partitions|drop_old_partition|purge|purge_events|roll_up_days|\w+_report_\w+)\b"
)


def used_by_workers() -> set[str]:
    """Return the names of the queries that stand in the code of workers."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tasks").rglob("*.py")]
    texts = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {name for name in queries() if name in texts}


def writes(name: str) -> bool:
    text = re.sub(r"--.*", "", queries()[name].decode())
    return bool(WRITES.search(re.sub(r"for (no key )?update", "", text)))


def test_every_write_of_a_worker_is_fenced_or_allowed_for_a_reason() -> None:
    assert not FENCED.keys() & ALLOWED.keys()
    assert {name for name in used_by_workers() if writes(name)} == FENCED.keys() | ALLOWED.keys()


#: wrk_new has the account by now, drains its lane and an endpoint's, and one job of each is under way.
TAKEN_OVER = """
update accounts
set leased_by = 'wrk_new', lease_until = now() + interval '1 minute', profile_home = 'home', profile_generation = 3,
    pace = true, wanted = 'connected';
insert into profiles (account_id, org_id, generation, whole, sealed, raw_bytes, worker)
values ('a', 'org_default', 3, true, 'x', 1, 'wrk_new');
insert into lanes (id, org_id, kind, queue) values ('whe_1', 'org_default', 'endpoint', 'endpoint');
insert into endpoints (id, org_id, url, events, secret) values ('whe_1', 'org_default', 'x', '{*}', 'x');
select record_event('org_default', 'X', '{}', null, 'a', 0);
update deliveries set state = 'sending', attempts = 1, claim = current_setting('test.claim')::uuid;
insert into attempts (org_id, delivery_id, endpoint_id, number) select org_id, id, endpoint_id, 1 from deliveries;
insert into procrastinate_jobs (queue_name, task_name, lock, queueing_lock, status)
select 'account', 'drain', id, id, 'doing' from lanes;
update lanes set epoch = 2, drained_by = 'wrk_new', wakeup_id = procrastinate_jobs.id
from procrastinate_jobs where lock = lanes.id;
update jobs set state = 'sending', attempts = 1, claim = current_setting('test.claim')::uuid
where id = current_setting('test.job');
-- One that was sent to the same number within the hour.
insert into jobs
    (id, org_id, account_id, content_hash, phone, message, due_at, send_at, expires_at, state, submitted_at, sent_at,
     ended_at)
select 'job_sent', org_id, account_id, '', phone, 'x', now(), now(), now(), 'sent', now(), now(), now()
from jobs where id = current_setting('test.job')
"""


async def taken_over(database: Database, claim: str) -> dict[str, Any]:
    """Have an account, and an endpoint, that a second worker drains now, and a claim; return what queries name."""
    await add_lanes(database, "a")
    for worker in ("wrk_old", "wrk_new"):
        await add_worker(database, worker)
    taken, *_ = await add_jobs(database, "a", 2, wake=False)
    async with database.transaction() as tx:
        await tx.connection.execute(
            "select set_config('test.job', %s, true), set_config('test.claim', %s, true)", [taken, claim]
        )
        await tx.connection.execute(TAKEN_OVER)
        phone = await (await tx.connection.execute("select phone from jobs where id = %s", [taken])).fetchone()
    assert phone
    return {
        "account": "a", "lane": "a", "job": taken, "phone": phone[0],
        "endpoint": "whe_1", "url": "x", "delivery": await value(database, "select id from deliveries"),
        "wakeup": await value(database, "select wakeup_id from lanes where id = 'a'"),
        "attend_at": MOMENT,
        "margin": 10, "look": 5, "anchor": "b", "generation": 3, "bubble": "b", "detail": "d", "code": "page_hung",
        "seconds": 60, "attend": 60, "reason": "offline", "attended": True, "settled": True, "begins": True,
        "began": MOMENT, "until": MOMENT, "most": 9, "per_hour": 1, "lease": 60, "put_away": True,
        "state": "disconnected", "quiet": False, "changed": True, "name": "n", "platform": "p", "qr": "q",
        "restriction": "monthly_cap", "home": "home", "sealed": 3,
        "whole": True, "raw_bytes": 1, "in_flight": 2, "failures": 1, "rests": 1, "failing_since": MOMENT,
        "failed_at": MOMENT,
        "rest": 9.0, "not_ready_for": 1.0, "answer": "{}", "pressed_on": "here", "selectors": "2",
        "pauses": [60.0], "mb": 500,
    }  # fmt: skip


def deposed(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the worker names that had the account before."""
    return values | {"worker": "wrk_old", "epoch": 1, "claim": OLD, "wakeup": 0}


def holder(values: dict[str, Any], claim: str) -> dict[str, Any]:
    return values | {"worker": "wrk_new", "epoch": 2, "claim": claim}


def fitted(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as one query means them."""
    if name in {"take_deliveries", "write_health", "disable_endpoint", "recover_some"}:
        return values | {"lane": "whe_1"}
    return values | {"sealed": b"y"} if name == "store_profile" else values


async def contents(tx: Transaction) -> dict[str, str | None]:
    """Return a digest of every table: of each row's version, so that a write that changes nothing shows too."""
    cursor = await tx.connection.execute(
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') "
        "and not relispartition"
    )
    found: dict[str, str | None] = {}
    for (table,) in await cursor.fetchall():
        digest = psycopg.sql.SQL("select md5(string_agg(t.xmin || t::text, ' ' order by t::text)) from {} t").format(
            psycopg.sql.Identifier(table)
        )
        row = await (await tx.connection.execute(digest)).fetchone()
        found[table] = row[0] if row else None
    return found


async def changed(database: Database, name: str, values: dict[str, Any]) -> set[str]:
    """Return which tables a query changes under the circumstances that it needs; it is rolled back."""
    tables: set[str] = set()
    async with database.transaction() as tx:
        await tx.connection.execute(FENCED[name])
        before = await contents(tx)
        await tx.all(name, **fitted(name, values))
        after = await contents(tx)
        tables = {table for table in after if after[table] != before[table]}
        raise psycopg.Rollback
    return tables


async def test_whoever_was_taken_over_changes_nothing(database: Database) -> None:
    values = await taken_over(database, NEW)
    late = {name: await changed(database, name, deposed(values)) for name in FENCED}
    assert late == {name: set() for name in FENCED}
    idle = [name for name in FENCED if not await changed(database, name, holder(values, NEW))]
    assert idle == [], "whoever has the account writes with it, or the test proves nothing"


async def test_under_an_unchanged_claim_a_result_is_written_and_nothing_else(database: Database) -> None:
    values = await taken_over(database, OLD)
    assert {name for name in FENCED if await changed(database, name, deposed(values))} == BY_CLAIM


async def raised_meanwhile(database: Database, name: str, values: dict[str, Any]) -> set[str]:
    """Return which tables besides lanes a query changes when a newer drain begins while it waits for the lane."""
    async with database.transaction() as tx:
        await tx.connection.execute("update lanes set epoch = epoch + 1")
        late = asyncio.create_task(changed(database, name, values))
        await waits_for_a_lock(database)
    return await late - {"lanes"}


async def test_a_drain_that_is_overtaken_while_it_waits_for_its_lane_changes_nothing(database: Database) -> None:
    values = holder(await taken_over(database, NEW), NEW)
    named = [name for name in FENCED if b"%(epoch)s" in queries()[name]]
    assert len(named) > 10
    for name in named:
        epoch = await value(database, "select epoch from lanes where id = 'a'")
        assert await raised_meanwhile(database, name, values | {"epoch": epoch}) == set(), name


# --- what comes back of a deleted account -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["return_job", "try_again", "release_typed", "not_pressed"])
async def test_a_job_that_was_typed_while_its_account_was_deleted_is_cancelled(
    database: Database, database_url: str, way: str
) -> None:
    async with api(database_url) as client:
        account = await new_account(client)
        await database.all("open_gate", lane=account)
        body = {"account": account, "phone": "+4915112345678", "message": "hello"}
        job = (await client.post("/send", json=body)).json()["jobId"]
        (drain,) = await database.read(Drain, "begin_drain", lane=account, worker="wrk_a", wakeup=0)
        (taken,) = await database.read(Job, "take_job", lane=account, epoch=drain.epoch, worker="wrk_a")
        assert (await client.delete(f"/accounts/{account}")).status_code == 202
        assert (await client.get(f"/jobs/{job}")).json()["status"] == "sending"
        await database.all(
            way, job=job, claim=taken.claim, lane=account, epoch=drain.epoch, seconds=60, code="x", detail=""
        )
        pulse = Pulse(database_url, 900)
        await pulse.run_once()
        await pulse.close()
        shown = (await client.get(f"/jobs/{job}")).json()
    assert shown["status"] == "cancelled"
    assert shown["timeline"][-1]["detail"] == "account_deleted"
    events = "select string_agg(type, ' ' order by created_at) from outbox where job_id is not null"
    assert await value(database, events) == "JobCancelled"


async def test_a_wake_up_that_is_buried_under_its_drain_is_one_line_in_the_log(
    database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await add_lanes(database, "a")
    async with lane_worker(database_url, "wrk_a", work_seconds=0.5) as worker:
        await add_jobs(database, "a")
        await worker.recorder.begun.wait()
        (wakeup,) = worker.lanes.in_hand
        await database.all("finish_lost_wakeup", wakeup=wakeup)
        await until(database, SENT, 1)
        async with asyncio.timeout(30):
            while worker.lanes.in_hand or "was not written" not in caplog.text:
                await asyncio.sleep(0.01)
        await add_jobs(database, "a", phone="1666")
        await until(database, SENT, 2)
        gc.collect()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    (line,) = lines
    assert line.startswith(f"the end of wake-up {wakeup} of lane a was not written: Job was not found")
