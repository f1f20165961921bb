"""GET /reports and GET /reports/{view}: what they say is what SQL says."""

import asyncio
import csv
import io
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator, MutableMapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import httpx2
import openpyxl
import psycopg
import pytest
from fixtures_api import api, client_of, running
from fixtures_reports import fortnight
from fixtures_server import wire_to
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api.http import downloads
from api.http.downloads import Downloads
from errors import DatabaseBusy, DatabaseError, DatabaseSlow, ReportTooLarge, TooManyRequests
from sql import exports
from sql.database import Database
from sql.exports import Export
from sql.report_views import Form
from sql.roles import Role

PRESENT = {"accounts", "caps", "queue_depth", "webhook_health"}
#: Columns of the present moment, which differ from one statement to the next.
MOVING = {"resets_at", "opens_at", "backlog_ends_at", "hour_used", "day_used"}


@pytest.fixture(scope="module")
def filled(postgres: str) -> Iterator[str]:
    with fortnight(postgres) as url:
        yield url


@pytest.fixture
async def client(filled: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with api(filled) as made:
        yield made


def selected(url: str, view: str, where: str = "true") -> list[dict[str, Any]]:
    """Return what SQL says, as JSON has it."""
    with psycopg.connect(url, row_factory=dict_row, options="-c timezone=utc -c role=postrider_report") as connection:
        rows = connection.execute(SQL("select * from report.{} where " + where).format(Identifier(view))).fetchall()
    return [{name: as_json(value) for name, value in row.items()} for row in rows]


def as_json(value: object) -> object:
    if isinstance(value, datetime):
        text = value.isoformat(timespec="milliseconds" if value.tzinfo else "seconds")
        return text.replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str | int | dict | None) else float(value)  # type: ignore[arg-type]


def told(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows in one order, without what moves."""
    return sorted(json.dumps({name: row[name] for name in row if name not in MOVING}, default=float) for row in rows)


def strict(text: str) -> list[list[str | None]]:
    """Parse CSV by the grammar of RFC 4180 and nothing beyond; nothing is None, and `""` an empty text."""
    records: list[list[str | None]] = [[]]
    field = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)')
    at = 0
    while at < len(text):
        found = field.match(text, at)
        assert found, f"no field of RFC 4180 at {at}: {text[at : at + 60]!r}"
        quoted, plain, end = found.groups()
        records[-1].append((plain or None) if quoted is None else quoted.replace('""', '"'))
        if end == "\r\n":
            records.append([])
        at = found.end()
    assert records.pop() == [], "the last record must end like all others"
    return records


# --- what can be read --------------------------------------------------------------------------------------------


async def test_the_list_has_every_view_with_every_column(client: httpx2.AsyncClient, filled: str) -> None:
    answer = await client.get("/reports")
    assert answer.status_code == 200
    with psycopg.connect(filled) as connection:
        columns = connection.execute(
            "select table_name, array_agg(column_name::text order by ordinal_position) from information_schema.columns"
            " where table_schema = 'report' group by table_name order by table_name"
        ).fetchall()
    found = [(view["name"], [column["name"] for column in view["columns"]]) for view in answer.json()["items"]]
    assert found == columns
    for view in answer.json()["items"]:
        assert view["description"]
        assert all(column["description"] and column["type"] for column in view["columns"]), view["name"]
        assert (view["period"] is None) == (view["name"] in PRESENT), view["name"]


async def test_a_view_that_somebody_else_made_is_none(client: httpx2.AsyncClient, filled: str) -> None:
    """It would see what its owner sees, which may be all orgs."""
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute("create view report.everything as select * from jobs")
        try:
            connection.execute("grant select on report.everything to postrider_api")
            names = [view["name"] for view in (await client.get("/reports")).json()["items"]]
            answer = await client.get("/reports/everything")
        finally:
            connection.execute("drop view report.everything")
    assert "jobs" in names
    assert "everything" not in names
    assert answer.status_code == 404


async def views(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get("/reports")).json()["items"]
    return items


async def test_each_view_says_what_sql_says_in_each_form(client: httpx2.AsyncClient, filled: str) -> None:
    for view in await views(client):
        name, columns = view["name"], [column["name"] for column in view["columns"]]
        expected = told(selected(filled, name))
        assert expected, name
        answer = await client.get(f"/reports/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert told(answer.json()["items"]) == expected, name

        answer = await client.get(f"/reports/{name}", params={"format": "ndjson"})
        assert answer.headers["content-type"] == "application/x-ndjson"
        *rows, last = [json.loads(line) for line in answer.text.splitlines()]
        assert told(rows) == expected, name
        assert last == {"complete": True, "rows": len(rows)}

        answer = await client.get(f"/reports/{name}", params={"format": "csv"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        assert re.fullmatch(
            rf'attachment; filename="{name}_\d{{4}}-\d\d-\d\d\.csv"', answer.headers["content-disposition"]
        )
        header, *records = strict(answer.text)
        assert header == columns
        types = {column["name"]: column["type"] for column in view["columns"]}
        parsed = [
            {column: of_csv(value, types[column]) for column, value in zip(columns, record, strict=True)}
            for record in records
        ]
        assert told(parsed) == expected, name


def of_csv(value: str | None, kind: str) -> object:
    if value is None or kind in {"text", "date"} or kind.startswith("timestamp"):
        return value
    found = json.loads(value)  # numbers, true and false, objects
    return float(found) if kind == "numeric" else found


async def test_rows_are_in_the_order_of_their_time(client: httpx2.AsyncClient) -> None:
    for view, time in (
        ("daily_volume", "day"),
        ("hours", "hour"),
        ("recipients", "accepted_at"),
        ("jobs", "created_at"),
    ):
        rows = (await client.get(f"/reports/{view}")).json()["items"]
        order = [(row[time], row["account_id"], row.get("job_id")) for row in rows]
        assert order == sorted(order), view


# --- which rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "query", "where"),
    [
        ("daily_volume", {"since": "2026-11-19", "until": "2026-11-21"}, "day in ('2026-11-19', '2026-11-20')"),
        ("daily_volume", {"account": "acc_paulo"}, "account_id = 'acc_paulo'"),
        ("daily_volume", {"account": "acc_nobody"}, "false"),
        ("daily_volume", {"since": "2026-11-22", "until": "2026-11-20"}, "false"),
        # Midnight of São Paulo: the day of Berlin had begun four hours before.
        (
            "balance",
            {"since": "2026-11-20T03:00:00Z", "until": "2026-11-21T03:00:00Z"},
            "day = case zone when 'Europe/Berlin' then date '2026-11-21' else '2026-11-20' end",
        ),
        ("hours", {"since": "2026-11-20", "until": "2026-11-21"}, "day = '2026-11-20'"),
        ("hours", {"since": "2026-11-20T13:00:00+01:00"}, "hour >= '2026-11-20 12:00+00'"),
        (
            "recipients",
            {"since": "2026-11-20", "until": "2026-11-21"},
            (
                "exists (select from report.accounts as a where a.account_id = recipients.account_id"
                " and (accepted_at at time zone zone)::date = '2026-11-20')"
            ),
        ),
        (
            "job_timeline",
            {"since": "2026-11-20T12:00:00Z", "until": "2026-11-21", "account": "acc_berlin"},
            "account_id = 'acc_berlin' and at >= '2026-11-20 12:00+00' and at < '2026-11-20 23:00+00'",
        ),
        ("jobs", {"until": "2026-11-09T12:00:00Z"}, "created_at < '2026-11-09 12:00+00'"),
    ],
)
async def test_a_period_and_an_account_are_told_from_others(
    client: httpx2.AsyncClient, filled: str, view: str, query: dict[str, str], where: str
) -> None:
    found = (await client.get(f"/reports/{view}", params=query)).json()["items"]
    assert told(found) == told(selected(filled, view, where))
    assert (not found) == (where == "false")


@pytest.mark.parametrize(
    ("view", "query", "field", "says"),
    [
        (
            "caps",
            "since=2026-11-01",
            "since",
            "must be left out: caps shows the present, and has no rows of other times",
        ),
        ("accounts", "until=2026-11-01", "until", "must be left out: accounts shows the present"),
        (
            "webhook_health",
            "account=acc_berlin",
            "account",
            "must be left out: the rows of webhook_health are of no account",
        ),
        ("jobs", "since=yesterday", "since", "must be a day, such as 2026-12-01, or an ISO 8601 time with its zone"),
        ("jobs", "since=2026-11-31", "since", 'not "2026-11-31"'),
        ("jobs", "until=2026-11-01T10:00", "until", 'not "2026-11-01T10:00"'),
        ("jobs", "format=xlsx", "format", "must be 'json', 'csv' or 'ndjson', not \"xlsx\""),
        ("jobs", "formulas=no", "formulas", "must be 'guarded' or 'raw', not \"no\""),
        ("jobs", "bom=perhaps", "bom", 'not "perhaps"'),
        ("jobs", "limit=5", "limit", "is not a known field"),
    ],
)
async def test_what_it_cannot_filter_by_is_named(
    client: httpx2.AsyncClient, view: str, query: str, field: str, says: str
) -> None:
    answer = await client.get(f"/reports/{view}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert says in error["message"]


@pytest.mark.parametrize(
    "name", ["nothing", "jobs;", "JOBS", "report.jobs", "pg_roles", "jobs%20where%20true", "%22jobs%22"]
)
async def test_other_names_are_none(client: httpx2.AsyncClient, name: str) -> None:
    answer = await client.get(f"/reports/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_day_on_which_clocks_are_put_back_at_midnight_is_one_day(database_url: str) -> None:
    """On the Azores there were two midnights, at 00:00 and 01:00 UTC."""
    with psycopg.connect(database_url) as connection:
        add_account(connection, "Atlantic/Azores")
        for minute in range(0, 120, 30):
            add_job(connection, f"job_{minute}", "2026-10-24 23:45+00", minute)
    async with api(database_url) as client:
        days = (await client.get("/reports/daily_volume?since=2026-10-24&until=2026-10-26")).json()["items"]
        assert [(row["day"], row["accepted"]) for row in days] == [("2026-10-24", 1), ("2026-10-25", 3)]
        for view, counted in (("recipients", None), ("jobs", None), ("hours", "accepted")):
            for day, after, accepted in (("2026-10-24", "2026-10-25", 1), ("2026-10-25", "2026-10-26", 3)):
                rows = (await client.get(f"/reports/{view}?since={day}&until={after}")).json()["items"]
                assert sum(row[counted] if counted else 1 for row in rows) == accepted, (view, day)


async def test_for_ever_is_told_from_never(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        add_account(connection, "UTC")
        connection.execute("update lanes set open_at = 'infinity', gate_reason = 'paused' where id = 'acc_x'")
    async with api(database_url) as client:
        (row,) = (await client.get("/reports/queue_depth")).json()["items"]
        assert row["opens_at"] == "infinity"
        (_, cells_of_row) = strict((await client.get("/reports/queue_depth?format=csv")).text)
        assert cells_of_row[5] == "infinity"


# --- CSV ---------------------------------------------------------------------------------------------------------

HOSTILE = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x",
    'say "hi"', "a,b", "two\nlines", "two\r\nlines", "", " ", "😀👩‍👩‍👧", "\\.", "'=1", "a\\nb", "NULL", "x;=1+1",
    "\u202eabc",
]  # fmt: skip
FORMULAS = HOSTILE[:11]


def add_account(connection: psycopg.Connection[Any], zone: str) -> None:
    connection.execute(
        "insert into lanes (id, org_id, kind, queue) values ('acc_x', 'org_default', 'account', 'account')"
    )
    connection.execute(
        """
        insert into accounts (id, org_id, name, transport, time_zone, created_at)
        values ('acc_x', 'org_default', '=cmd()', 'sandbox', %s, '2026-10-20')
        """,
        [zone],
    )


def add_job(
    connection: psycopg.Connection[Any], job: str, at: str, minutes: int = 0, *, text: str = "", metadata: str = "{}"
) -> None:
    connection.execute(
        """
        insert into jobs (id, org_id, account_id, content_hash, phone, message, metadata, created_at, due_at, send_at,
                          expires_at, state, error_code, error_detail, ended_at, timeline)
        select %s, 'org_default', 'acc_x', '', '15551230001', 'Hi', %s, at, at, at, at, 'failed', 'page_hung', %s, at,
               '[]'
        from (values (%s::timestamptz + %s * interval '1 minute')) as moment (at)
        """,
        [job, metadata, text, at, minutes],
    )


@pytest.fixture
async def hostile(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    with psycopg.connect(database_url) as connection:
        add_account(connection, "UTC")
        for number, text in enumerate(HOSTILE):
            add_job(connection, f"job_{number:02}", "2026-11-01", text=text, metadata=json.dumps({"text": text}))
    async with api(database_url) as made:
        yield made


async def cells(client: httpx2.AsyncClient, **query: str) -> tuple[str, dict[str, list[str | None]]]:
    """Return the CSV of the recipients, and its columns."""
    answer = await client.get("/reports/recipients", params={"format": "csv", **query})
    text = answer.content.decode()
    header, *records = strict(text.removeprefix("\ufeff"))
    columns = list(zip(*sorted(records, key=lambda record: record[3] or ""), strict=True))
    return text, {str(name): list(values) for name, values in zip(header, columns, strict=True)}


async def test_texts_come_through_csv_as_they_are(hostile: httpx2.AsyncClient) -> None:
    _, columns = await cells(hostile, formulas="raw")
    assert columns["detail"] == HOSTILE
    assert [json.loads(text or "")["text"] for text in columns["metadata"]] == HOSTILE


async def test_formulas_get_an_apostrophe(hostile: httpx2.AsyncClient) -> None:
    _, columns = await cells(hostile)
    assert columns["detail"] == [f"'{each}" if each in FORMULAS else each for each in HOSTILE]
    assert [json.loads(each or "")["text"] for each in columns["metadata"]] == HOSTILE, "an object begins with {"
    assert columns["phone"] == ["15551230001"] * len(HOSTILE)


async def test_a_spreadsheet_sees_no_formula(hostile: httpx2.AsyncClient) -> None:
    for query, formulas in (({}, 0), ({"formulas": "raw"}, 1)):
        text, _ = await cells(hostile, **query)
        sheet = openpyxl.Workbook().active
        assert sheet is not None
        for record in csv.reader(io.StringIO(text, newline=""), strict=True):
            sheet.append(record)
        assert sheet.max_row == len(HOSTILE) + 1
        found = [cell.value for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]
        assert len(found) == formulas, found


async def test_json_is_not_guarded(hostile: httpx2.AsyncClient) -> None:
    rows = (await hostile.get("/reports/recipients")).json()["items"]
    assert [row["detail"] for row in sorted(rows, key=lambda row: row["job_id"])] == HOSTILE
    assert [row["metadata"]["text"] for row in sorted(rows, key=lambda row: row["job_id"])] == HOSTILE
    lines = (await hostile.get("/reports/recipients?format=ndjson")).content.split(b"\n")
    assert len(lines) == len(HOSTILE) + 2
    assert lines[-1] == b""


async def test_stored_json_of_several_lines_is_one_line(hostile: httpx2.AsyncClient, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("update jobs set metadata = %s", ['{\r\n "a": 1\n}'])
    *lines, _ = (await hostile.get("/reports/jobs?format=ndjson")).text.strip().split("\n")
    assert all(json.loads(line)["metadata"] == {"a": 1} for line in lines)


async def test_excel_gets_its_mark(hostile: httpx2.AsyncClient) -> None:
    for value, begins in (("true", True), ("1", True), ("false", False)):
        text, _ = await cells(hostile, bom=value)
        assert text.startswith("\ufefforg_id,") == begins
    assert (await hostile.get("/reports/jobs?bom=1")).json()["items"], "JSON has none"


# --- whose rows --------------------------------------------------------------------------------------------------


async def test_a_caller_of_some_accounts_reads_the_reports_of_these(client: httpx2.AsyncClient, filled: str) -> None:
    names = [view["name"] for view in await views(client) if any(c["name"] == "account_id" for c in view["columns"])]
    assert len(names) == 14
    for accounts, seen in (
        (["acc_paulo"], {"acc_paulo"}),
        (["acc_paulo", "acc_berlin"], {"acc_paulo", "acc_berlin"}),
        ([], set()),
    ):
        with psycopg.connect(filled, options="-c role=postrider_api") as connection:
            connection.execute(
                "select set_config('app.org', 'org_default', false), set_config('app.accounts', %s, false)",
                [",".join(accounts)],
            )
            for name in names:
                statement = SQL("select distinct account_id from report.{}").format(Identifier(name))
                assert {account for (account,) in connection.execute(statement)} == seen, name


async def test_webhooks_are_of_no_account_and_for_all_callers_of_the_org(filled: str) -> None:
    with psycopg.connect(filled, options="-c role=postrider_api") as connection:
        connection.execute(
            "select set_config('app.org', 'org_default', false), set_config('app.accounts', 'acc_paulo', false)"
        )
        assert connection.execute("select endpoint_id from report.webhook_health").fetchall() == [("whe_shop",)]


def test_a_process_that_has_not_said_whose_reads_nothing(filled: str) -> None:
    for settings in ("app.org=org_default", "app.accounts=*"):
        with psycopg.connect(filled, options=f"-c role=postrider_api -c {settings}") as connection:
            assert connection.execute("select count(*) from report.jobs").fetchone() == (0,)


def test_an_export_without_a_scope_is_not_made(filled: str) -> None:
    with pytest.raises(ValueError, match="scope"):
        Export(Database(filled, Role.API), SQL("copy (select 1) to stdout").format(), Form.CSV)


# --- turns and ends ----------------------------------------------------------------------------------------------

ROWS = SQL("copy (select n from generate_series(1, {}) as n) to stdout (format csv, header)")
SLOW = SQL("copy (select pg_sleep(30)) to stdout (format csv, header)").format()


def export(url: str, rows: int = 3, *, slow: bool = False, turn: str = "key_1") -> Export:
    caller = Database(url, Role.API).of("org_default")
    return Export(caller, SLOW if slow else ROWS.format(rows), Form.CSV, turn=turn)


async def connected() -> MutableMapping[str, Any]:
    """Tell of a client that stays."""
    return await asyncio.Event().wait()  # type: ignore[return-value]


def running_queries(url: str, query: str) -> int:
    """Return how many connections of exports run a statement with this text in it."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and position(%s in query) > 0"
            " and pid <> pg_backend_pid() and state = 'active'",
            [query],
        ).fetchone()
    return int(row[0]) if row else 0


async def reached(url: str, running: int, query: str = "pg_sleep(30)") -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(running_queries, url, query) != running:
            await asyncio.sleep(0.02)


async def body(response: Response) -> bytes:
    sent: list[bytes] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))

    await response({"type": "http", "method": "GET"}, _nothing, send)
    return b"".join(sent)


async def _nothing() -> MutableMapping[str, Any]:
    raise AssertionError("a download reads no request")


async def test_a_key_gets_one_report_at_a_time(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Downloads()
    first = await made.answer("key_1", export(filled), {}, connected)
    second = asyncio.create_task(made.answer("key_1", export(filled), {}, connected))
    others = await made.answer("key_2", export(filled, turn="key_2"), {}, connected)
    assert not second.done(), "until the first one was read"
    assert await body(first) == await body(others) == b"n\r\n1\r\n2\r\n3\r\n"
    assert await body(await second) == b"n\r\n1\r\n2\r\n3\r\n"
    monkeypatch.setattr(downloads, "PATIENCE", 0.05)
    unread = await made.answer("key_1", export(filled), {}, connected)
    with pytest.raises(TooManyRequests) as refused:
        await made.answer("key_1", export(filled), {}, connected)
    assert refused.value.retry_after
    assert await body(unread)


async def test_a_key_gets_one_at_a_time_of_all_processes(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "TURN_SECONDS", 1)
    first = asyncio.create_task(Downloads().answer("key_1", export(filled, slow=True), {}, connected))
    await reached(filled, 1)
    with pytest.raises(TooManyRequests):
        await Downloads().answer("key_1", export(filled), {}, connected)
    assert await body(await Downloads().answer("key_2", export(filled, turn="key_2"), {}, connected))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await body(await Downloads().answer("key_1", export(filled), {}, connected))


async def test_few_are_made_at_once(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PATIENCE", 0.1)
    made = Downloads()
    slow = [
        asyncio.create_task(made.answer(f"key_{n}", export(filled, slow=True, turn=f"key_{n}"), {}, connected))
        for n in range(downloads.MAKING)
    ]
    await reached(filled, downloads.MAKING)
    with pytest.raises(DatabaseBusy):
        await made.answer("key_9", export(filled, turn="key_9"), {}, connected)
    for each in slow:
        each.cancel()
    await asyncio.wait(slow)
    await reached(filled, 0)
    assert await body(await made.answer("key_9", export(filled, turn="key_9"), {}, connected))


async def test_a_client_that_goes_away_ends_its_statement(filled: str) -> None:
    made, gone = Downloads(), asyncio.Event()

    async def receive() -> MutableMapping[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    asking = asyncio.create_task(made.answer("key_1", export(filled, slow=True), {}, receive))
    await reached(filled, 1)
    gone.set()
    with pytest.raises(ClientDisconnect):
        await asking
    await reached(filled, 0)
    assert await body(await made.answer("key_1", export(filled), {}, connected))


async def test_one_that_is_cancelled_again_and_again_frees_its_slot(filled: str) -> None:
    made = Downloads()
    for number in range(downloads.MAKING + 1):
        key = f"key_{number}"
        asking = asyncio.create_task(made.answer(key, export(filled, slow=True, turn=key), {}, connected))
        await reached(filled, 1)
        for _ in range(3):
            asking.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await asking
        await reached(filled, 0)


async def test_one_that_is_given_up_ends_its_statement(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "SECONDS", 0.0)
    monkeypatch.setattr(downloads, "OVERTIME", 0.5)
    made = Downloads()
    with pytest.raises(DatabaseSlow):
        await made.answer("key_1", export(filled, slow=True), {}, connected)
    assert await body(await made.answer("key_2", export(filled, turn="key_2"), {}, connected))


@pytest.mark.parametrize("dead", [False, True], ids=["this connection", "every connection"])
async def test_a_postgres_that_falls_silent_holds_up_no_report_for_ever(
    filled: str, monkeypatch: pytest.MonkeyPatch, dead: bool
) -> None:
    monkeypatch.setattr(downloads, "SECONDS", 0.0)
    monkeypatch.setattr(downloads, "OVERTIME", 1.0)
    made = Downloads()
    async with wire_to(filled) as wire, asyncio.timeout(20):
        asking = asyncio.create_task(made.answer("key_1", export(wire.url, 10_000_000), {}, connected))
        await reached(filled, 1, "generate_series(1, 10000000)")
        assert not asking.done()
        wire.silence(dead=dead)
        with pytest.raises(DatabaseError):
            await asking
    assert await body(await made.answer("key_1", export(filled), {}, connected))


async def test_a_pooler_that_takes_the_login_and_says_nothing_more_holds_up_no_report_for_ever(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "SECONDS", 0.0)
    monkeypatch.setattr(downloads, "OVERTIME", 0.5)
    connect = psycopg.connect
    async with wire_to(filled) as wire, asyncio.timeout(20):

        def connecting(*arguments: Any, **options: Any) -> psycopg.Connection[Any]:
            connection = connect(*arguments, **options)
            wire.silence(dead=True)
            return connection

        with monkeypatch.context() as patch:
            patch.setattr(psycopg, "connect", connecting)
            with pytest.raises(DatabaseError):
                await Downloads().answer("key_1", export(wire.url), {}, connected)


async def test_a_client_that_goes_while_it_connects_to_such_a_pooler_frees_its_slot(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, stop = psycopg.connect, Export.stop
    loop, gone, stopping = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    async def receive() -> MutableMapping[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    def stopped(one: Export) -> None:
        stop(one)
        stopping.set()

    monkeypatch.setattr(Export, "stop", stopped)
    async with wire_to(filled) as wire, asyncio.timeout(20):

        def connecting(*arguments: Any, **options: Any) -> psycopg.Connection[Any]:
            connection = connect(*arguments, **options)
            wire.silence(dead=True)
            loop.call_soon_threadsafe(gone.set)
            assert stopping.wait(10)
            return connection

        with monkeypatch.context() as patch:
            patch.setattr(psycopg, "connect", connecting)
            with pytest.raises(ClientDisconnect):
                await Downloads().answer("key_1", export(wire.url), {}, receive)


async def test_a_client_that_reads_slowly_holds_no_connection(filled: str) -> None:
    response = await Downloads().answer("key_1", export(filled, 400_000), {}, connected)
    began, go_on = asyncio.Event(), asyncio.Event()
    sent = 0

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))
        began.set()
        await go_on.wait()

    reading = asyncio.create_task(response({"type": "http", "method": "GET"}, _nothing, send))
    await began.wait()
    with psycopg.connect(filled) as connection:
        left = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and backend_type = 'client backend'"
        ).fetchone()
    assert left == (0,)
    go_on.set()
    await reading
    assert sent == int(response.headers["content-length"]) > downloads.IN_MEMORY


@pytest.mark.parametrize("at", ["its first bytes", "its end"])
async def test_a_client_that_stops_reading_is_given_up(
    filled: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    monkeypatch.setattr(downloads, "STALLED", 0.05)
    made = Downloads()
    response = await made.answer("key_1", export(filled), {}, connected)

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body" and (at == "its first bytes" or not message["more_body"]):
            await asyncio.sleep(10)

    with caplog.at_level("INFO"):
        await response({"type": "http", "method": "GET"}, _nothing, send)
    assert [getattr(record, "event", "") for record in caplog.records] == ["report.abandoned"]
    assert await body(await made.answer("key_1", export(filled), {}, connected)), "its turn has ended"


async def test_head_sends_the_headers_alone(client: httpx2.AsyncClient) -> None:
    whole = await client.get("/reports/jobs?format=csv")
    head = await client.head("/reports/jobs?format=csv")
    assert head.content == b""
    assert head.headers["content-length"] == str(len(whole.content))


async def test_one_that_grows_too_large_is_refused(filled: str) -> None:
    with pytest.raises(ReportTooLarge):
        export(filled, 100_000).write(io.BytesIO(), most=200_000)
    assert export(filled, 100_000).write(io.BytesIO(), most=700_000) == 100_000


@pytest.mark.parametrize("buffered", [1, 1 << 20], ids=["at once", "at the end"])
async def test_a_full_disk_is_told_as_such(filled: str, monkeypatch: pytest.MonkeyPatch, buffered: int) -> None:
    """Also where it shows when the last bytes are written, or the file is closed."""
    async with running(filled) as app, client_of(app) as client:
        monkeypatch.setattr(downloads, "SpooledTemporaryFile", lambda _: Path("/dev/full").open("w+b", buffered + 1))  # noqa: SIM115
        answer = await client.get("/reports/jobs")
        assert (answer.status_code, answer.json()["code"]) == (503, "disk_full")
        assert answer.headers["retry-after"] == "60"
        monkeypatch.undo()
        assert (await client.get("/reports/jobs")).status_code == 200
