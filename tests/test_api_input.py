import itertools
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from fixtures_api import api, new_account
from fixtures_postgres import own_database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NUMBERS = itertools.count()
GOOD = {"phone": "15551230001", "message": "Hello"}
JSON_TYPE = {"content-type": "application/json"}


def from_now(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def stable(value: object) -> str | None:
    """Name a time of now by its field alone: two processes that collect the tests have to agree on their names."""
    return "time" if isinstance(value, str) and re.match(r"\d{4}-.*\.\d{6}\+00:00$", value) else None


def nested(levels: int) -> dict[str, object]:
    return {"a": nested(levels - 1)} if levels > 1 else {"a": 1}


@pytest.fixture(scope="module")
async def client(postgres: str) -> AsyncIterator[httpx2.AsyncClient]:
    """One for all of this file, since what is refused changes nothing; that is looked at in the end."""
    with own_database(postgres) as url:
        async with api(url) as client:
            await new_account(client)
            yield client
            jobs = (await client.get("/jobs?limit=200")).json()["items"]
        assert [job for job in jobs if not job["jobId"].startswith("accepted-")] == []


def accepted() -> str:
    return f"accepted-{next(NUMBERS)}"


BAD_FIELDS: list[tuple[str, object, str]] = [
    ("phone", None, "must be a valid string, not null"),
    ("phone", 15551230001, "must be a valid string, not 15551230001"),
    ("phone", "", 'not ""'),
    ("phone", "123", "123 is too short"),
    ("phone", "1" * 30, f"{'1' * 30} is too long"),
    ("phone", "15551234", "15551234 lacks its area code"),
    ("phone", "1555123000", "1555123000 is too short"),
    ("phone", "+999 555 123 456", "999555123456 begins with no country code"),
    ("phone", "0015551230001", "begins with no country code"),
    ("phone", "call me", 'not "call me"'),
    ("phone", "+1 555 FLOWERS", 'not "+1 555 FLOWERS"'),
    ("phone", "١٥٥٥١٢٣٠٠٠١", 'such as 15551234567, not "١٥٥٥١٢٣٠٠٠١": U+0661 is not allowed in it'),
    ("phone", "+1 555\u2022123", "U+2022 is not allowed in it"),
    ("phone", "1555123000²", "U+00B2 is not allowed in it"),
    ("phone", "1" * 10_000, "…"),
    ("message", None, "must be a valid string, not null"),
    ("message", ["Hello"], "must be a valid string, not a list"),
    ("message", "", 'something to read in it, not ""'),
    ("message", " \n\t\u200b\u2060", "something to read in it"),
    ("message", "x" * 65_537, "may have 65,536 UTF-16 units and has 65,537"),
    ("message", "👋" * 32_769, "may have 65,536 UTF-16 units and has 65,538"),
    ("idempotencyKey", "", "must be 1 to 255"),
    ("idempotencyKey", "x" * 256, "must be 1 to 255"),
    ("idempotencyKey", "a b", 'not "a b"'),
    ("idempotencyKey", "a/b", 'not "a/b"'),
    ("idempotencyKey", "a\n", "must be 1 to 255"),
    ("idempotencyKey", "job_1", "not begin with job_"),
    ("idempotencyKey", 42, "must be a valid string, not 42"),
    ("account", 1, "must be a valid string, not 1"),
    ("sendAt", -5, "not -5"),
    ("sendAt", 1_800_000_000, "not 1800000000"),
    ("sendAt", "tomorrow", 'not "tomorrow"'),
    ("sendAt", "2026-12-01", "with its zone"),
    ("sendAt", "2026-12-01T09:00:00", "with its zone"),
    ("sendAt", "-2026-12-01T09:00:00Z", "ISO 8601"),
    ("sendAt", "0001-01-01T00:00:00+14:00", "ISO 8601"),
    ("sendAt", "9999-12-31T23:59:59-14:00", "ISO 8601"),
    ("sendAt", "2026-13-01T09:00:00Z", "ISO 8601"),
    ("sendAt", from_now(seconds=-70), "must not be in the past"),
    ("sendAt", "0001-01-01T00:00:00Z", "must not be in the past and is 0001-01-01T00:00:00.000Z"),
    ("sendAt", from_now(days=367), "at most 366 days ahead"),
    ("expiresAt", from_now(seconds=-1), "must be later than the time of sending"),
    ("expiresAt", True, "ISO 8601"),
    ("priority", "urgent", "must be 'high' or 'normal', not \"urgent\""),
    ("priority", None, "not null"),
    ("metadata", [], "must be an object, not a list"),
    ("metadata", "{}", 'must be an object, not "{}"'),
    ("metadata", {"a": "x" * 4096}, "may have 4,096 bytes minified and has 4,104"),
    ("metadata", {"ü": "ü" * 2048}, "may have 4,096 bytes minified and has 4,105"),
    ("metadata", nested(6), "may be 5 levels deep"),
    ("metadata", {"a": [[[[[]]]]]}, "may be 5 levels deep"),
    ("surprise", 1, "is not a known field"),
    ("idempotency_key", "k", "is not a known field"),
]


@pytest.mark.parametrize(("field", "value", "why"), BAD_FIELDS, ids=stable)
async def test_a_bad_field_is_named(client: httpx2.AsyncClient, field: str, value: object, why: str) -> None:
    answer = await client.post("/send", json=GOOD | {field: value})
    problem = answer.json()
    assert answer.status_code == 422, problem
    assert answer.headers["content-type"] == "application/problem+json"
    [error] = problem["errors"]
    assert error["field"] == field
    assert why in error["message"]
    assert len(problem["detail"]) < 300
    assert set(problem) == {"type", "title", "status", "detail", "code", "errors"}


GOOD_FIELDS = [
    ("phone", "+1 (555) 123-0001"),
    ("phone", "\u202a+1 (555) 123\u20110001\u202c"),
    ("phone", "\uff0b\uff11\u3000\uff15\uff15\uff15\u2009123\u20130001"),
    ("phone", "(+1)\u00a0555/123/0001"),
    ("message", "x" * 65_536),
    ("message", "👋" * 32_768),
    ("metadata", {"a": "x" * 4088}),
    ("metadata", nested(5)),
    ("metadata", {}),
    ("metadata", None),
    ("sendAt", None),
    ("sendAt", from_now(days=365)),
    ("expiresAt", from_now(days=1)),
]


@pytest.mark.parametrize(("field", "value"), GOOD_FIELDS, ids=stable)
async def test_what_is_just_within_is_accepted(client: httpx2.AsyncClient, field: str, value: object) -> None:
    answer = await client.post("/send", json=GOOD | {"idempotencyKey": accepted(), field: value})
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("+52 1 55 1234 5678", "525512345678"),  # WhatsApp finds it without the 1
        ("22507010203", "22507010203"),  # an account that is older than its country's longer numbers has but this one
        ("2250707010203", "2250707010203"),
        ("22961234567", "22961234567"),
        ("551187654321", "551187654321"),
        ("+44 (0)20 7946 0018", "442079460018"),
    ],
)
async def test_who_writes_under_an_older_form_of_a_number_can_be_answered(
    client: httpx2.AsyncClient, given: str, kept: str
) -> None:
    answer = await client.post("/send", json=GOOD | {"idempotencyKey": accepted(), "phone": given})
    assert answer.status_code == 202, answer.text
    assert (await client.get(f"/jobs/{answer.json()['jobId']}")).json()["phone"] == kept


@pytest.mark.parametrize("end", ["\r\n", "\r", "\u2028", "\u2029", "\x85", "\x0b", "\n"])
async def test_line_ends_are_made_equal(client: httpx2.AsyncClient, end: str) -> None:
    """Also those of two requests that are one."""
    body = GOOD | {"idempotencyKey": accepted()}
    answer = await client.post("/send", json=body | {"message": f"Pedido 42{end}-{end}Total: 10"})
    assert answer.status_code == 202, answer.text
    job = await client.get(f"/jobs/{answer.json()['jobId']}")
    assert job.json()["message"] == "Pedido 42\n-\nTotal: 10"
    again = await client.post("/send", json=body | {"message": "Pedido 42\n-\nTotal: 10"})
    assert again.json() == answer.json()


async def test_what_is_missing_is_named_all_at_once(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/send", json={"metadata": 1})
    assert answer.status_code == 422
    assert {error["field"]: error["message"] for error in answer.json()["errors"]} == {
        "phone": "is required",
        "message": "is required",
        "metadata": "must be an object, not 1",
    }


async def test_thousands_of_errors_are_not_all_listed(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/send", json=GOOD | {f"{'f' * 200}{number}": 1 for number in range(1000)})
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
    assert len(answer.text) < 5000


BAD_BODIES = [
    (b"", "not JSON at line 1, column 1"),
    (b"{", "not JSON at line 1"),
    (b'{"phone": "1",}', "not JSON at line 1, column 1"),
    (b'{"a": 1} {"b": 2}', "column 10: Extra data"),
    (b'{"phone": NaN}', "NaN is no JSON number"),
    (b'{"phone": -Infinity}', "-Infinity is no JSON number"),
    (b'{"metadata": {"a": 1e999}}', "1e999 is too large a number"),
    (b'{"metadata": {"a": ' + b"9" * 5000 + b"}}", "too many digits"),
    (b'{"phone": "1", "phone": "2"}', 'the field "phone" stands twice'),
    (b'{"message": "\xff"}', "not UTF-8 at byte 13"),
    (b'{"message": "\xed\xa0\x80"}', "not UTF-8"),
    (b'\xef\xbb\xbf{"message": "x"}', "not JSON at line 1, column 1: a byte order mark"),
    (b'{"message": "\x00"}', "not JSON at line 1"),
    (b'{"message": "a\\u0000"}', "message contains a NUL character"),
    (b'{"metadata": {"a": [1, "\\u0000"]}}', "metadata.a.1 contains a NUL character"),
    (b'{"metadata": {"\\u0000": 1}}', "metadata contains a NUL character"),
    (b'{"message": "\\ud83d"}', "message contains half of a surrogate pair"),
    (b'{"message": "\\udc4b\\ud83d"}', "message contains half of a surrogate pair"),
    (b'{"phone": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
]


@pytest.mark.parametrize(("body", "why"), BAD_BODIES)
@pytest.mark.parametrize("path", ["/send", "/send/batch"])
async def test_what_is_not_well_formed_is_400(client: httpx2.AsyncClient, path: str, body: bytes, why: str) -> None:
    answer = await client.post(path, content=body, headers=JSON_TYPE)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert why in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true"])
async def test_a_body_that_is_no_object_is_refused(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post("/send", content=body, headers=JSON_TYPE)
    assert answer.status_code == 422
    assert "must be an object" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=latin-1", "application/jsonp", ""])
async def test_another_content_type_is_415(client: httpx2.AsyncClient, kind: str) -> None:
    answer = await client.post("/send", content=json.dumps(GOOD), headers={"content-type": kind})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"']
)
async def test_json_by_other_spellings_is_accepted(client: httpx2.AsyncClient, kind: str) -> None:
    order = GOOD | {"idempotencyKey": accepted()}
    answer = await client.post("/send", content=json.dumps(order), headers={"content-type": kind})
    assert answer.status_code == 202


SIZES = [("/send", 512 * 1024), ("/send/batch", 8 * 1024 * 1024), ("/accounts", 64 * 1024)]


@pytest.mark.parametrize(("path", "cap"), SIZES)
async def test_a_body_over_its_size_is_413_before_it_is_read_whole(
    client: httpx2.AsyncClient, path: str, cap: int
) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += cap // 10
            yield b" " * (cap // 10)

    announced = await client.post(path, content=b" " * (cap + 1), headers=JSON_TYPE)
    chunked = await client.post(path, content=chunks(), headers=JSON_TYPE)
    within = await client.post(path, content=b" " * cap, headers=JSON_TYPE)
    for answer in (announced, chunked):
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert f"{cap:,} bytes" in answer.json()["detail"]
    assert sent <= cap + cap // 5
    assert within.status_code == 400


async def test_a_megabyte_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/send", json=GOOD | {"message": "x" * 1_000_000})
    assert answer.status_code == 413


PARAMETERS = [
    ("GET", "/jobs?limit=0", "limit"),
    ("GET", "/jobs?limit=201", "limit"),
    ("GET", "/jobs?limit=many", "limit"),
    ("GET", "/jobs?cursor=abc", "cursor"),
    ("GET", "/jobs?cursor=MjAyNi0xMS0yMA==", "cursor"),
    ("GET", "/jobs?status=lost", "status"),
    ("GET", "/jobs?status=queued&status=sent", "status"),
    ("GET", "/jobs?since=yesterday", "since"),
    ("GET", "/jobs?colour=red", "colour"),
    ("GET", "/accounts?colour=red", "colour"),
    ("GET", "/jobs/x?colour=red", "colour"),
    ("POST", "/send?dry=1", "dry"),
    ("DELETE", "/jobs", "status"),
    ("DELETE", "/jobs?status=sent", "status"),
]


@pytest.mark.parametrize(("method", "target", "field"), PARAMETERS)
async def test_a_bad_parameter_is_named(client: httpx2.AsyncClient, method: str, target: str, field: str) -> None:
    answer = await client.request(method, target)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("target", ["/jobs/%00", "/jobs?account=%00", "/accounts/a%00b"])
async def test_nul_in_the_address_is_400(client: httpx2.AsyncClient, target: str) -> None:
    assert (await client.get(target)).status_code == 400


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(categories=["Cs", "Cc"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(["phone", "message", "account", "sendAt", "expiresAt", "priority", "metadata"]) | st.text()
BODIES = st.builds(lambda value: json.dumps(value).encode(), st.dictionaries(NAMES, VALUES, max_size=6)) | st.binary()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES)
async def test_nothing_that_is_sent_breaks_it(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post("/send", content=body, headers=JSON_TYPE)
    assert 400 <= answer.status_code < 500, (body, answer.text)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(NAMES, VALUES, max_size=3))
async def test_nothing_beside_a_good_order_breaks_it(client: httpx2.AsyncClient, fields: dict[str, Any]) -> None:
    order = {**GOOD, "idempotencyKey": accepted(), **fields}
    answer = await client.post("/send", content=json.dumps(order), headers=JSON_TYPE)
    assert answer.status_code < 500, (order, answer.text)
    if answer.status_code == 202:
        assert (await client.get(f"/jobs/{order['idempotencyKey']}")).status_code == 200
