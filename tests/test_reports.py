import json
from pathlib import Path

import psycopg
import pytest
from fixtures_api import rows
from fixtures_history import run
from fixtures_lanes import add_jobs, add_lanes, value
from fixtures_postgres import as_login, with_database
from fixtures_tenancy import fill
from fixtures_webhooks import put_endpoint, put_events

from errors import OutOfScope
from sql import schema
from sql.database import Database
from tasks.lanes import Drain
from tasks.sending.claimed_job import Job

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
    await end(database, "job_failed", code="not_on_whatsapp", detail="No.", reason=None)
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
        with pytest.raises(OutOfScope):
            async with database.transaction() as tx:
                await tx.connection.execute("set local role postrider_report")
                await tx.connection.execute(forbidden)


async def test_a_login_sees_the_reports_of_its_own_org_whatever_it_sets(postgres: str, database_url: str) -> None:
    bakery, shop, nobody = (f"postrider_test_{name}" for name in ("bakery", "shop", "nobody"))
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill(connection)
        for login in (bakery, shop, nobody):
            connection.execute(f"drop role if exists {login}; create role {login} login in role postrider_report")
        connection.execute(
            "insert into report_logins (login, org_id) values (%s, 'org_alfa'), (%s, 'org_bravo')", [bakery, shop]
        )
        views = [
            view
            for (view,) in connection.execute(
                "select viewname from pg_views where schemaname = 'report' order by 1"
            ).fetchall()
        ]
    try:
        seen = {}
        for login in (bakery, shop, nobody):
            with psycopg.connect(as_login(database_url, login), autocommit=True) as connection:
                connection.execute("select set_config('app.org', 'org_bravo', false)")
                for view in views:
                    orgs = connection.execute(f"select distinct org_id from report.{view}").fetchall()
                    seen[login, view] = [org for (org,) in orgs]
                for forbidden in ("select * from jobs", "select * from report_logins", "set role postrider_views"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(forbidden.encode())
        assert seen == {
            (login, view): org
            for login, org in ((bakery, ["org_alfa"]), (shop, ["org_bravo"]), (nobody, []))
            for view in views
        }
    finally:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"drop role {bakery}, {shop}, {nobody}")


def test_who_read_reports_before_reads_those_of_the_first_org(postgres: str, migrations: Path) -> None:
    """By the role itself, or by a group that is a member of it; and so does the login of the service."""
    newer = {path: path.read_text() for path in migrations.iterdir() if path.name >= "0029"}
    for path in newer:
        path.unlink()
    direct, group, indirect, other = (f"postrider_test_{name}" for name in ("direct", "group", "indirect", "other"))
    url = with_database(postgres, "reports_before")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop database if exists reports_before with (force)")
        connection.execute("create database reports_before")
        schema.migrate(url)
        with psycopg.connect(url) as old:
            old.execute("insert into lanes (id, org_id, kind, queue) values ('a', 'org_default', 'account', 'account')")
            old.execute("insert into accounts (id, org_id, name, transport) values ('a', 'org_default', 'a', 'web')")
        connection.execute(
            f"create role {group} in role postrider_report; create role {direct} login in role postrider_report;"
            f"create role {indirect} login in role {group}; create role {other} login"
        )
        try:
            for path, text in newer.items():
                path.write_text(text)
            schema.migrate(url)
            with psycopg.connect(url) as migrated:
                logins = migrated.execute("select login, org_id from report_logins order by 1").fetchall()
                me = migrated.execute("select session_user").fetchone()
            assert me
            assert logins == sorted((login, "org_default") for login in (direct, indirect, me[0]))
            # They may be another service's on the same server.
            connection.execute("drop database reports_before with (force)")
            connection.execute("create database reports_before")
            schema.migrate(url)
            with psycopg.connect(url) as fresh:
                assert fresh.execute("select login, org_id from report_logins").fetchall() == [(me[0], "org_default")]
        finally:
            connection.execute("drop database reports_before with (force)")
            connection.execute(f"drop role {direct}, {indirect}, {group}, {other}")


@pytest.mark.parametrize("metadata", [None, HARD, {}])
async def test_event_bodies_are_minified_json_whatever_is_in_them(
    database: Database, metadata: dict[str, object] | None
) -> None:
    await add_lanes(database, "acc_1")
    await add_jobs(database, "acc_1")
    given = metadata if metadata is None else json.dumps(metadata, separators=(",", ":"), ensure_ascii=False)
    async with database.transaction() as tx:
        await tx.connection.execute("update jobs set metadata = %s", [given])
    await end(database, "job_failed", code="page_hung", detail='It said "no"\\n.', reason=None)
    body = str(await value(database, "select body from outbox"))
    event = json.loads(body)
    assert event["data"]["metadata"] == metadata
    assert event["data"]["error"] == {"code": "page_hung", "detail": 'It said "no"\\n.'}
    assert body == json.dumps(event, separators=(",", ":"), ensure_ascii=False)


async def test_the_health_of_webhooks_is_told(database: Database) -> None:
    for endpoint in ("whe_1", "whe_2", "whe_3"):
        await put_endpoint(database, endpoint)
    await put_events(database, "JobFailed", 10)
    await run(
        database,
        """
        with numbered as (
            select id, row_number() over (partition by endpoint_id order by id) as number, endpoint_id from deliveries
        ), ended as (
            update deliveries set state = case when number <= 4 then 'delivered' else 'failed' end, ended_at = now(),
                last_error = case when number > 4 then 'x' end
            from numbered
            where deliveries.id = numbered.id and number <= 7 and deliveries.endpoint_id = 'whe_1'
        )
        insert into attempts (
            org_id, delivery_id, endpoint_id, number, error, counts, duration_ms, ended_at, created_at)
        select 'org_default', id, endpoint_id, 1,
               case number when 1 then 'HTTP 500' when 2 then 'no network' when 3 then 'interrupted' end, number <> 2,
               number * 10, case when number <> 4 then now() end,
               case when number = 5 then now() - interval '25 hours' else now() end
        from numbered
        where endpoint_id = 'whe_1' and number <= 9
        """,
    )
    await run(database, "update deliveries set due_at = '2999-01-01' where endpoint_id = 'whe_2'")
    await run(database, "update lanes set open_at = '2998-01-01', gate_reason = 'failing' where id = 'whe_2'")
    await run(database, "update lanes set gate_reason = 'rate_limit' where id = 'whe_1'")
    await run(database, "update endpoints set failures = 3, failing_since = '2026-01-01' where id = 'whe_2'")
    await run(database, "delete from deliveries where endpoint_id = 'whe_3'")
    await run(database, "update endpoints set status = 'disabled', deleted_at = now() where id = 'whe_3'")
    health = """
        select format(
            '%s %s waiting=%s due=%s old=%s failed=%s attempts=%s rate=%s median=%s rests=%s/%s failing=%s/%s',
            endpoint_id, status, waiting, due, oldest_due_at is not null, failed, attempts, success_rate, median_ms,
            resting_until is not null, resting_because, failures_in_a_row, failing_since is not null)
        from report.webhook_health order by endpoint_id
    """
    assert [told for (told,) in await rows(database, health)] == [
        "whe_1 enabled waiting=3 due=3 old=t failed=3 attempts=5 rate=0.8000 median=70 rests=f/ failing=0/f",
        "whe_2 enabled waiting=10 due=0 old=f failed=0 attempts=0 rate= median= rests=t/failing failing=3/t",
        "whe_3 deleted waiting=0 due=0 old=f failed=0 attempts=0 rate= median= rests=f/ failing=0/f",
    ]
    assert await value(database, "select distinct url from report.webhook_health") == "http://receiver.test/hook"
    assert await value(
        database, "select last_succeeded_at <= now() from report.webhook_health where endpoint_id = 'whe_1'"
    )
