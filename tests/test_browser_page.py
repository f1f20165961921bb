"""The page suite: what a session does, on both generations of the page, with one linked browser each."""

import asyncio
import struct
from dataclasses import replace
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from fixtures_browser import (
    DOMS,
    GENERATIONS,
    PATIENCE,
    Pages,
    friend,
    last,
    linked,
    new_phone,
    page,
    pages,
    press,
    send,
    until,
)
from playwright.async_api import Route

import errors
from browser.engine.engine import look_for
from browser.page.bubbles import Tick
from browser.page.history import Reason, Verdict
from browser.page.screens import Screen
from browser.page.whatsapp import WhatsApp

__all__ = ["friend", "linked", "page", "pages"]

PLAIN = DOMS[-1]  # what is harsh changes how a message is written and found, in the same way on every generation


@pytest.fixture(scope="session", params=[*GENERATIONS, PLAIN])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


LONG = " ".join(f"Word {number} of a long message, with ünïcode and 🎉." for number in range(100))[:4000]
TEXTS = {
    "plain": "Hello, your parcel has come.",
    "lines": "first\nsecond\n\nfourth  with  spaces",
    "marks": "*bold* _italic_ ~struck~ `code`\n- one\n- two\n1. first",
    "emoji": "Party 🎉 for 👩\u200d👩\u200d👧 and 👍🏽 in 🇩🇪, heart ❤\ufe0f, key 1\ufe0f\u20e3",
    "only emoji": "🎉🎂",
    "hebrew": "שלום, הקוד שלך הוא 1234 (תודה)!",
    "arabic": "مرحبا \u2066order 42\u2069 شكرا",
    "url": "https://example.org/?a=1&b=%20#x + a@b.c",
}


async def test_the_account_is_in_and_its_number_is_read(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]
) -> None:
    assert page.alive
    assert await page.profile_phone() == (await pages.standing(linked[0]))["phone"]
    assert await page.screen() is Screen.MAIN


async def test_no_code_is_read_where_none_is_shown(page: WhatsApp) -> None:
    assert await page.qr() is None


async def test_every_kind_of_text_arrives_as_it_was_given(pages: Pages, page: WhatsApp) -> None:
    phone = new_phone()
    for text in TEXTS.values():
        await send(page, phone, text)
        assert await page._box.is_empty()
    assert await pages.received(phone) == list(TEXTS.values())


#: the box takes no such character that is typed, as when a dialog takes the focus for a moment
TAKES_NOT = """(lost) => document.addEventListener("beforeinput", (event) => {
    if (event.inputType !== "insertText" || event.data !== lost) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    window.lost = true;
}, true)"""


async def test_an_emoji_that_the_box_did_not_take_when_it_was_typed_arrives(pages: Pages, kind: str) -> None:
    """Nothing but the emoji is missing in what the box holds."""
    async with pages.linked(kind) as (account, page):
        await send(page, "15556660078", "a new chat loads the page anew")
        await page._page.evaluate(TAKES_NOT, "🎉")
        await send(page, "15556660078", "Party 🎉 for you")
        assert await page._page.evaluate("window.lost")
        assert (await pages.received("15556660078", account))[1:] == ["Party 🎉 for you"]


async def test_emoji_that_the_page_does_not_name_arrive(pages: Pages, kind: str) -> None:
    async def without_names(route: Route) -> None:
        script = await (await route.fetch()).text()
        changed = script.replace("alt: match[0], ", "").replace("image.dataset.plainText = match[0];", "")
        assert len(script) - len(changed) > 40
        await route.fulfill(body=changed.replace('("img")', '("span")'), content_type="text/javascript")

    async with pages.linked(kind) as (account, page):
        await page._page.route("**/emoji.js", without_names)
        await page._page.reload()
        await page.wait_screen(Screen.MAIN, timeout=30)
        await send(page, "15556660077", "Party 🎉 for you")
        # From the first of them on it is known; what is typed and lost would never be seen.
        await page._page.evaluate(TAKES_NOT, "🎂")
        for text in ("and 🎂", "hello"):
            await send(page, "15556660077", text)
        texts = ["Party 🎉 for you", "and 🎂", "hello"]
        assert await pages.received("15556660077", account) == texts


async def test_a_text_arrives_of_whose_emoji_the_page_names_some(pages: Pages, kind: str) -> None:
    """As when one is too new for it: that is a picture without a name, beside others that have one."""

    async def without_one(route: Route) -> None:
        script = await (await route.fetch()).text()
        changed = script.replace("alt: match[0], ", 'alt: match[0] === "🎂" ? "" : match[0], ')
        changed = changed.replace("dataset.plainText = match[0]", "dataset.plainText = image.alt")
        assert len(changed) > len(script)
        await route.fulfill(body=changed, content_type="text/javascript")

    async with pages.linked(kind) as (account, page):
        await page._page.route("**/emoji.js", without_one)
        await page._page.reload()
        await page.wait_screen(Screen.MAIN, timeout=30)
        for text in (texts := ["Party 🎉 and 🎂", "again 🎂 and 🎉"]):
            await send(page, "15556660079", text)
        assert await pages.received("15556660079", account) == texts


LANDLINE, MOBILE = "551132782153", "5511932782153"


async def test_a_landline_and_a_mobile_that_differ_by_a_nine_are_two_people(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]
) -> None:
    """In Brazil: each chat is open when the other one's message comes."""
    order = [LANDLINE, MOBILE, LANDLINE]
    for number, phone in enumerate(order):
        await send(page, phone, f"{number} for {phone}")
    for phone in (LANDLINE, MOBILE):
        assert await pages.received(phone, linked[0]) == [
            f"{number} for {each}" for number, each in enumerate(order) if each == phone
        ]
    ticks = await page.chat_ticks()
    assert {LANDLINE, MOBILE} <= set(ticks)


async def test_a_listed_chat_is_found_by_the_other_form_of_its_number(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]
) -> None:
    await send(page, "551187654321", "by its old form")
    await send(page, new_phone(), "another chat is open")
    await page._page.evaluate("window.stays = true; 0")
    await send(page, "5511987654321", "by the one that is dialled")
    assert await page._page.evaluate("window.stays"), "the page was not loaded anew for it"
    received = await pages.received("551187654321", linked[0])
    assert received == ["by its old form", "by the one that is dialled"]
    assert "5511987654321" in await page.chat_ticks()


#: contacts that every sandbox account has saved, with digits in their names
DIGITS = {
    "447700900036": "Marek 12345678",
    "447700900047": "Ravi 2024-2025",
}


async def test_contacts_with_digits_in_their_names_get_their_messages(pages: Pages, page: WhatsApp) -> None:
    account = (await page.own()).phone
    for phone, name in DIGITS.items():
        await send(page, phone, f"to {name} of {account}")
        assert f"to {name} of {account}" in await pages.received(phone)


async def test_a_contact_named_by_somebody_elses_number_gets_none_of_their_messages(
    pages: Pages, page: WhatsApp
) -> None:
    named = "447700900043"
    await send(page, named, "for Paulo")
    before = await pages.received(named)
    await send(page, "5521998765432", "for the number in his name")
    assert await pages.received(named) == before
    assert (await pages.received("5521998765432"))[-1] == "for the number in his name"


async def test_a_contact_saved_under_another_number_gets_none_of_its_messages(
    pages: Pages, page: WhatsApp, kind: str
) -> None:
    """Whose title is that number as a whole: the contact's panel or the page's address decides."""
    saved, named = "447700900060", "447700900123"
    before = await pages.received(saved)
    for text in ("to the number", "to the number again"):
        await send(page, named, text)
        await send(page, new_phone(), "another chat is open")
    assert await pages.received(saved) == before
    assert (await pages.received(named))[-2:] == ["to the number", "to the number again"]
    if kind.startswith("bare"):  # nothing that is known there tells whose chat it is
        with pytest.raises(errors.WrongChat):
            await page.open_chat(saved)
    else:
        await send(page, saved, "to the contact")
        assert (await pages.received(saved))[-1] == "to the contact"


async def test_a_number_whose_chat_was_proved_is_not_mistaken_for_a_contact_of_that_title(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]
) -> None:
    """Of two rows with one title, the one that was drawn last comes last."""
    saved, named = "447700900060", "447700900123"
    await send(page, named, "to the number")
    await send(page, new_phone(), "another chat is open")
    before = await pages.received(saved)
    for count, phone in enumerate((saved, named), 1):
        await pages.phone(linked[0], "incoming", phone=phone, text="hello")

        async def shown(count: int = count) -> bool:
            return sum("900123" in one.title for one in (await page.inbox.glance()).unread) == count

        await until(shown)
    await send(page, named, "to the number again")
    assert await pages.received(saved) == before
    assert (await pages.received(named))[-1] == "to the number again"


async def test_a_contacts_tick_in_the_list_is_not_that_of_the_number_in_its_title(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]
) -> None:
    saved, named = "447700900060", "447700900123"
    await send(page, named, "to the number")
    await pages.phone(linked[0], "write", phone=saved, text="to the contact, on the phone")

    async def both() -> bool:
        return sum("900123" in row["title"] for row in await page._reader.ask("chats")) > 1

    await until(both)
    assert named not in await page.chat_ticks()


async def test_a_group_named_by_a_number_gets_none_of_its_messages(pages: Pages, page: WhatsApp) -> None:
    """As one is in harsh pages."""
    await send(page, "447700900555", "to the number")
    await send(page, new_phone(), "another chat is open")
    await send(page, "447700900555", "to the number again")
    assert (await pages.received("447700900555"))[-2:] == ["to the number", "to the number again"]


async def test_a_group_that_stays_open_gets_no_message_for_a_member(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its panel names the number, as one of a contact that is saved under another one does."""
    member = "15550104711"
    await pages.phone(linked[0], "incoming", phone=member, text="hello")
    await page._chats._search("Badminton")
    await page._page.locator("#pane-side").get_by_text("Badminton Tuesday").click()
    await page._chats._search("")
    await page._page.locator("#main header").get_by_text("Badminton Tuesday").wait_for()
    monkeypatch.setattr(page._chats, "_click", AsyncMock())
    with pytest.raises(errors.WrongChat):
        await page.open_chat(member)
    assert not page._chats.is_of(await page._reader.ask("chat"), member)


async def test_a_long_text_takes_seconds_and_not_minutes(pages: Pages, page: WhatsApp, friend: str) -> None:
    async with asyncio.timeout(30):
        await send(page, friend, LONG)
    assert LONG in await pages.received(friend)


async def test_one_chat_after_another_and_back(pages: Pages, page: WhatsApp) -> None:
    first, second = new_phone(), new_phone()
    for phone, text in [(first, "one"), (second, "two"), (first, "three")]:
        await send(page, phone, text)
    assert await pages.received(first) == ["one", "three"]
    assert await pages.received(second) == ["two"]


async def test_a_known_chat_is_opened_without_a_reload(page: WhatsApp, friend: str) -> None:
    await page.open_chat("447700900012")
    await page._page.evaluate("window.stays = true")
    await page.open_chat(friend)
    assert await page._page.evaluate("window.stays")


async def test_a_saved_contact_is_opened_by_its_number(pages: Pages, page: WhatsApp) -> None:
    contact = "447700900012"  # Ben Okafor, in every sandbox account
    await send(page, contact, "Hello Ben")
    await send(page, contact, "Hello again")
    assert (await pages.received(contact))[-2:] == ["Hello Ben", "Hello again"]


async def test_the_same_text_twice_is_two_messages(pages: Pages, page: WhatsApp, friend: str) -> None:
    await page.open_chat(friend)
    ids = set()
    for _ in range(2):
        anchor = await press(page, "again")
        ids.add((await page.confirm("again", anchor, 30)).id)
    assert len(ids) == 2
    assert (await pages.received(friend))[-2:] == ["again", "again"]


async def test_a_list_that_moves_is_clicked_all_the_same(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp], friend: str
) -> None:
    """What comes in sorts the list, and draws its rows anew."""

    async def come_in() -> None:
        for number in range(40):
            await pages.phone(linked[0], "incoming", phone=f"1555600{number % 3:04}", text=f"message {number}")

    coming = asyncio.create_task(come_in())
    while not coming.done():
        await page.open_chat(friend)
        await page.open_chat("447700900012")
        assert (await page.inbox.glance()).name == "Ben Okafor"
    await coming


async def test_a_draft_is_replaced(pages: Pages, page: WhatsApp) -> None:
    phone = new_phone()
    await page.open_chat(phone)
    await page.write("a draft that somebody left\nin two lines")
    await page._page.reload()
    await send(page, phone, "the message")
    assert await pages.received(phone) == ["the message"]


async def test_an_enter_that_comes_late_never_reaches_the_page(pages: Pages, page: WhatsApp, friend: str) -> None:
    await page.open_chat(friend)
    await page.write("too late")
    await page.arm(0)
    await page.press_enter()
    assert await page.held_back() == "late"
    assert not await page._box.is_empty()
    assert "too late" not in await pages.received(friend)
    await page.clear()


async def test_an_enter_that_nobody_armed_for_never_does(pages: Pages, page: WhatsApp, friend: str) -> None:
    await send(page, friend, "armed")
    await page.write("not armed")
    await page.press_enter()
    assert await page.held_back() == "late"
    await page.clear()
    assert (await pages.received(friend))[-1] == "armed"


async def test_time_that_passed_before_arming_counts(page: WhatsApp, friend: str) -> None:
    await page.open_chat(friend)
    await page.write("late")
    await page.arm(10, since=asyncio.get_running_loop().time() - 11)
    await page.press_enter()
    assert await page.held_back() == "late"
    await page.clear()


async def test_confirm_gives_up_on_what_never_left(page: WhatsApp, friend: str) -> None:
    await page.open_chat(friend)
    await page.write("never pressed")
    anchor = await page.arm(10)
    with pytest.raises(errors.OutcomeUnknown):
        await page.confirm("never pressed", anchor, PATIENCE.taken / 2)
    with pytest.raises(errors.EnterNotTaken):
        await page.confirm("never pressed", anchor, 30)
    await page.clear()


async def test_ticks_in_the_chat_and_in_the_list(page: WhatsApp, friend: str) -> None:
    await page.open_chat(friend)
    anchor = await press(page, "ticks")
    bubble = await page.confirm("ticks", anchor, 30)

    async def read() -> bool:
        return await page.ticks([bubble.id]) == {bubble.id: Tick.READ}

    async def listed() -> bool:
        return (await page.chat_ticks()).get(friend) is Tick.READ

    await until(read)
    await until(listed)


async def test_settling_finds_what_was_sent(page: WhatsApp) -> None:
    phone = new_phone()
    await page.open_chat(phone)
    assert await press(page, "first of all") is None
    bubble = await page.confirm("first of all", None, 30)
    found = await page.look_for(phone, "first of all", None)
    assert (found.verdict, found.bubble and found.bubble.id) == (Verdict.SENT, bubble.id)


async def test_settling_proves_what_was_not(page: WhatsApp) -> None:
    phone = new_phone()
    await page.open_chat(phone)
    assert (await page.look_for(phone, "never", None)).verdict is Verdict.NOT_SENT
    await send(page, phone, "something")
    anchor = await last(page)
    assert (await page.look_for(phone, "something", anchor)).verdict is Verdict.NOT_SENT
    assert (await page.look_for(phone, "something", None)).verdict is Verdict.SENT
    assert (await page.look_for(phone, "never", "no-such-id")).verdict is Verdict.UNKNOWN


async def test_settling_takes_no_message_of_last_month_for_ours(page: WhatsApp) -> None:
    phone = new_phone()
    await send(page, phone, "Your rent is due")
    sent = await last(page)
    await send(page, phone, "thank you")
    found = await page.look_for(phone, "Your rent is due", "no-such-id")
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, Reason.ANCHOR_LOST)
    assert (await page.look_for(phone, "Your rent is due", "no-such-id", bubble=sent)).verdict is Verdict.SENT


async def test_settling_proves_nothing_by_messages_that_bear_no_id(page: WhatsApp) -> None:
    phone = new_phone()
    await send(page, phone, "first")
    anchor = await last(page)
    await send(page, phone, "second")
    await page._page.evaluate(
        """() => {
            const newest = [...document.querySelectorAll("#main [data-id]")].at(-1);
            for (const name of ["data-id", "data-testid"]) newest.removeAttribute(name);
        }"""
    )
    found = await page.look_for(phone, "second", anchor)
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, Reason.UNREADABLE)


LINES = 70  # more than the page keeps in the DOM


async def long_chat(pages: Pages, page: WhatsApp, account: str) -> tuple[str, str | None]:
    """Open a new chat and have it grow; return its number, and the anchor of a message of ours that is far up."""
    phone = new_phone()
    await send(page, phone, "the anchor")
    anchor = await last(page)
    await send(page, phone, "far up")
    for number in range(LINES):
        await pages.phone(account, "incoming", phone=phone, text=f"line {number}\nand one more")

    async def has_come() -> bool:
        return (await page._history.end())[-1].text.startswith(f"line {LINES - 1}\n")

    await until(has_come)
    return phone, anchor


@pytest.mark.long
async def test_settling_looks_through_a_long_chat(pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]) -> None:
    phone, anchor = await long_chat(pages, page, linked[0])
    found = await page.look_for(phone, "far up", anchor)
    assert found.verdict is Verdict.SENT
    assert found.bubble is not None
    others = [found.bubble.id]
    assert (await page.look_for(phone, "never", anchor, others=others)).verdict is Verdict.NOT_SENT
    assert (await page.look_for(phone, "never", anchor)).reason is Reason.OTHER_OUTGOING
    assert (await page.look_for(phone, "never", "no-such-id")).verdict is Verdict.UNKNOWN


#: Frames are drawn, and scrolling is told, 0.2 s later than at once: the reads of a page do not wait for either.
LATE_FRAMES = """() => {
    const late = (act) => setTimeout(act, 200);
    window.requestAnimationFrame = (act) => late(() => act(performance.now()));
    const told = new WeakSet();
    document.addEventListener("scroll", (event) => {
        if (told.has(event)) return;
        event.stopImmediatePropagation();
        const again = new Event("scroll");
        told.add(again);
        late(() => event.target.dispatchEvent(again));
    }, true);
}"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["2026-08", "2026-08-harsh"], indirect=True)
async def test_settling_waits_for_frames_that_a_busy_machine_draws_late(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]
) -> None:
    _, anchor = await long_chat(pages, page, linked[0])
    newest = await last(page)
    await page._page.evaluate(LATE_FRAMES)
    rows, whole = await page._history.after(anchor)
    assert (whole, len(rows), rows[-1].id) == (True, LINES + 1, newest)
    finding = await page._history.find("never", anchor, None, [rows[0].id])
    assert finding.verdict is Verdict.NOT_SENT, finding
    await page._page.reload()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["2026-08"], indirect=True)
async def test_settling_on_a_busy_machine_is_slow_and_not_wrong(
    page: WhatsApp, friend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where fewer reads fit into the time than must agree."""
    await page.open_chat(friend)
    monkeypatch.setattr(page._reader, "patience", replace(PATIENCE, answer=1.0, poll=0.4))
    finding = await page._history.find("never", None, None, [row.id for row in await page._history.end()])
    assert finding.verdict is Verdict.NOT_SENT, finding


async def test_the_anchor_may_be_theirs(pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]) -> None:
    phone = new_phone()
    await pages.phone(linked[0], "incoming", phone=phone, text="hello?")
    await page.open_chat(phone)
    anchor = await press(page, "hello?")
    assert anchor is not None
    await page.confirm("hello?", anchor, 30)
    assert (await page.look_for(phone, "hello?", anchor)).verdict is Verdict.SENT


async def test_a_message_that_quotes_a_screen_is_not_one(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]
) -> None:
    phone = new_phone()
    for quoted in ("You're temporarily banned from WhatsApp", "Unexpected error occurred.", "Computer not connected"):
        await pages.phone(linked[0], "incoming", phone=phone, text=quoted)
    await page.open_chat(phone)
    assert await page.screen() is Screen.MAIN
    await page.write("Can't start new chats right now? WhatsApp is open in another window")
    assert await page.screen() is Screen.MAIN
    await page.clear()


async def test_a_number_that_is_not_on_whatsapp(page: WhatsApp) -> None:
    with pytest.raises(errors.NotOnWhatsApp):
        await page.open_chat("15550000404")
    assert await page.screen() is Screen.MAIN


async def test_a_message_that_stays_at_the_clock(pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]) -> None:
    await page.open_chat("15550000409")
    anchor = await press(page, "held")
    with pytest.raises(errors.OutcomeUnknown):
        await page.confirm("held", anchor, 1)
    assert (await page.look_for("15550000409", "held", anchor)).verdict is Verdict.PENDING
    assert (await page.look_for("15550000409", "other", anchor)).verdict is Verdict.UNKNOWN
    await pages.phone(linked[0], "release")
    await page.confirm("held", anchor, 30)


async def test_a_number_whose_server_goes_away_for_a_moment(
    pages: Pages, page: WhatsApp, linked: tuple[str, WhatsApp]
) -> None:
    text = f"through the gap, from {linked[0]}"
    await send(page, "15550000503", text)
    assert (await pages.received("15550000503")).count(text) == 1


async def test_another_chat_than_asked_for(page: WhatsApp, monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_phone()
    monkeypatch.setattr(page._chats, "_address", lambda _: page._chat_address(other))
    with pytest.raises(errors.WrongChat, match=r"\+1 555-100"):
        await page.open_chat(new_phone())


async def test_a_dialog_that_nobody_knows(page: WhatsApp) -> None:
    await page._page.get_by_role("button", name="Menu").click()
    await page._page.get_by_role("menuitem", name="Log out").click()
    with pytest.raises(errors.UnknownDialog, match="log out"):
        await page.open_chat(new_phone())
    await page._page.get_by_role("button", name="Cancel").click()


async def test_a_media_preview_is_never_closed(page: WhatsApp) -> None:
    await page._page.evaluate("""() => {
        const dialog = document.createElement("div");
        dialog.id = "preview"; dialog.role = "dialog"; dialog.ariaModal = "true";
        dialog.innerHTML = '<img src="blob:x"><button aria-label="Close">x</button>';
        document.body.append(dialog);
    }""")
    await page.settle_in()
    assert await page._page.locator("#preview").count() == 1
    await page._page.evaluate("document.getElementById('preview').remove()")


async def test_the_census_names_what_is_missing(page: WhatsApp, friend: str) -> None:
    await page.open_chat(friend)
    census = await page.census()
    present = {name for name, css in census.found.items() if css}
    assert {"pane", "search", "compose", "attach", "panel", "chat_row", "chat_title", "header_title"} <= present
    assert not {"qr", "boot", "dialog"} & present


async def test_a_page_without_a_search_box_is_a_changed_one(page: WhatsApp) -> None:
    await page._page.evaluate("document.querySelector('#side input').style.display = 'none'")
    with pytest.raises(errors.UiChanged, match="search"):
        await page.settle_in()
    await page._page.evaluate("document.querySelector('#side input').style.display = ''")


async def test_a_picture_of_the_page(page: WhatsApp, linked: tuple[str, WhatsApp], friend: str, tmp_path: Path) -> None:
    await page.open_chat(friend)
    pictures = []
    for text in ("", "a draft"):
        await page.write(text) if text else await page.clear()
        await page.screenshot(tmp_path / "page.png")
        pictures.append((tmp_path / "page.png").read_bytes())
    await page.clear()
    look = look_for(linked[0])
    assert [size(picture) for picture in pictures] == [(look.width, look.height)] * 2
    assert pictures[0] != pictures[1], "it shows what the page shows"


def size(picture: bytes) -> tuple[int, int]:
    """Read a PNG's width and height."""
    assert picture.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture[16:24])
    return width, height
