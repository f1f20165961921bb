"""The fault bench itself: its records find what is wrong, its wires do what they say, and some runs of it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faults import mistakes
from faults.cluster import Cluster, open_cluster
from faults.kinds import KINDS, Missed, postmaster
from faults.load import Order, place
from faults.records import Records, Row, read_received
from faults.run import Plan, run
from faults.wire import Peer, Wire
from fixtures_postgres import open_folder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from test_rooms import FILES

import server

ORDER = Order("hello", "acc_1", "1555", "k1", 0.0, told="accepted", job="k1", told_at=1.0, answers=[202])
ROW = Row("job_1", "k1", "hello", "1555", "sent", None, None, 1, ["JobCompleted"])
EVENT: dict[str, Any] = {"id": "evt_1", "type": "JobCompleted", "data": {"jobId": "k1"}}


def records(**changes: Any) -> Records:
    whole: dict[str, Any] = {
        "orders": [ORDER], "rows": [ROW], "got": {"1555": ["hello"]}, "received": [EVENT], "shown": {"hello": "read"},
    }  # fmt: skip
    return Records(**(whole | changes))


def kinds(found: Records) -> set[str]:
    return {line.partition(":")[0] for line in found.wrong()}


def test_records_that_agree() -> None:
    assert records().wrong() == []
    assert records(received=[EVENT, EVENT]).wrong() == [], "at least once"
    failed = replace(ROW, state="failed", error="outcome_unknown", events=["JobFailed"])
    event = EVENT | {"type": "JobFailed"}
    for got in ({}, {"1555": ["hello"]}):
        assert records(rows=[failed], received=[event], got=got, shown={}).wrong() == []


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"rows": [], "got": {}, "received": []}, {"LOST"}),
        ({"rows": []}, {"LOST", "LIED"}),
        ({"orders": [replace(ORDER, told="refused", answers=[422])]}, {"LIED"}),
        ({"rows": [ROW, replace(ROW, id="job_2")]}, {"DOUBLED"}),
        ({"orders": [replace(ORDER, cancelled=True)]}, {"LIED"}),
        ({"got": {}}, {"LOST"}),
        ({"got": {"1555": ["hello", "hello"]}}, {"DOUBLED"}),
        ({"got": {"1555": ["hello", "what?"]}}, {"LIED"}),
        ({"rows": [replace(ROW, state="submitting")]}, {"STUCK", "LIED", "EVENT"}),
        ({"rows": [replace(ROW, state="cancelled", events=["JobCancelled"])]}, {"LIED", "EVENT"}),
        ({"rows": [replace(ROW, state="failed", error="expired", events=["JobFailed"])]}, {"LIED", "EVENT"}),
        ({"rows": [replace(ROW, events=[])]}, {"EVENT"}),
        ({"rows": [replace(ROW, events=["JobCompleted", "JobFailed"])]}, {"EVENT"}),
        ({"received": []}, {"EVENT"}),
        ({"received": [EVENT, EVENT | {"id": "evt_2"}]}, {"EVENT"}),
        ({"received": [EVENT, EVENT | {"data": {"jobId": "k1", "sequence": 2}}]}, {"EVENT"}),
        ({"received": [EVENT, {"refused": "no signature fits"}]}, {"EVENT"}),
        ({"shown": {"hello": "failed"}}, {"LIED"}),
    ],
)
def test_records_that_do_not_agree(changes: dict[str, Any], wrong: set[str]) -> None:
    assert kinds(records(**changes)) == wrong


@pytest.mark.parametrize(
    ("order", "rows", "wrong"),
    [
        ({}, [ROW], []),
        ({}, [], ["LOST"]),
        ({}, [ROW, replace(ROW, id="job_2")], ["DOUBLED"]),
        ({}, [ROW, replace(ROW, text="other")], ["LIED"]),
        ({"job": "k2"}, [ROW], ["LIED"]),
        ({"told": "refused", "answers": [404]}, [], ["LIED"]),
        ({"told": "unknown", "answers": [0, 503]}, [ROW], ["STUCK"]),
    ],
)
def test_what_the_crowd_was_told(order: dict[str, Any], rows: list[Row], wrong: list[str]) -> None:
    found = Records([replace(ORDER, **order)], rows, {}, []).crowd_wrong()
    assert [line.partition(":")[0] for line in found] == wrong


def test_messages_that_swapped_places() -> None:
    later = replace(ORDER, text="later", key="k2", job="k2", asked_at=2.0, told_at=3.0)
    rows = [ROW, replace(ROW, id="job_2", key="k2", text="later")]
    events = [EVENT, {"id": "evt_2", "type": "JobCompleted", "data": {"jobId": "k2"}}]
    shown = {"hello": "read", "later": "sent"}
    for got, wrong in ((["hello", "later"], set()), (["later", "hello"], {"ORDER"})):
        both = records(orders=[ORDER, later], rows=rows, received=events, got={"1555": got}, shown=shown)
        assert kinds(both) == wrong
    at_once = records(
        orders=[ORDER, replace(later, asked_at=0.5)], rows=rows, received=events, got={"1555": ["later", "hello"]},
        shown=shown,
    )  # fmt: skip
    assert kinds(at_once) == set(), "asked for before the other one was answered"


def test_a_line_that_a_killed_receiver_left_half_written(tmp_path: Path) -> None:
    file = tmp_path / "received"
    file.write_text('\n{"id": "evt_0"}\n\n{"id": "ev\n{"id": "evt_1"}\n')
    assert read_received(file, len('\n{"id": "evt_0"}\n')) == [{"id": "evt_1"}]


@pytest.fixture
async def echo() -> AsyncIterator[Wire]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(100):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def connect() -> Peer:
        return await asyncio.open_connection("127.0.0.1", port)

    wire = Wire("echo", connect)
    await wire.start()
    yield wire
    await wire.stop()
    server.close()


async def test_a_wire_carries_loses_and_breaks(echo: Wire) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    echo.lose()
    writer.write(b"two")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(3), 0.3)
    echo.heal()
    assert await reader.readexactly(3) == b"two"
    echo.cut()
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (["database_busy", "database_full", None], "accepted"),
        (["database_unavailable", None], "unknown"),
        (["database_slow", None], "unknown"),
    ],
)
async def test_a_client_without_a_key_asks_again_only_when_nothing_was_accepted(
    codes: list[str | None], told: str
) -> None:
    left = list(codes)

    async def send(_: Request) -> Response:
        code = left.pop(0)
        return JSONResponse({"code": code} if code else {"jobId": "job_1"}, 503 if code else 202)

    app, order = Starlette(routes=[Route("/send", send, methods=["POST"])]), replace(ORDER, key=None, told="unknown")
    with server.listen() as listener:
        host, port = listener.getsockname()
        async with server.running(server.config(app, host, port), listener=listener):
            await place(f"http://{host}:{port}", "key", [order], 10)
    assert order.told == told
    assert left == ([] if told == "accepted" else [None])


def test_a_postgres_that_another_fault_has_stopped_is_missed(tmp_path: Path) -> None:
    with pytest.raises(Missed):
        postmaster(cast("Cluster", SimpleNamespace(disk=tmp_path)))


@pytest.mark.parametrize("name", mistakes.read())
def test_each_mistake_can_still_be_made(name: str, tmp_path: Path) -> None:
    mistakes.copy(tmp_path)
    for change in mistakes.read()[name].changes:
        change.make(tmp_path)
    changed = {change.path for change in mistakes.read()[name].changes}
    for path in changed:
        if path.endswith(".py"):
            compile((tmp_path / path).read_text(), path, "exec")


def test_a_mistake_is_put_where_a_function_was_written_last() -> None:
    files = sorted((mistakes.ROOT / "sql" / "migrations").glob("*.sql"))
    for change in (change for mistake in mistakes.read().values() for change in mistake.changes):
        file = mistakes.ROOT / change.path
        if file not in files:
            continue
        before = file.read_text().partition(change.right)[0]
        (name,) = re.findall(r"^create (?:or replace )?(function \w+)\(", before, re.MULTILINE)[-1:]
        later = [other.name for other in files if other > file and f"{name}(" in other.read_text()]
        assert later == [], f"{name} of {file.name}"


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_some_runs_lose_and_double_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with open_folder() as folder:
        async with open_cluster(folder, 2, dom="2026-08", harsh=False) as cluster:
            for seed in (1, 2):
                outcome = await run(cluster, seed, Plan(list(KINDS), jobs=10, over=8, crowd=64))
                with capsys.disabled():
                    print(f"\n{outcome}")  # noqa: T201  # what a person wants to see
                assert outcome.wrong == []
                assert sum(outcome.ends.values()) >= 5


def test_a_copy_with_a_mistake_has_every_room(tmp_path: Path) -> None:
    mistakes.copy(tmp_path)
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*.py")} >= {
        path.relative_to(mistakes.ROOT) for path in FILES
    }
