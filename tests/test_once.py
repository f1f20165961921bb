"""A message arrives once and is told so: whatever it holds, whatever the page is like, and whoever writes meanwhile."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator

import pytest
from fixtures_browser import until
from fixtures_house import House, house
from fixtures_lanes import until as lanes_until
from fixtures_postgres import own_database

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
MESSAGES = 6
LINES = "\n".join(f"{number:04d} article" for number in range(5000))


@pytest.fixture(scope="module")
async def running(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("once")
    with own_database(postgres) as url:
        async with house(folder, url, send_backoff_seconds=0.2, confirm_seconds=10, breaker_failures=5) as it:
            yield it


@pytest.fixture(params=[KINDS[0]])
async def account(running: House, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An account for one test; its browser is closed afterwards."""
    linked = await running.link(kind=request.param)
    yield linked
    await running.client.post(f"/accounts/{linked}/disconnect")


def as_it_arrives(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


@pytest.mark.parametrize("account", KINDS, indirect=True)
async def test_what_was_reported_arrives_once(running: House, account: str) -> None:
    phone = "15557770011"
    jobs = {name: await running.send(account, phone, text) for name, text in REPORTED.items()}
    for name, job in jobs.items():
        ended = await running.ended(job, 90)
        assert ended["sentAt"], (name, ended)
    assert await running.received(phone, account) == [as_it_arrives(text) for text in REPORTED.values()]
    assert (await running.client.get(f"/accounts/{account}"))["state"] == "ready"


@pytest.mark.parametrize(("account", "turn"), [(kind, turn) for turn, kind in enumerate(KINDS)], indirect=["account"])
async def test_what_was_reported_arrives_once_although_the_page_crashes(
    running: House, account: str, turn: int
) -> None:
    """Each text on one kind of page: how it is drawn on each is another test's."""
    phone = "15557770012"
    await running.ended(await running.send(account, phone, "hello"))
    texts = dict(list(REPORTED.items())[turn :: len(KINDS)])
    for place, (name, text) in enumerate(texts.items()):
        step = ("drawn", "stored", "accepted", "ticked")[place % 4]
        await running.client.post(f"/sandbox/accounts/{account}/crash", {"at": step})
        ended = await running.ended(await running.send(account, phone, text), 90)
        assert ended["sentAt"], (name, step, ended)
    assert await running.received(phone, account) == ["hello", *(as_it_arrives(text) for text in texts.values())]


@pytest.mark.parametrize("account", KINDS, indirect=True)
async def test_five_thousand_lines_are_pasted(running: House, account: str) -> None:
    ended = await running.ended(await running.send(account, "15557770013", LINES), 150)
    assert (ended["attempts"], bool(ended["sentAt"])) == (1, True), ended
    assert await running.received("15557770013", account) == [LINES]


@pytest.mark.parametrize(
    ("account", "order"), [*((kind, (0, 1)) for kind in KINDS), (KINDS[0], (1, 0))], indirect=["account"]
)
async def test_a_landline_and_a_mobile_in_one_batch(running: House, account: str, order: tuple[int, int]) -> None:
    phones = [("551132782153", "5511932782153")[place] for place in order]
    messages = [{"account": account, "phone": phone, "message": f"for {phone}"} for phone in phones]
    answer = await running.client.post("/send/batch", {"jobs": messages})
    for item in answer["items"]:
        assert (await running.ended(item["jobId"]))["sentAt"], item
    for phone in phones:
        assert await running.received(phone, account) == [f"for {phone}"]
    await running.client.post(f"/sandbox/accounts/{account}/incoming", {"phone": phones[0], "text": "STOP"})

    async def listed() -> list[dict[str, str]]:
        items: list[dict[str, str]] = (await running.client.get("/opt-outs"))["items"]
        return items

    (stopped,) = await until(listed, 60)
    try:
        assert stopped["phone"] == phones[0]
        assert (await running.ended(await running.send(account, phones[1], "another")))["sentAt"]
        refused = await running.ended(await running.send(account, phones[0], "another"))
        assert refused["error"]["code"] == "recipient_opted_out"
    finally:
        await running.client._http.delete(f"/opt-outs/{stopped['phone']}")


@pytest.mark.parametrize("account", KINDS, indirect=True)
async def test_a_person_who_writes_at_any_step_doubles_nothing(running: House, account: str) -> None:
    """On the phone, into the same chat, and so does an away message that answers."""
    phone = "15557770014"
    await running.ended(await running.send(account, phone, "hello"))
    writing = asyncio.create_task(_write_on(running, account, phone))
    try:
        jobs = [await running.send(account, phone, f"message {number}") for number in range(MESSAGES)]
        ended = [await running.ended(job) for job in jobs]
    finally:
        writing.cancel()
    assert all(job["sentAt"] for job in ended), ended
    received = [text for text in await running.received(phone, account) if text.startswith("message")]
    assert sorted(received) == sorted(f"message {number}" for number in range(MESSAGES))


async def _write_on(running: House, account: str, phone: str) -> None:
    number = 0
    while True:
        number += 1
        act, text = ("write", f"by hand {number}") if number % 2 else ("incoming", f"an answer {number}")
        await running.client.post(f"/sandbox/accounts/{account}/{act}", {"phone": phone, "text": text})
        await asyncio.sleep(0.3)


async def test_a_page_that_loads_itself_anew_right_after_enter_is_asked_again(
    running: House, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = "15557770015"
    assert (await running.ended(await running.send(account, phone, "hello")))["sentAt"]
    assert running.worker
    page = running.seats.sessions[account].page
    press = page.press_enter

    async def pressed() -> None:
        await press()
        await page._page.evaluate("setTimeout(() => location.reload())")

    monkeypatch.setattr(page, "press_enter", pressed)
    assert (await running.ended(await running.send(account, phone, "the page goes")))["sentAt"]
    assert await running.received(phone, account) == ["hello", "the page goes"]


async def test_a_message_at_the_clock_is_waited_for_while_the_network_is_away(running: House, account: str) -> None:
    phone = "15550000409"
    job = await running.send(account, phone, "hello")
    # Before that, Enter may not have been pressed yet.
    await lanes_until(running.database, "select bubble is not null from jobs where id = %s", wanted=True, values=[job])
    await running.client.post(f"/sandbox/accounts/{account}/show", {"screen": "offline"})
    await lanes_until(running.database, "select gate_reason from lanes where id = %s", "offline", values=[account])
    assert (await running.client.get(f"/jobs/{job}"))["status"] == "submitting"
    await running.client.post(f"/sandbox/accounts/{account}/show", {"screen": None})
    await running.client.post(f"/sandbox/accounts/{account}/release")
    assert (await running.ended(job))["sentAt"]
    assert await running.received(phone, account) == ["hello"]
