"""The direct way answers as the router does, byte for byte, whatever is asked."""

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest
from fixtures_api import KEY, client_of, new_account, running
from starlette.applications import Starlette

from api.http import direct
from api.http.direct import Direct

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]

PATHS = [
    "/send", "/send/batch", "/send/", "//send", "/SEND", "/%73end", "/send%00", "/accounts", "/jobs", "/healthz",
    "/webhooks", "/org", "/opt-outs", "/metrics", "/openapi.json", "/qr", "/jobs/none", "/nothing", "/admin/orgs",
]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"]
QUERIES = [b"", b"", b"limit=1", b"limit=0", b"a=b", b"x=%00", b"cursor=%ff"]
BODIES = [
    b"", b"{}", b"null", b"[]", b"{", b"\xff", b'"' + b"x" * 70_000 + b'"', b'{"jobs":[]}', b'{"jobs":[{}]}',
    b'{"phone":"15551230001"}', b'{"phone":1,"message":2,"sendAt":"x","account":3,"priority":"low","x":0}',
    b'{"phone":"15551230001","message":"a","account":"acc_none"}', b'{"phone":"0","message":" "}',
    b'{"phone":"15551230001","message":"a","message":"b"}', b'{"phone":"15551230001","message":"\\u0000"}',
]  # fmt: skip
HEADERS: list[dict[bytes, bytes]] = [
    {}, {}, {}, {b"x-api-key": b"guess"}, {b"x-api-key": b"\xff"}, {b"content-type": b"text/plain"},
    {b"content-length": b"999999999"}, {b"x-forwarded-for": b"1.2.3.4"}, {b"accept": b"text/html"},
    {b"x-request-id": b"not sane!"},
]  # fmt: skip


def asked(dice: random.Random) -> dict[str, Any]:
    """Return an odd request."""
    path = dice.choice(PATHS)
    body = dice.choice(BODIES)
    if dice.random() < 0.3:
        fields = {"phone": "15551230001", "message": "Hello", "idempotencyKey": f"k{dice.randrange(20)}"}
        dropped = dice.choice([None, "phone", "message", "idempotencyKey"])
        body = json.dumps({name: text for name, text in fields.items() if name != dropped}).encode()
    headers = {
        b"x-api-key": KEY.encode(), b"content-type": b"application/json", b"x-request-id": b"same",
        **dice.choice(HEADERS),
    }  # fmt: skip
    raw = path.encode()
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": dice.choice(METHODS), "path": raw.replace(b"%73", b"s").replace(b"%00", b"\0").decode(),
        "raw_path": raw, "query_string": dice.choice(QUERIES), "headers": list(headers.items()),
        "client": ("127.0.0.1", 40000), "server": ("127.0.0.1", 80), "state": {}, "body": body,
    }  # fmt: skip


async def answered(app: Starlette, scope: dict[str, Any]) -> Answer:
    """Ask an app as a server would."""
    sent: list[Any] = []
    body = scope["body"]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**scope, "headers": list(scope["headers"])}, receive, send)
    start, *rest = sent
    headers = sorted((name, b"" if name in CHANGING else value) for name, value in start["headers"])
    return start["status"], headers, b"".join(each.get("body", b"") for each in rest)


#: Headers that differ from request to request.
CHANGING = {b"x-request-id", b"set-cookie"}


async def test_a_thousand_odd_requests_are_answered_as_by_the_router(database_url: str) -> None:
    dice = random.Random(17)  # noqa: S311  # no secret
    async with running(database_url) as app, client_of(app) as client:
        await new_account(client)
        statuses = set()
        for _ in range(1000):
            scope = asked(dice)
            first = await answered(app, scope)  # so that both find the same messages
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Direct, "__call__", lambda self, *call: self._app(*call))
                routed = await answered(app, scope)
            direct = await answered(app, scope)
            assert told(direct) == told(routed), scope
            statuses.add(first[0])
    assert statuses >= {200, 202, 400, 401, 404, 405, 413, 415, 422}


def told(answer: Answer) -> Answer:
    """Return an answer without what every request to /metrics and lists changes by itself."""
    status, _, body = answer
    return (status, [], b"") if b"postrider_" in body else answer


async def test_more_requests_than_can_be_answered_soon_are_turned_away_at_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "MOST_AT_ONCE", 3)
    async with running(database_url) as app, client_of(app) as client:
        account = await new_account(client)
        orders = ({"account": account, "phone": "15551230001", "message": f"{n}"} for n in range(20))
        asked = [client.post("/send", json=order) for order in orders]
        *answers, health = await asyncio.gather(*asked, client.get("/healthz"))
        assert Counter(answer.status_code for answer in answers) == {202: 3, 503: 17}
        assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 503} == {"1"}
        assert health.status_code == 200
        assert (await client.get("/jobs")).status_code == 200, "it is free again"
