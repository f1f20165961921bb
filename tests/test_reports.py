import json

import psycopg
import pytest
from fixtures_lanes import add_jobs, add_lanes, value

from sql.database import Database
from tasks.lanes import Drain
from tasks.send import Job

HARD = {"q": 'a"b\\c', "n": 1.5, "u": "é😀\u2028", "list": [None, True]}


async def end(database: Database, name: str, **values: object) -> Job:
    (drain,) = await database.read(Drain, "begin_drain", lane="acc_1", worker="w", wakeup=1)
    (job,) = await database.read(Job, "take_job", lane="acc_1", epoch=drain.epoch, worker="w")
    await database.all(name, job=job.id, claim=job.claim, bubble="b", **values)
    return job


async def test_the_views_count_what_became_of_jobs(database: Database) -> None:
    await add_lanes(database, "acc_1")
    await add_jobs(database, "acc_1", 4)
    await end(database, "job_sent", detail=None)
    await end(database, "job_failed", code="not_on_whatsapp", detail="No.")
    volume = "select format('%s/%s/%s/%s', accepted, sent, failed, open) from report.daily_volume"
    assert await value(database, volume) == "4/1/1/2"
    assert await value(database, "select error_code || jobs || last_detail from report.failure_reasons") == (
        "not_on_whatsapp1No."
    )
    assert await value(database, "select queued || '/' || due || '/' || under_way from report.queue_depth") == "2/2/0"
    assert await value(database, "select seconds_to_send >= 0 from report.jobs where status = 'sent'")


async def test_the_role_reads_reports_and_nothing_else(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.connection.execute("set local role postrider_report")
        await tx.connection.execute("select * from report.jobs, report.daily_volume, report.queue_depth")
    for forbidden in ("select * from jobs", "select * from api_keys"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with database.transaction() as tx:
                await tx.connection.execute("set local role postrider_report")
                await tx.connection.execute(forbidden)


@pytest.mark.parametrize("metadata", [None, HARD, {}])
async def test_event_bodies_are_minified_json_whatever_is_in_them(
    database: Database, metadata: dict[str, object] | None
) -> None:
    await add_lanes(database, "acc_1")
    await add_jobs(database, "acc_1")
    given = metadata if metadata is None else json.dumps(metadata, separators=(",", ":"), ensure_ascii=False)
    async with database.transaction() as tx:
        await tx.connection.execute("update jobs set metadata = %s", [given])
    await end(database, "job_failed", code="page_hung", detail='It said "no"\\n.')
    body = str(await value(database, "select body from outbox"))
    event = json.loads(body)
    assert event["data"]["metadata"] == metadata
    assert event["data"]["error"] == {"code": "page_hung", "detail": 'It said "no"\\n.'}
    assert body == json.dumps(event, separators=(",", ":"), ensure_ascii=False)
