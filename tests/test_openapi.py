"""What /openapi.json says that can be looked at call by call; test_openapi_fuzz.py tries the rest."""

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime, timedelta
from typing import Any

import httpx2
import pytest
from fixtures_api import ADMIN_KEY, api, new_account
from fixtures_postgres import own_database
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from api.accounts import proxies
from api.http.models import Nothing
from api.http.pagination import AS_CURSOR, EPOCH, Page
from api.http.patterns import READABLE
from api.http.validators import Message
from api.openapi import document
from api.webhooks import webhook_urls
from app import OPERATIONS

DAY = date(2026, 12, 1)
DOCUMENT: dict[str, Any] = json.loads(document.document(OPERATIONS, "1", DAY))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
DESCRIBED: dict[str, Any] = {
    f"{method.upper()} {path}": about for path, item in DOCUMENT["paths"].items() for method, about in item.items()
}


@pytest.fixture(scope="module")
async def client(postgres: str) -> AsyncIterator[httpx2.AsyncClient]:
    with own_database(postgres) as url:
        async with api(url) as client:
            client.headers["x-admin-key"] = ADMIN_KEY
            yield client


# --- what every call may answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "status", "code"), [("?a=%00", 400, "malformed"), ("?colour=red", 422, "invalid")])
async def test_every_call_says_how_it_refuses_its_address(
    client: httpx2.AsyncClient, query: str, status: int, code: str
) -> None:
    for call, about in DESCRIBED.items():
        method, path = call.split()
        answer = await client.request(method, re.sub(r"{\w+}", "15551234567", path) + query)
        assert (answer.status_code, answer.json()["code"]) == (status, code), call
        assert code in about["responses"][str(status)]["x-codes"], call


# --- cursors -----------------------------------------------------------------------------------------------------


def old(at: datetime, row_id: str) -> str:
    """Write a cursor as 0.5.0 did."""
    return base64.urlsafe_b64encode(f"{at.isoformat()} {row_id}".encode()).decode()


async def test_a_list_goes_on_after_a_cursor_of_either_form(client: httpx2.AsyncClient) -> None:
    accounts = [await new_account(client, name) for name in ("one", "two", "three")]
    first = (await client.get("/accounts?limit=1")).json()
    assert re.fullmatch(str(AS_CURSOR["pattern"]), first["nextCursor"])
    at = EPOCH + timedelta(microseconds=int(first["nextCursor"].partition(".")[0]))
    for cursor in (first["nextCursor"], old(at, accounts[0])):
        page = (await client.get("/accounts", params={"limit": 1, "cursor": cursor})).json()
        assert [account["id"] for account in page["items"]] == [accounts[1]]


@given(st.from_regex(str(AS_CURSOR["pattern"]), fullmatch=True))
def test_whatever_looks_like_a_cursor_is_taken(cursor: str) -> None:
    assert Page.model_validate({"cursor": cursor}).cursor


@given(st.integers(10**15, 10**16 - 1))
def test_a_cursor_says_the_place_that_it_was_made_of(microseconds: int) -> None:
    place = EPOCH + timedelta(microseconds=microseconds), "whe_bootstrap"
    cursor = Page(limit=1).next_cursor([{"created_at": place[0], "id": place[1]}, {}])
    assert Page.model_validate({"cursor": cursor}).cursor == place


# --- bodies ------------------------------------------------------------------------------------------------------


def whole_numbers(name: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of each whole number in a body."""
    for field, about in SCHEMAS[name].get("properties", {}).items():
        for one in about.get("anyOf", [about]):
            if one.get("type") == "integer":
                yield (field,)
            if "$ref" in one:
                yield from ((field, *path) for path in whole_numbers(one["$ref"].rpartition("/")[2]))


def nested(path: tuple[str, ...], value: float) -> dict[str, Any]:
    return {path[0]: nested(path[1:], value) if path[1:] else value}


TAKEN = {operation.takes.__name__: operation.takes for operation in OPERATIONS if operation.takes is not Nothing}
WHOLE = [(name, path) for name in TAKEN for path in whole_numbers(name)]


@pytest.mark.parametrize(("name", "path"), WHOLE, ids=[".".join((name, *path)) for name, path in WHOLE])
def test_a_whole_number_may_have_a_point_and_zeros(name: str, path: tuple[str, ...]) -> None:
    example = (SCHEMAS[name].get("examples") or [{}])[0]
    whole, pointed = ((TAKEN[name].model_validate(example | nested(path, number))) for number in (4, 4.0))
    assert repr(whole) == repr(pointed)
    with pytest.raises(ValidationError, match="valid integer"):
        TAKEN[name].model_validate(example | nested(path, 4.5))


def test_metadata_stays_as_it_was_given() -> None:
    given = {"phone": "15551234567", "message": "Hello", "metadata": {"a": 1.0, "b": 1e300}}
    assert TAKEN["SendRequest"].model_validate(given).model_dump_json(include={"metadata"}) == (
        '{"metadata":{"a":1.0,"b":1e+300}}'
    )


async def test_a_body_may_be_left_out_where_the_description_says_so(client: httpx2.AsyncClient) -> None:
    bodies = {call: about["requestBody"] for call, about in DESCRIBED.items() if "requestBody" in about}
    assert {call for call, body in bodies.items() if not body["required"]} >= {"POST /admin/pause", "PATCH /org"}
    for call, body in bodies.items():
        method, path = call.split()
        answer = await client.request(method, re.sub(r"{\w+}", "x", path))
        assert (answer.status_code == 415) is body["required"], call


# --- patterns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/hooks/whatsapp",
        "HTTPS://Shop.Example:8443?a=b",
        "http://localhost:8000",
        "http://192.0.2.1:65535/",
        "https://[2001:db8::1]:8443/a/{b}",
    ],
)
def test_a_url_for_events_fits_its_pattern(url: str) -> None:
    assert re.fullmatch(webhook_urls.PATTERN, webhook_urls.well_formed(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy.example:3128",
        "http://user:p%40ss@proxy.example:1/",
        "socks5://DOMAIN\\user:a:b@[2001:db8::1]:65535",
    ],
)
def test_a_url_of_a_proxy_fits_its_pattern(url: str) -> None:
    assert proxies.ProxySettings(url=url)
    assert re.fullmatch(proxies.PATTERN, url)


@pytest.mark.parametrize("port", ["0", "65536", "99999", "080", ""])
def test_no_pattern_takes_a_port_that_is_none(port: str) -> None:
    assert not re.fullmatch(proxies.PATTERN, f"http://proxy.example:{port}")
    assert not re.fullmatch(webhook_urls.PATTERN, f"http://shop.example:{port}")


@given(st.text("\n \u0085\u00a0\u00ad\u200b\u2060\ufeff\u0001x\u00e9\U0001f44b", max_size=5))
def test_a_message_is_taken_by_its_pattern(text: str) -> None:
    try:
        taken = bool(TypeAdapter(Message).validate_python(text))
    except ValidationError:
        taken = False
    assert taken is bool(re.fullmatch(READABLE, text))


# --- examples and links ------------------------------------------------------------------------------------------


def test_times_to_come_are_to_come_in_examples_too() -> None:
    fields = SCHEMAS["SendRequest"]["properties"]
    (send_at,), (expires_at,) = (fields[name]["examples"] for name in ("sendAt", "expiresAt"))
    assert DAY.isoformat() < send_at < expires_at


def test_what_was_created_leads_to_what_can_be_done_with_it() -> None:
    created = DESCRIBED["POST /accounts"]["responses"]["201"]["links"]
    assert {"show_account", "change_account", "delete_account", "connect", "show_qr", "show_health"} <= created.keys()
    assert created["show_qr"] == {"operationId": "show_qr", "parameters": {"id": "$response.body#/id"}}
    accepted = DESCRIBED["POST /send"]["responses"]["202"]["links"]
    assert accepted["show_job"]["parameters"] == {"jobId": "$response.body#/jobId"}
    [begun] = DESCRIBED["POST /webhooks/{id}/recover"]["responses"]["202"]["links"].values()
    assert begun["parameters"] == {"id": "$request.path.id", "recoveryId": "$response.body#/recoveryId"}
    tested = DESCRIBED["POST /webhooks/{id}/test"]["responses"]["202"]["links"]
    assert tested["show_delivery"]["parameters"] == {"id": "$response.body#/deliveryId"}


def test_a_link_names_each_parameter_of_the_call_that_it_leads_to() -> None:
    calls = {about["operationId"]: about for about in DESCRIBED.values()}
    links = [
        link
        for about in DESCRIBED.values()
        for answer in about["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert links
    for link in links:
        wanted = {one["name"] for one in calls[link["operationId"]]["parameters"] if one["in"] == "path"}
        assert link["parameters"].keys() == wanted
