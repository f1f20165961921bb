"""WhatsApp changes its page: each element is lost in turn while messages wait, and comes back with other selectors."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_browser import until
from fixtures_house import House, house
from fixtures_lanes import until as lanes_until
from fixtures_postgres import own_database
from prometheus_client import generate_latest

from browser.page import selectors
from commands.demo_timing import PATIENCE
from tasks.metrics import WORKER
from wiring import sessions

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

SHIPPED = Path(selectors.__file__).with_name("selectors.toml").read_text("utf-8")
MESSAGES = 3  # to somebody, to somebody else, and back
WAITING = 10  # messages that wait while a needed element is lost
PHONES = [f"1555888{number:04}" for number in range(2)]
HELD = "15550000409"  # what is sent there stays at the clock until the sandbox is told
#: Those without which a message cannot be sent for sure; without any other they go out as ever.
NEEDED = {"pane", "search", "compose", "bubble", "panel"}
OPEN = {"queued", "sending", "submitting"}


def without(element: str) -> str:
    """Return selectors that find nothing for an element."""
    lost = f'[elements.{element}]\ntry = [{{ css = "#lost", seen = "never" }}]\n'
    return re.sub(rf"(?ms)^\[elements\.{element}\].*?^(?:try = \[\{{.*?\}}\]|\])\n", lost, SHIPPED)


def only_the_rest() -> str:
    """Return selectors whose first alternative for each element finds nothing, where there is another."""
    return re.sub(r"(?m)^(try = \[\n\s+\{ css = )(?:'[^']*'|\"(?:[^\"\\]|\\.)*\")", r'\1"#lost"', SHIPPED)


@pytest.fixture(scope="module")
async def running(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[House, Path]]:
    folder = tmp_path_factory.mktemp("lost")
    file = folder / "selectors.toml"
    file.write_text(SHIPPED)
    with own_database(postgres) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "POLL_SECONDS", 0.2)
        async with house(folder, url, selectors_file=file, confirm_seconds=12, send_backoff_seconds=0.2) as it:
            assert it.worker
            it.seats.patience = replace(PATIENCE, chat=8.0, boot=20.0)
            yield it, file


@pytest.fixture(scope="module")
async def untouched(running: tuple[House, Path]) -> str:
    """An account that nothing stops."""
    return await running[0].link(kind="2026-08")


async def use(it: House, file: Path, text: str) -> None:
    """Have the worker read the page by these selectors."""
    await asyncio.to_thread(file.write_text, text)
    wanted = selectors.parse(text)

    async def used() -> bool:
        return bool(it.worker and it.seats.selectors == wanted)

    await until(used)


def test_each_element_can_be_lost() -> None:
    for element in selectors.ELEMENTS:
        assert selectors.parse(without(element)).elements[element] == ["#lost"]
    rest = selectors.parse(only_the_rest()).elements
    assert sum(tries[0] == "#lost" for tries in rest.values()) > len(rest) / 2


async def send_some(it: House, account: str, element: str, count: int = MESSAGES) -> list[str]:
    return [await it.send(account, PHONES[number % 2], f"{element} {number}") for number in range(count)]


async def arrive_once(it: House, element: str, jobs: list[str]) -> None:
    ended = [await it.ended(job) for job in jobs]
    failed = [(job["error"], job["timeline"]) for job in ended if not job["sentAt"]]
    assert not failed, failed
    received = [text for phone in PHONES for text in await it.received(phone) if text.startswith(f"{element} ")]
    assert sorted(received) == sorted(f"{element} {number}" for number in range(len(jobs)))


@pytest.mark.parametrize("element", sorted(NEEDED))
async def test_an_element_that_is_needed_costs_one_message_at_most(running: tuple[House, Path], element: str) -> None:
    it, file = running
    account = await it.link(kind="2026-08")
    assert (await it.ended(await it.send(account, PHONES[0], f"before {element} goes")))["sentAt"]
    await use(it, file, without(element))
    try:
        jobs = await send_some(it, account, element, WAITING)
        shown = await it.client.wait(f"/accounts/{account}", "state", {"disconnected"}, 120)
        assert shown["stateReason"].endswith(f"It lacks {element}.") or element == "pane", shown
        kept = {piece.stem for piece in (it.settings.data_dir / "evidence" / account).glob("*.png")}
        assert any(name.endswith(f"-ui_changed-{element}") for name in kept) or element == "pane", kept
        statuses = [(await it.client.get(f"/jobs/{job}"))["status"] for job in jobs]
        assert sum(status not in {"queued", "sent", "delivered", "read"} for status in statuses) <= 1, statuses
        assert sum(status == "queued" for status in statuses) >= WAITING - 1, "it stops at once"
    finally:
        await use(it, file, SHIPPED)
    await arrive_once(it, element, jobs)
    await it.client.post(f"/accounts/{account}/logout")


@pytest.mark.parametrize("element", sorted(selectors.ELEMENTS - NEEDED - {"text"}))
async def test_without_any_other_element_messages_go_out_as_ever(
    running: tuple[House, Path], untouched: str, element: str
) -> None:
    it, file = running
    await use(it, file, without(element))
    try:
        await arrive_once(it, element, await send_some(it, untouched, element))
    finally:
        await use(it, file, SHIPPED)


async def test_without_texts_messages_go_out_that_are_seen_at_the_clock(
    running: tuple[House, Path], untouched: str
) -> None:
    it, file = running
    await use(it, file, without("text"))
    try:
        for number in range(MESSAGES):
            job = await it.send(untouched, HELD, f"text {number}")
            await lanes_until(it.database, "select bubble is not null from jobs where id = %s", True, values=[job])  # noqa: FBT003
            await it.client.post(f"/sandbox/accounts/{untouched}/release")
            ended = await it.ended(job)
            assert ended["sentAt"], (ended["error"], ended["timeline"])
        assert await it.received(HELD) == [f"text {number}" for number in range(MESSAGES)]
    finally:
        await use(it, file, SHIPPED)


async def test_with_the_first_alternative_lost_nothing_stops(running: tuple[House, Path]) -> None:
    it, file = running
    account = await it.link(kind="2026-08")
    await use(it, file, only_the_rest())
    try:
        for number in range(3):
            ended = await it.ended(await it.send(account, "15558890001", f"message {number}"))
            assert ended["sentAt"], ended["error"]
        assert 'postrider_selector_alternative{element="compose"} 2.0' in generate_latest(WORKER).decode()
    finally:
        await use(it, file, SHIPPED)
    assert (await it.client.get(f"/accounts/{account}"))["state"] == "ready"


async def test_rows_of_unknown_kinds_stop_nothing(running: tuple[House, Path]) -> None:
    it, _ = running
    account, phone = await it.link(kind="2026-08"), "15558890002"
    kinds = ("deleted", "call", "event", "poll", "notice")
    for number, kind in enumerate(kinds):
        await it.client.post(
            f"/sandbox/accounts/{account}/incoming", {"phone": phone, "text": f"odd {number}", "kind": kind}
        )
        assert (await it.ended(await it.send(account, phone, f"message {number}")))["sentAt"]
    assert await it.received(phone) == [f"message {number}" for number in range(len(kinds))]
