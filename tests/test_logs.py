"""Logs: what stands in each line, that docs/logs.md lists all events, a line a request, and nothing secret in any."""

import ast
import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fixtures_api import ADMIN_KEY, KEY, api, client_of, new_account, rows, running, settings
from fixtures_house import KEY as HOUSE_KEY
from fixtures_house import house
from fixtures_lanes import add_lanes
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import logs
from api.http import request_log
from api.sending.jobs import Job
from commands.worker import health_app
from sql.database import Database
from tasks.lanes import Drain, Lanes
from wiring.worker import make_worker

ROOT = Path(__file__).parent.parent
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
#: All code but the tests and the examples of the documents.
FILES = [
    path
    for folder in (ROOT, *(path.parent for path in ROOT.glob("*/__init__.py")))
    for path in sorted(folder.glob("*.py") if folder == ROOT else folder.rglob("*.py"))
]
AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

Line = dict[str, Any]


# --- lines -------------------------------------------------------------------------------------------------------


def said(code: str) -> str:
    """Return what a program says on standard error."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stderr


def test_a_line_has_milliseconds_utc_what_is_bound_and_its_event() -> None:
    code = """
import logging, logs
logs.configure("info")
log = logging.getLogger("x")
with logs.bind(request_id="req_1", job="bound"):
    logs.bind_more(org="org_1")
    log.info("hello %s", "you", extra={"event": "job.sent", "job": "said"})
log.debug("not told")
log.warning("bare")
logging.getLogger("uvicorn.error").info("not told")
"""
    first, second = (json.loads(line) for line in said(code).splitlines())
    assert AT.fullmatch(first.pop("at"))
    assert first == {
        "level": "INFO", "logger": "x", "message": "hello you", "event": "job.sent", "job": "said",
        "request_id": "req_1", "org": "org_1",
    }  # fmt: skip
    assert second.keys() == {"at", "level", "logger", "message"}


def test_a_plain_line_has_milliseconds_too() -> None:
    code = "import logging, logs; logs.configure('info', plain=True); logging.getLogger('x').warning('careful')"
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} WARNING careful\n", said(code))


@pytest.mark.parametrize(("level", "plain", "told"), [("info", True, 0), ("debug", True, 1), ("info", False, 1)])
def test_whoever_watches_is_told_of_requests_for_debugging_only(level: str, plain: bool, told: int) -> None:
    code = f"import logging, logs; logs.configure({level!r}, plain={plain}); logging.getLogger({logs.REQUESTS!r})"
    assert said(f"{code}.info('GET /jobs: 200')").count("GET /jobs: 200") == told


# --- events ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A call that logs."""

    place: str
    level: str
    event: str | None
    fields: frozenset[str]


def calls() -> Iterator[Call]:
    """Yield every call in the code that logs."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (level := _level(node)):
                yield Call(f"{path.relative_to(ROOT)}:{node.lineno}", level, *_extra(node))


def _level(node: ast.Call) -> str | None:
    match node.func:
        case ast.Attribute(value=ast.Name(id="log" | "LOG" | "logging"), attr=name) if name in LEVELS:
            return LEVELS[name]
        case ast.Attribute(value=ast.Name(id="log" | "LOG"), attr="log"):
            return "info, debug"
    return None


def _extra(node: ast.Call) -> tuple[str | None, frozenset[str]]:
    for keyword in node.keywords:
        if keyword.arg == "extra":
            assert isinstance(keyword.value, ast.Dict), ast.unparse(node)
            names = [ast.literal_eval(key) for key in keyword.value.keys if key]
            event = keyword.value.values[names.index("event")]
            return ast.literal_eval(event), frozenset(names) - {"event"}
    return None, frozenset()


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """Return each event of docs/logs.md with its levels and fields."""
    table = re.findall(
        r"^\| `([a-z_.]+)` \| ([a-z, ]+) \|(.*?)\| .+ \|$", (ROOT / "docs" / "logs.md").read_text(), re.MULTILINE
    )
    assert len(table) == len({event for event, *_ in table}), "an event stands twice"
    return {event: (set(level.split(", ")), set(re.findall(r"`(\w+)`", fields))) for event, level, fields in table}


def test_every_line_but_those_of_debugging_names_its_event() -> None:
    assert [call.place for call in calls() if call.level != "debug" and not call.event] == []


def test_the_events_of_the_code_and_of_the_documents_are_the_same() -> None:
    used: dict[str, tuple[set[str], set[str]]] = {}
    for call in calls():
        if call.event:
            levels, fields = used.setdefault(call.event, (set(), set()))
            levels |= set(call.level.split(", "))
            fields |= call.fields
    assert documented() == used


def test_every_logger_is_found_by_its_name() -> None:
    """The walk above sees calls of `log` and `LOG` alone."""
    for path in FILES:
        for name in re.findall(r"^(\w+) = logging\.getLogger\(__name__\)", path.read_text(), re.MULTILINE):
            assert name in {"log", "LOG"}, path


# --- requests ----------------------------------------------------------------------------------------------------


@contextmanager
def lines() -> Iterator[list[Line]]:
    """Collect the lines that are logged within the block, down to those of debugging, as they are written."""
    stream, found = io.StringIO(), list[Line]()
    writer, root = logs.handler(stream), logging.getLogger()
    before = {name: logging.getLogger(name).level for name in ("", *logs.QUIET)}
    root.addHandler(writer)
    root.setLevel(logging.DEBUG)
    for name in logs.QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield found
    finally:
        root.removeHandler(writer)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        found += [json.loads(line) for line in stream.getvalue().splitlines()]


def requests(found: list[Line]) -> list[Line]:
    return [line for line in found if line.get("event") == "request"]


async def test_a_request_is_one_line_with_its_route_and_who_called(database_url: str) -> None:
    async with api(database_url) as client:
        account = await new_account(client)
        with lines() as found:
            order = {"account": account, "phone": "15551234567", "message": "secret words", "idempotencyKey": "k-42"}
            answer = await client.post("/send?", json=order, headers={"x-request-id": "trace-1"})
            await client.get("/jobs/k-42")
            await client.get("/opt-outs?phone=15551234567")
            await client.delete("/opt-outs/15551234567")
            await client.get("/jobs", headers={"x-api-key": "wrong"})
            await client.post("/admin/pause", headers={"x-admin-key": ADMIN_KEY})
            await client.get("/15551234567")
            await client.request("SECRETWORDS", "/jobs")
    assert answer.status_code == 202
    got = requests(found)
    assert [(line["method"], line["route"], line["status"]) for line in got] == [
        ("POST", "/send", 202),
        ("GET", "/jobs/{jobId}", 200),
        ("GET", "/opt-outs", 200),
        ("DELETE", "/opt-outs/{phone}", 404),
        ("GET", "/jobs", 401),
        ("POST", "/admin/pause", 200),
        ("GET", "unknown", 404),
        ("unknown", "/jobs", 405),
    ]
    assert got[0] | {"at": 0, "ms": 0} == {
        "at": 0, "level": "INFO", "logger": request_log.__name__, "message": got[0]["message"], "event": "request",
        "method": "POST", "route": "/send", "status": 202, "ms": 0, "request_id": "trace-1",
        "key_id": "key_bootstrap", "org": "org_default",
    }  # fmt: skip
    assert isinstance(got[0]["ms"], float)
    assert got[0]["message"].startswith("POST /send: 202 in ")
    assert "key_id" not in got[4]
    assert got[5]["key_id"] == "admin"
    assert not hidden(found, "15551234567", "secret", "SECRET", "k-42", KEY, ADMIN_KEY)


def hidden(found: list[Line], *secrets: str) -> list[str]:
    """Return the lines that have one of these."""
    return [text for line in found if any(secret in (text := json.dumps(line)) for secret in secrets)]


async def test_what_watches_is_logged_for_debugging_only(database_url: str) -> None:
    async def inner(_: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    mount = Mount("/sandbox", routes=[Route("/secret/{name}", inner)])
    async with running(database_url, [mount]) as app, client_of(app) as client:
        with lines() as found:
            for path in ("/healthz", "/readyz", "/metrics", "/qr/static/qr.css", "/sandbox/secret/15551234567"):
                assert (await client.get(path)).status_code == 200
    got = requests(found)
    assert {line["level"] for line in got} == {"DEBUG"}
    assert [line["route"] for line in got] == ["/healthz", "/readyz", "/metrics", "/qr/static", "/sandbox"]


async def test_the_health_of_a_worker_is_logged_like_that(database_url: str, tmp_path: Path) -> None:
    values = settings(data_dir=tmp_path, database_url=database_url)
    worker = make_worker(values, database_url, "home_1")
    async with client_of(health_app(worker, values)) as client:
        with lines() as found:
            await client.get("/healthz")
            await client.get("/15551234567")
    assert [(line["route"], line["level"]) for line in requests(found)] == [("/healthz", "DEBUG"), ("unknown", "INFO")]


async def test_a_failed_request_is_logged_under_its_id(database_url: str) -> None:
    async def broken(_: Request) -> PlainTextResponse:
        raise RuntimeError

    async with running(database_url, [Route("/broken", broken)]) as app, client_of(app) as client:
        with lines() as found:
            await client.get("/broken", headers={"x-request-id": "trace-7"})
    told = [(line["event"], line["request_id"]) for line in found if "event" in line]
    assert told == [("request.failed", "trace-7"), ("request", "trace-7")]
    assert requests(found)[0]["status"] == 500


async def test_what_a_request_is_known_by_ends_with_it(database_url: str) -> None:
    async with api(database_url) as client:
        with lines() as found:
            await client.get("/accounts")
            logging.getLogger("x").info("after")
            await client.get("/healthz")
    assert "key_id" not in found[-2]
    assert "key_id" not in found[-1]


# --- nothing secret ----------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.long
async def test_no_line_of_a_message_that_is_sent_answered_and_told_of_has_number_text_or_key(
    database_url: str, tmp_path: Path
) -> None:
    """Everything at DEBUG, ours and the libraries': a message that goes out, one that fails, an answer, a STOP."""
    phone, absent, text, key = "15551234567", "15550000404", "wholly secret words", "order-15551234567"
    with lines() as found:
        async with house(tmp_path, database_url) as it:
            account = await it.link()
            await it.send(account, phone, text, idempotencyKey=key)
            assert (await it.ended(key))["sentAt"]
            assert (await it.ended(await it.send(account, absent, text)))["status"] == "failed"
            await it.event(key)
            for words in ("my own secret words", "STOP"):
                await it.client.post(f"/sandbox/accounts/{account}/incoming", {"phone": phone, "text": words})
            async with asyncio.timeout(30):
                while not (await it.client.get("/opt-outs"))["items"]:
                    await asyncio.sleep(0.1)
            given = (it.settings.webhook_secret, it.settings.encryption_key, it.settings.admin_key)
            secrets = [HOUSE_KEY, *(secret.get_secret_value() for secret in given if secret)]
    events = {line["event"] for line in found if "event" in line}
    assert events >= {
        "worker.started", "account.qr", "account.scanned", "account.state", "job.sent", "job.not_sent", "job.failed",
        "delivery.attempt", "messages.received", "opt_out.added", "request", "worker.stopped",
    }  # fmt: skip
    sent = [line for line in found if line.get("event") == "job.sent"]
    assert [(line["account"], line["attempts"]) for line in sent] == [(account, 1)]
    assert sent[0]["job"].startswith("job_")
    assert not hidden(found, phone, absent, "secret words", key, "STOP", *secrets)


async def test_what_postgres_says_of_a_row_is_not_repeated(database: Database) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation) as caught:
        await rows(
            database,
            "insert into opt_outs (id, org_id, reason) values ('opt_1', 'org_default', 'secret') returning id",
        )
    assert "phone" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nor_is_what_does_not_fit_a_model() -> None:
    with pytest.raises(ValidationError) as caught:
        Job.model_validate({"message": 15551234567})
    assert "1555" not in str(caught.value)


async def test_a_worker_s_lines_about_a_lane_have_its_org(database: Database) -> None:
    class Talking:
        async def begin(self, drain: Drain) -> bool:
            logging.getLogger("tests").info("at work on %s", drain.lane)
            return False

        async def one(self, drain: Drain) -> bool:
            raise AssertionError(drain)

    await add_lanes(database, "acc_1")
    with lines() as found:
        await Lanes(database, "wrk_1", {"account": Talking()}).drain("acc_1", 1)
    (line,) = [each for each in found if each["message"] == "at work on acc_1"]
    assert (line["org"], line["lane"], line["worker"]) == ("org_default", "acc_1", "wrk_1")
