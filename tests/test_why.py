"""`postrider why`: a sentence for each reason for which a webhook did not arrive."""

import pytest
from fixtures_history import run
from fixtures_lanes import add_jobs, add_lanes, add_worker, value
from fixtures_webhooks import put_endpoint, put_events

from commands.why import explain
from errors import OperatorError
from sql.database import Database

ATTEMPT = """
    insert into attempts (org_id, delivery_id, endpoint_id, number, status, error, response, duration_ms, ended_at)
    select org_id, id, endpoint_id, 1, %s, %s, %s, 120, case when %s <> 'open' then now() end from deliveries
"""


@pytest.fixture
async def job(database: Database) -> str:
    """Return the key of a job that waits."""
    await add_lanes(database, "acc_1")
    (job,) = await add_jobs(database, "acc_1")
    await run(database, "update jobs set key = 'order-42'")
    await run(
        database,
        "insert into job_keys (org_id, key_hash, job_id, content_hash)"
        " select org_id, sha256('order-42'), id, content_hash from jobs",
    )
    return job


async def why(database: Database, job: str = "order-42", days: float = 90) -> str:
    return "\n".join(await explain(database, "org_default", job, days))


async def sent(database: Database, job: str, kind: str = "JobCompleted") -> None:
    await run(database, "update jobs set state = 'sent', ended_at = now(), sent_at = now()")
    await put_events(database, kind, job=job)


async def attempt(database: Database, status: int | None, error: str | None, response: str | None = None) -> None:
    await run(database, ATTEMPT, status, error, response, "ended")


# --- no event ----------------------------------------------------------------------------------------------------


async def test_a_job_that_is_not_there(database: Database) -> None:
    with pytest.raises(OperatorError, match=r"There is no job order-42: .* kept for 90 days \(RETENTION_DAYS\)\."):
        await why(database)
    with pytest.raises(OperatorError, match=r"deleted with its events\.$"):
        await why(database, days=0)


async def test_a_job_that_has_not_ended(database: Database, job: str) -> None:
    yet = (
        "Job order-42 is queued, so there is no event yet: the first one is written when the job is sent, failed or "
        "cancelled."
    )
    assert await why(database) == await why(database, job) == f"{yet} No worker with the duty sessions is running."
    await add_worker(database)
    assert await why(database) == yet
    await run(database, "update jobs set due_at = '2999-01-01T09:00:00Z'")
    assert await why(database) == f"{yet} It is due at 2999-01-01T09:00:00.000Z."
    await run(database, "update lanes set open_at = '2998-01-01T09:00:00Z', gate_reason = 'quiet_hours'")
    assert await why(database) == f"{yet} Its account acc_1 sends nothing until 2998-01-01T09:00:00.000Z (quiet_hours)."
    await run(database, "update lanes set open_at = 'infinity', gate_reason = 'banned'")
    assert await why(database) == f"{yet} Its account acc_1 sends nothing until somebody acts (banned)."


async def test_events_that_were_deleted(database: Database, job: str) -> None:
    await run(database, "update jobs set state = 'sent', sent_at = now(), ended_at = '2020-01-01T00:00:00Z'")
    ended = "Job order-42 ended at 2020-01-01T00:00:00.000Z (sent), and its events were deleted."
    assert await why(database) == f"{ended} Events are kept for 90 days (RETENTION_DAYS)."
    assert await why(database, job, days=0) == ended


# --- no delivery -------------------------------------------------------------------------------------------------


async def test_no_endpoint(database: Database, job: str) -> None:
    await sent(database, job)
    first, second = (await why(database)).splitlines()
    event = await value(database, "select id from outbox")
    assert first.startswith("JobCompleted of 20")
    assert first.endswith(f"webhook-id {event}:")
    assert second == "  No webhook is registered, so the event is sent to nobody: POST /webhooks registers one."


async def test_an_endpoint_that_did_not_ask(database: Database, job: str) -> None:
    await put_endpoint(database, "whe_1", "JobFailed", "JobRead")
    await sent(database, job)
    assert "whe_1 (http://receiver.test/hook) did not ask for JobCompleted, only for JobFailed, JobRead." in await why(
        database
    )


async def test_an_endpoint_that_is_disabled_was_disabled_or_came_later(database: Database, job: str) -> None:
    await put_endpoint(database)
    await run(database, "update endpoints set status = 'disabled', status_reason = 'It answered 410 Gone.'")
    await sent(database, job)
    disabled = "is disabled, and gets no events: It answered 410 Gone. Enable it; then POST /webhooks/whe_1/recover"
    assert disabled in await why(database)
    await run(database, "update endpoints set status = 'enabled', status_reason = null")
    said = await why(database)
    assert "was disabled at that time, or did not ask for JobCompleted. POST /webhooks/whe_1/recover" in said
    at = await value(database, "select iso(created_at) from outbox")
    assert f'recover {{"since": "{at}"}} delivers it.' in said
    await run(database, "update endpoints set created_at = now() + interval '1 minute'")
    assert "was registered after the event. POST /webhooks/whe_1/recover" in await why(database)


async def test_a_recovery_that_goes_on(database: Database, job: str) -> None:
    await sent(database, job)
    await put_endpoint(database)
    await run(
        database,
        "insert into recoveries (id, org_id, endpoint_id, since, until, place_at) "
        "values ('rec_1', 'org_default', 'whe_1', '2020-01-01', now(), now())",
    )
    assert "will get it from the recovery rec_1, which is running." in await why(database)
    await run(database, "update recoveries set until = '2020-01-02'")
    assert "rec_1" not in await why(database)


# --- a delivery --------------------------------------------------------------------------------------------------


async def test_a_paused_endpoint(database: Database, job: str) -> None:
    await put_endpoint(database)
    await sent(database, job)
    await run(database, "update endpoints set status = 'paused', status_reason = 'It was paused by hand.'")
    assert "is paused, and its events wait until it is resumed: It was paused by hand." in await why(database)


async def test_an_endpoint_that_is_left_alone(database: Database, job: str) -> None:
    await put_endpoint(database)
    await sent(database, job)
    await run(database, "update lanes set open_at = '2998-01-01T09:00:00Z', gate_reason = 'failing' where id = 'whe_1'")
    assert "rests until 2998-01-01T09:00:00.000Z (failing); then attempt 1 follows." in await why(database)


async def test_one_that_waits_for_its_next_attempt(database: Database, job: str) -> None:
    await put_endpoint(database)
    await sent(database, job)
    await run(database, "update deliveries set due_at = '2998-01-01T09:00:00Z', attempts = 1")
    await attempt(database, 500, "HTTP 500", ' say "no"\n')
    said = await why(database)
    assert "waits for attempt 2 at 2998-01-01T09:00:00.000Z. Attempt 1 of 20" in said
    assert said.endswith('was answered: 500 "say \\"no\\"" in 120 ms.')
    await run(database, "update attempts set status = null, error = 'timeout', response = null")
    assert (await why(database)).endswith("got no answer: timeout in 120 ms.")
    await run(database, "update attempts set error = 'interrupted'")
    assert "The worker ended during attempt 1 of 20" in await why(database)


async def test_one_that_is_due(database: Database, job: str) -> None:
    await put_endpoint(database)
    await sent(database, job)
    assert "has been due for attempt 1 since 20" in await why(database)
    assert (await why(database)).endswith(", but no worker with the duty webhooks is running.")
    await add_worker(database)
    assert (await why(database)).endswith(", but other events are before it.")


async def test_one_that_is_under_way(database: Database, job: str) -> None:
    await put_endpoint(database)
    await sent(database, job)
    await run(database, "update deliveries set state = 'sending', attempts = 1")
    await run(database, ATTEMPT, None, None, None, "open")
    assert "is in attempt 1, which began at 20" in await why(database)


async def test_one_that_arrived(database: Database, job: str) -> None:
    await put_endpoint(database)
    await sent(database, job)
    await run(database, "update deliveries set state = 'delivered', attempts = 1, ended_at = '2026-11-21T09:00:00Z'")
    await attempt(database, 204, None, "")
    event = await value(database, "select id from outbox")
    assert (
        "got it at 2026-11-21T09:00:00.000Z in attempt 1 and answered 204 in 120 ms: look at your receiver for "
        f"webhook-id {event}."
    ) in await why(database)


async def test_one_that_was_given_up(database: Database, job: str) -> None:
    await put_endpoint(database)
    await sent(database, job)
    await run(database, "update deliveries set state = 'failed', attempts = 12, ended_at = '2026-11-21T09:00:00Z'")
    await attempt(database, 500, "HTTP 500", "x" * 2000)
    said = await why(database)
    delivery = await value(database, "select id from deliveries")
    assert "did not take it. It was given up at 2026-11-21T09:00:00.000Z after 12 attempts. Attempt 1 of 20" in said
    assert said.endswith(f'500 "{"x" * 200}" in 120 ms. POST /deliveries/{delivery}/replay sends it again.')
    await run(database, "update endpoints set status = 'disabled', status_reason = 'It answered 410 Gone.'")
    again = f"It is disabled: It answered 410 Gone. Enable it; then POST /deliveries/{delivery}/replay sends it again."
    assert (await why(database)).endswith(again)
    await run(database, "delete from attempts")
    await run(database, "update deliveries set last_error = 'It answered 410 Gone.', attempts = 0")
    assert "after 0 attempts. It answered 410 Gone. It is disabled" in await why(database)
    await run(database, "update endpoints set deleted_at = now()")
    assert (await why(database)).endswith("was deleted, so nothing is sent to it any more.")


async def test_every_event_and_every_endpoint_has_its_line(database: Database, job: str) -> None:
    for endpoint in ("whe_1", "whe_2"):
        await put_endpoint(database, endpoint)
    await sent(database, job)
    await put_events(database, "JobRead", job=job)
    await put_events(database, "JobRead", job="job_other")
    lines = (await why(database)).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["JobCompleted", "", "", "JobRead", "", ""]
    await run(database, "delete from jobs")
    assert (await why(database, job)).splitlines() == lines, "events are kept longer than their jobs"
