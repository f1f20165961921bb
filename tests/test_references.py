"""The tables without foreign keys: each row has its account, endpoint and event, and one that has not is found."""

import logging

import pytest
from fixtures_api import KEY, api, new_account, rows, settings
from fixtures_history import run
from fixtures_lanes import add_jobs, add_lanes
from fixtures_postgres import ALL_ROWS

from api.sending.acceptance import Accepted, Order
from api.sending.send_request import SendRequest
from crypto import hash_key
from errors import NotFound
from sql.database import Database
from tasks.upkeep import Upkeep
from wiring.api import make_acceptance

PHONE = "15551230001"
#: what breaks one reference of one row, and what the query then names
BREAKS = {
    "jobs": "update jobs set account_id = 'acc_none' where id = %s",
    "jobs without key": "delete from job_keys where job_id = %s",
    "outbox": "update outbox set account_id = 'acc_none' where job_id = %s",
    "deliveries": "update deliveries set endpoint_id = 'whe_none'"
    " where event_id in (select id from outbox where job_id = %s)",
    "deliveries without event": "delete from outbox where job_id = %s",
    "attempts": "update attempts set delivery_id = 'dlv_none' where delivery_id in"
    " (select deliveries.id from deliveries join outbox on outbox.id = event_id where job_id = %s)",
}
#: one job, its event, a delivery and an attempt, ten minutes ago
MADE = """
    insert into lanes (id, org_id, kind, queue) values ('whe_1', 'org_default', 'endpoint', 'endpoint');
    insert into endpoints (id, org_id, url, events, secret) values ('whe_1', 'org_default', 'http://x', '{*}', '');
    select record_event(org_id, 'X', '{}', id, account_id, 1) from jobs;
    insert into attempts (org_id, delivery_id, endpoint_id, number) select org_id, id, endpoint_id, 1 from deliveries;
    update jobs set created_at = now() - interval '10 minutes', key = 'k';
    insert into job_keys (org_id, key_hash, job_id, content_hash)
    select org_id, sha256('k'), id, content_hash from jobs;
    update attempts set created_at = now() - interval '10 minutes';
    update outbox set created_at = now() - interval '10 minutes';
    update deliveries set event_at = outbox.created_at from outbox where outbox.id = event_id
"""


@pytest.mark.parametrize("what", BREAKS)
async def test_upkeep_names_a_row_that_lacks_its_parent(
    database: Database, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    await add_lanes(database, "acc_1")
    await add_jobs(database, "acc_1", 1, wake=False)
    await run(database, MADE)
    ((job,),) = await rows(database, "select id from jobs")
    upkeep = Upkeep(database, keepalive_days=7, retention_days=0)
    with caplog.at_level(logging.ERROR, "tasks.upkeep"):
        await upkeep.run_once()
        assert not caplog.records
        table = what.partition(" ")[0]
        async with database.transaction() as tx:
            await tx.connection.execute(BREAKS[what], [job])
        found = await database.all("broken_references", **ALL_ROWS)
        assert {row["table"] for row in found} == {
            table,
            *({"attempts"} if table == "deliveries" and "event" not in what else ()),
        }
        await Upkeep(database, keepalive_days=7, retention_days=0).run_once()
    (said,) = caplog.records
    assert said.event == "references.broken"  # type: ignore[attr-defined]
    assert table in said.rows[0]  # type: ignore[attr-defined]
    await upkeep.run_once()
    assert len(caplog.records) == 1, "each run looks at what has come since the last one"
    await run(database, "truncate jobs, job_keys, outbox, deliveries, attempts")
    await run(database, "delete from lane_depth")


async def test_a_job_is_accepted_only_for_an_account_of_its_org(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        account = await new_account(client, "a")
    await run(database, "insert into orgs (org_id, name) values ('org_b', 'B')")
    await database.all("create_key", id="key_b", org="org_b", name="b", hash=b"b", signing_secret=None)
    acceptance = make_acceptance(settings(), database)
    request = SendRequest.model_validate({"phone": PHONE, "message": "Hi", "account": account})
    (refused, accepted) = await acceptance.accept([Order(request, key, "") for key in (b"b", hash_key(KEY))])
    assert isinstance(refused, NotFound)
    assert isinstance(accepted, Accepted)
