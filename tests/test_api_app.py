import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import psycopg
import pytest
from fixtures_api import ADMIN_KEY, ENCRYPTION_KEY, NOWHERE, api, client_of, new_account, production, rows, running
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import DeadlockDetected
from psycopg.sql import SQL, Identifier
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route

from api.http.middleware import request_id
from app import OPERATIONS
from errors import SettingsWrong
from settings import read
from sql.database import Database
from wiring.api import create_app

SECURITY = {"x-content-type-options", "content-security-policy", "referrer-policy", "cache-control", "x-request-id"}


async def test_an_app_that_is_mounted_begins_and_ends_with_it(database_url: str) -> None:
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        told.append("begun")
        yield
        told.append("ended")

    async with running(database_url, mounts=[Mount("/part", Starlette(lifespan=lifespan))]):
        assert told == ["begun"]
    assert told == ["begun", "ended"]


# --- headers and errors ------------------------------------------------------------------------------------------


async def test_every_answer_has_the_headers_and_every_error_is_a_problem(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Request) -> PlainTextResponse:
        raise RuntimeError(f"a secret at {request_id.get()}")

    async with running(database_url, mounts=[Route("/broken", broken)]) as app, client_of(app) as client:
        answers = {
            200: await client.get("/healthz"),
            404: await client.get("/nothing"),
            405: await client.patch("/jobs"),
            422: await client.post("/accounts", json={}),
            415: await client.post("/accounts", content=b"{}"),
            500: await client.get("/broken", headers={"x-request-id": "trace-7"}),
        }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers.keys() >= SECURITY
        assert "strict-transport-security" not in answer.headers
        if status > 200:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
    assert set(answers[405].headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}
    assert "secret" not in answers[500].text
    assert "a secret at trace-7" in caplog.text


async def test_a_second_collision_is_503_and_a_client_that_left_is_nobodys_fault(database_url: str) -> None:
    async def collided(_: Request) -> PlainTextResponse:
        raise DeadlockDetected

    async def left(_: Request) -> PlainTextResponse:
        raise ClientDisconnect

    mounts = [Route("/collided", collided), Route("/left", left)]
    async with running(database_url, mounts) as app, client_of(app) as client:
        busy = await client.get("/collided")
        gone = await client.get("/left")
    assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (503, "database_busy", "1")
    assert gone.status_code == 400


async def test_what_a_mounted_app_says_itself_stays(database_url: str) -> None:
    async def page(_: Request) -> PlainTextResponse:
        return PlainTextResponse("x", headers={"content-security-policy": "script-src 'self'"})

    async with running(database_url, mounts=[Route("/page", page)]) as app, client_of(app) as client:
        answer = await client.get("/page")
    assert answer.headers["content-security-policy"] == "script-src 'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_sane_request_id_is_kept_and_another_is_replaced(database_url: str) -> None:
    async with api(database_url) as client:
        for given, kept in (("order-1:a", True), ("", False), ("a b", False), ("x" * 129, False), ("<script>", False)):
            answer = await client.get("/healthz", headers={"x-request-id": given})
            found = answer.headers["x-request-id"]
            assert (found == given) is kept
            assert kept or found.startswith("req_")


async def test_production_asks_for_https_from_then_on(database_url: str) -> None:
    async with api(database_url, **production(database_url)) as client:
        assert "max-age=" in (await client.get("/healthz")).headers["strict-transport-security"]


def test_without_an_encryption_key_there_is_no_app() -> None:
    with pytest.raises(SettingsWrong, match="ENCRYPTION_KEY"):
        create_app(read(_env_file=None), Database(NOWHERE))


# --- description -------------------------------------------------------------------------------------------------


async def test_the_description_holds_every_route_and_refers_to_nothing_missing(database_url: str) -> None:
    async with running(database_url) as app, client_of(app) as client:
        text = (await client.get("/openapi.json")).text
        served = {
            (route.path, method) for route in app.routes if isinstance(route, Route) for method in route.methods or ()
        }
    document = json.loads(text)
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    assert {(path, method) for path, method in served if method != "HEAD"} == described
    assert len(described) == len(OPERATIONS) == len({item["operationId"] for item in _operations(document)})
    schemas = document["components"]["schemas"]
    for reference in set(_references(document)):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    assert set(schemas["SendRequest"]["properties"]) == {
        "phone", "message", "idempotencyKey", "account", "sendAt", "expiresAt", "priority", "metadata",
    }  # fmt: skip
    assert schemas["SendRequest"]["additionalProperties"] is False
    names = [parameter["name"] for parameter in document["paths"]["/jobs"]["get"]["parameters"]]
    assert sorted(names) == ["account", "cursor", "limit", "phone", "since", "status", "until"]


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for item in document["paths"].values() for operation in item.values()]


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        found = [str(value["$ref"])] if "$ref" in value else []
        return found + [reference for inner in value.values() for reference in _references(inner)]
    if isinstance(value, list):
        return [reference for inner in value for reference in _references(inner)]
    return []


# --- the database is away ----------------------------------------------------------------------------------------


async def test_while_the_database_is_away_every_route_answers_503(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    async with api(NOWHERE) as client:
        client.headers.update({"x-admin-key": ADMIN_KEY, "cookie": "postrider_qr=x"})
        paths = [(item.method, item.path.replace("{", "").replace("}", "")) for item in OPERATIONS]
        # What other calls have in their headers, or do not need before they ask the database.
        token = {("POST", "/qr"): {"token": "x"}, ("POST", "/admin/orgs"): {"name": "x"}}
        answers = await asyncio.gather(
            *(client.request(method, path, json=token.get((method, path))) for method, path in paths)
        )
    for (_, path), answer in zip(paths, answers, strict=True):
        if path in {"/healthz", "/openapi.json"}:
            assert answer.status_code == 200
        else:
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), path
            assert int(answer.headers["retry-after"]) > 0
            assert "127.0.0.1" not in answer.text


async def test_when_the_database_comes_back_it_works_by_itself(
    postgres: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    name = Identifier(str(conninfo_to_dict(database_url)["dbname"]))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(SQL("alter database {} allow_connections false").format(name))
        async with api(database_url) as client:
            assert (await client.get("/jobs")).status_code == 503
            connection.execute(SQL("alter database {} allow_connections true").format(name))
            await _until_200(client, "/jobs")
            assert (await client.get("/readyz")).status_code == 200
            await new_account(client)


async def _until_200(client: httpx2.AsyncClient, path: str) -> None:
    """Ask again until the bootstrap key is there; each request waits for the pool, or is answered by the database."""
    async with asyncio.timeout(30):
        while (await client.get(path)).status_code != 200:
            pass


async def test_it_is_not_ready_on_a_schema_that_is_not_its_own(database_url: str, database: Database) -> None:
    async with api(database_url) as client:
        await rows(database, "delete from _yoyo_migration where migration_id like '0003%' returning migration_id")
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["detail"]) == (503, "The database is not ready.")
        assert (await client.get("/healthz")).status_code == 200


def test_routes_of_one_path_stand_together() -> None:
    paths = [operation.path for operation in OPERATIONS]
    assert len(set(paths)) == sum(1 for before, path in zip(["", *paths], paths, strict=False) if before != path)


def test_mounts_come_last(database_url: str) -> None:
    mount: BaseRoute = Route("/healthz", lambda _: PlainTextResponse("other"))
    app = create_app(read(encryption_key=ENCRYPTION_KEY, _env_file=None), Database(database_url), [mount])
    assert app.routes[-1] is mount
