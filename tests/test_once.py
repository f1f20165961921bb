"""A message arrives once and is told so: whatever it holds, whatever the page is like, and whoever writes meanwhile."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fixtures_browser import until
from fixtures_house import House, house
from fixtures_lanes import until as lanes_until

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

#: what users of other gateways have lost or doubled
REPORTED = {
    "number in bold": "*1. Your order* is ready",
    "numbered heading": "*2. Pagamento*\nPix",
    "number in a list": "- 24. Dezember: geschlossen\n- 25. Dezember: geschlossen",
    "date": "10. 5. 2026",
    "count": "3. 2. 1. Go!",
    "nested list": "1. Item\n   - sub\n2. Item",
    "line ends": "Pedido 42\r\n-\r\nTotal: 10",
    "old line ends": "Items:\r- one\r- two",
    "padded menu": "📋 *Menu*" + "\u200e" * 850 + "\n1) Pizza",
    "padded": "Pedido 42" + " " * 900 + "obrigado",
    "rule": "_" * 400 + "\n" + "*" * 400 + "\nTotal 10",
    "korean": "a" + unicodedata.normalize("NFD", "안녕하세요 고객님 주문하신 상품이 발송되었습니다. " * 30),
    "faces": "well done :) <3",
    "suggestions": "write to us @support or :smile",
    "link": "track it at https://example.org/t/1?x=1",
    "white space": "  outer  \n inner  ",
}
KINDS = ["2026-08", "legacy-harsh", "bare-harsh"]
LINES = "\n".join(f"{number:04d} article" for number in range(5000))


@pytest.fixture
async def running(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, database_url, send_backoff_seconds=0.2, confirm_seconds=10, breaker_failures=5) as it:
        yield it


def as_it_arrives(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_reported_arrives_once(running: House, kind: str) -> None:
    account = await running.link(kind=kind)
    phone = "15557770011"
    for name, text in REPORTED.items():
        ended = await running.ended(await running.send(account, phone, text), 90)
        assert ended["sentAt"], (name, ended)
    assert await running.received(phone) == [as_it_arrives(text) for text in REPORTED.values()]
    assert (await running.client.get(f"/accounts/{account}"))["state"] == "ready"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_reported_arrives_once_although_the_page_crashes(running: House, kind: str) -> None:
    """Each text on one kind of page: how it is drawn on each is another test's."""
    account = await running.link(kind=kind)
    phone = "15557770012"
    await running.ended(await running.send(account, phone, "hello"))
    texts = dict(list(REPORTED.items())[KINDS.index(kind) :: len(KINDS)])
    for place, (name, text) in enumerate(texts.items()):
        step = ("drawn", "stored", "accepted", "ticked")[place % 4]
        await running.client.post(f"/sandbox/accounts/{account}/crash", {"at": step})
        ended = await running.ended(await running.send(account, phone, text), 90)
        assert ended["sentAt"], (name, step, ended)
    assert await running.received(phone) == ["hello", *(as_it_arrives(text) for text in texts.values())]


@pytest.mark.parametrize("kind", KINDS)
async def test_five_thousand_lines_are_pasted(running: House, kind: str) -> None:
    account = await running.link(kind=kind)
    ended = await running.ended(await running.send(account, "15557770013", LINES), 150)
    assert (ended["attempts"], bool(ended["sentAt"])) == (1, True), ended
    assert await running.received("15557770013") == [LINES]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_a_landline_and_a_mobile_in_one_batch(running: House, kind: str, order: tuple[int, int]) -> None:
    account = await running.link(kind=kind)
    phones = [("551132782153", "5511932782153")[place] for place in order]
    messages = [{"account": account, "phone": phone, "message": f"for {phone}"} for phone in phones]
    answer = await running.client.post("/send/batch", {"jobs": messages})
    for item in answer["items"]:
        assert (await running.ended(item["jobId"]))["sentAt"], item
    for phone in phones:
        assert await running.received(phone) == [f"for {phone}"]
    await running.client.post(f"/sandbox/accounts/{account}/incoming", {"phone": phones[0], "text": "STOP"})

    async def listed() -> list[dict[str, str]]:
        items: list[dict[str, str]] = (await running.client.get("/opt-outs"))["items"]
        return items

    (stopped,) = await until(listed, 60)
    assert stopped["phone"] == phones[0]
    assert (await running.ended(await running.send(account, phones[1], "another")))["sentAt"]
    refused = await running.ended(await running.send(account, phones[0], "another"))
    assert refused["error"]["code"] == "recipient_opted_out"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_person_who_writes_at_any_step_doubles_nothing(running: House, kind: str) -> None:
    """On the phone, into the same chat, and so does an away message that answers."""
    account = await running.link(kind=kind)
    phone = "15557770014"
    await running.ended(await running.send(account, phone, "hello"))
    writing = asyncio.create_task(_write_on(running, account, phone))
    try:
        jobs = [await running.send(account, phone, f"message {number}") for number in range(10)]
        ended = [await running.ended(job) for job in jobs]
    finally:
        writing.cancel()
    assert all(job["sentAt"] for job in ended), ended
    received = [text for text in await running.received(phone) if text.startswith("message")]
    assert sorted(received) == sorted(f"message {number}" for number in range(10))


async def _write_on(running: House, account: str, phone: str) -> None:
    number = 0
    while True:
        number += 1
        act, text = ("write", f"by hand {number}") if number % 2 else ("incoming", f"an answer {number}")
        await running.client.post(f"/sandbox/accounts/{account}/{act}", {"phone": phone, "text": text})
        await asyncio.sleep(0.3)


async def test_a_page_that_loads_itself_anew_right_after_enter_is_asked_again(
    running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, phone = await running.link(), "15557770015"
    assert (await running.ended(await running.send(account, phone, "hello")))["sentAt"]
    assert running.worker
    page = running.seats.sessions[account].page
    press = page.press_enter

    async def pressed() -> None:
        await press()
        await page._page.evaluate("setTimeout(() => location.reload())")

    monkeypatch.setattr(page, "press_enter", pressed)
    assert (await running.ended(await running.send(account, phone, "the page goes")))["sentAt"]
    assert await running.received(phone) == ["hello", "the page goes"]


async def test_a_message_at_the_clock_is_waited_for_while_the_network_is_away(running: House) -> None:
    account, phone = await running.link(), "15550000409"
    job = await running.send(account, phone, "hello")
    await running.client.wait(f"/jobs/{job}", "status", {"submitting"}, 60)
    await running.client.post(f"/sandbox/accounts/{account}/show", {"screen": "offline"})
    await lanes_until(running.database, "select gate_reason from lanes where id = %s", "offline", values=[account])
    assert (await running.client.get(f"/jobs/{job}"))["status"] == "submitting"
    await running.client.post(f"/sandbox/accounts/{account}/show", {"screen": None})
    await running.client.post(f"/sandbox/accounts/{account}/release")
    assert (await running.ended(job))["sentAt"]
    assert await running.received(phone) == ["hello"]
