"""Over HTTP: for a key of one org, the ids of another are ids that do not exist."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import psycopg
import pytest
from fixtures_api import ADMIN_KEY, client_of, running
from fixtures_tenancy import MARK, OURS, THEIRS, fill

from api.http.operations import Operation
from api.openapi.examples import EXAMPLES
from app import OPERATIONS

#: The same as theirs, of no org; as long, and sorted at the same place.
NONE = "brave"
#: parameter of a path → id of theirs
IDS = {
    "/accounts/{id}": "acc_bravo",
    "/webhooks/{id}": "whe_bravo",
    "/deliveries/{id}": "dlv_bravo",
    "{jobId}": "job_bravo",
    "{recoveryId}": "rec_bravo",
    "{phone}": "15559990002",
    "{view}": "bravo",  # a report is no id; whose rows it shows is tested below
}
KEYED = [operation for operation in OPERATIONS if not operation.open and not operation.admin]
NAMING = [operation for operation in KEYED if "{" in operation.path]


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill(connection)
        # Somebody else's opt-out, whose number is no id of ours.
        connection.execute("update opt_outs set phone = '15559990002' where org_id = %s", [THEIRS])
    async with running(database_url) as app, client_of(app, x_api_key="key of alfa") as made:
        yield made


def path_of(operation: Operation) -> str:
    """Return the operation's path with ids of theirs."""
    path = operation.path
    for prefix, their_id in IDS.items():
        if prefix.startswith("{"):
            path = path.replace(prefix, their_id)
        elif path.startswith(prefix):
            path = path.replace(prefix, prefix.replace("{id}", their_id), 1)
    assert "{" not in path, path
    return path


def body_of(operation: Operation) -> Any:
    example = EXAMPLES.get(operation.takes.__name__)
    if example is None:
        return None
    return json.loads(re.sub(r"(acc|dlv|whe|job)_01\w+", r"\1_bravo", json.dumps(example)))


async def answered(client: httpx2.AsyncClient, method: str, path: str, body: Any) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body, without what differs in every answer."""
    answer = await client.request(method, path, json=body)
    headers = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "date"}}
    return answer.status_code, headers, answer.text


@pytest.mark.parametrize("operation", NAMING, ids=lambda each: f"{each.method} {each.path}")
async def test_their_ids_are_answered_like_ids_that_do_not_exist(
    client: httpx2.AsyncClient, operation: Operation
) -> None:
    path, body = path_of(operation), body_of(operation)
    theirs = await answered(client, operation.method, path, body)
    invented = await answered(
        client,
        operation.method,
        path.replace(MARK, NONE).replace("15559990002", "15559990003"),
        body and json.loads(json.dumps(body).replace(MARK, NONE)),
    )
    assert theirs[0] != 422, theirs
    assert repr(theirs).replace(MARK, NONE).replace("15559990002", "15559990003") == repr(invented)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/send", {"account": "acc_bravo", "phone": "15551230001", "message": "Hi"}),
        ("POST", "/send/batch", {"jobs": [{"account": "acc_bravo", "phone": "15551230001", "message": "Hi"}]}),
        ("POST", "/webhooks/whe_alfa/replay", {"deliveries": ["dlv_bravo"]}),
        ("GET", "/jobs?account=acc_bravo", None),
        ("GET", "/incoming?account=acc_bravo", None),
        ("GET", "/reports/recipients?account=acc_bravo", None),
        ("DELETE", "/jobs?status=queued&account=acc_bravo", None),
    ],
)
async def test_ids_in_bodies_and_queries_are_no_exception(
    client: httpx2.AsyncClient, method: str, path: str, body: Any
) -> None:
    theirs = await answered(client, method, path, body)
    invented = await answered(
        client, method, path.replace(MARK, NONE), body and json.loads(json.dumps(body).replace(MARK, NONE))
    )
    assert repr(theirs).replace(MARK, NONE) == repr(invented)


async def test_no_list_shows_anything_of_theirs(client: httpx2.AsyncClient) -> None:
    for operation in KEYED:
        if operation.method == "GET" and "{" not in operation.path:
            answer = await client.get(operation.path)
            assert answer.status_code == 200, operation.path
            assert MARK not in answer.text, operation.path
            if "items" in answer.json():
                assert len(answer.json()["items"]) >= 1, operation.path


async def test_no_report_shows_anything_of_theirs(client: httpx2.AsyncClient) -> None:
    for view in (await client.get("/reports")).json()["items"]:
        for form in ("json", "csv", "ndjson"):
            answer = await client.get(f"/reports/{view['name']}?format={form}")
            assert answer.status_code == 200, view["name"]
            assert MARK not in answer.text, view["name"]
            assert "alfa" in answer.text, view["name"]


async def test_metrics_name_no_org(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill(connection)
    async with running(database_url) as app, client_of(app) as near, client_of(app, "203.0.113.9") as far:
        shown = await near.get("/metrics")
        assert shown.status_code == 200
        assert not re.search("alfa|bravo|org_", shown.text)
        for headers in ({"x-api-key": "key of alfa"}, {"x-admin-key": "key of alfa"}):
            assert (await far.get("/metrics", headers=headers)).status_code == 401
        assert (await far.get("/metrics", headers={"x-admin-key": ADMIN_KEY})).status_code == 200


async def test_the_same_idempotency_key_is_another_job_in_another_org(
    client: httpx2.AsyncClient, database_url: str
) -> None:
    """Also `job_…`, by which a job without a key is named."""
    with psycopg.connect(database_url) as connection:
        order = {"phone": "15551230001", "message": "Hi", "idempotencyKey": "bravo-1"}
        assert (await client.post("/send", json=order)).status_code == 202
        theirs = await client.post("/send", json={**order, "message": "Ho"}, headers={"x-api-key": "key of bravo"})
        assert (theirs.status_code, "idempotent-replayed" in theirs.headers) == (202, False)
        found = connection.execute("select org_id from jobs where key = 'bravo-1' order by 1").fetchall()
        assert found == [(OURS,), (THEIRS,)]
