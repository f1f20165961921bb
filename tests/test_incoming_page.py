"""What comes in, as the page shows it, in both generations."""

import pytest
from fixtures_browser import DOMS, Pages, kind, linked, new_phone, page, pages, send, until

from browser.page.bubbles import Bubble, Side, Tick, own_id
from browser.page.inbox import Conversation, Unread
from browser.page.whatsapp import WhatsApp
from stopwords import StopWords
from tasks.web.new_messages import InboxMemory, arrivals, unrecorded

__all__ = ["kind", "linked", "page", "pages"]

ELSEWHERE = "447700900012"  # a chat that every sandbox account has, and nobody writes in
BOOK_CLUB = "120363000000000013"  # a group of every sandbox account
Linked = tuple[str, WhatsApp]


def texts(conversation: Conversation) -> list[str]:
    return [bubble.text for bubble in conversation.bubbles if not bubble.outgoing]


async def arrive(pages: Pages, linked: Linked, phone: str, *said: str) -> Unread:
    """Let somebody write and wait until the list shows it."""
    for text in said:
        await pages.phone(linked[0], "incoming", phone=phone, text=text)

    async def shown() -> list[Unread]:
        unread = (await linked[1].inbox.glance()).unread
        return [one for one in unread if phone[-4:] in one.title and one.count == len(said)]

    return (await until(shown))[0]


async def whose(page: WhatsApp, conversation: Conversation, *, at_any_cost: bool = False) -> str | None:
    return conversation.phone or await page.inbox.proved(conversation, at_any_cost=at_any_cost)


async def test_an_unread_chat_is_opened_and_read(pages: Pages, page: WhatsApp, linked: Linked) -> None:
    await page.open_chat(ELSEWHERE)
    phone = new_phone()
    unread = await arrive(pages, linked, phone, "one", "two 🎉\nin lines", "*three*")
    conversation = await page.inbox.open(unread)
    assert conversation
    assert (conversation.called, conversation.unread, conversation.group) == (phone, 3, False)
    assert texts(conversation) == ["one", "two 🎉\nin lines", "three"]
    assert [bubble.text for bubble in unrecorded(conversation, {}, InboxMemory(), StopWords())] == texts(conversation)

    async def gone() -> bool:
        return unread not in (await page.inbox.glance()).unread

    await until(gone)


@pytest.mark.long
async def test_more_unread_messages_than_the_page_keeps(pages: Pages, page: WhatsApp, linked: Linked) -> None:
    await page.open_chat(ELSEWHERE)
    said = [f"line {number}\nand one more" for number in range(75)]
    conversation = await page.inbox.open(await arrive(pages, linked, new_phone(), *said))
    assert conversation
    assert texts(conversation) == said

    async def at_the_end() -> bool:
        return (await page.inbox.glance()).last == conversation.bubbles[-1].id

    await until(at_the_end)


async def test_the_line_above_the_unread_ones_tells_where_no_row_did(
    pages: Pages, page: WhatsApp, linked: Linked
) -> None:
    phone = new_phone()
    await send(page, phone, "hello")
    await page.open_chat(ELSEWHERE)
    await arrive(pages, linked, phone, "first", "second")
    await page._chats._open_address(phone)
    await page._chats._wait(phone, lambda chat: bool(chat["box"]))
    conversation = await page.inbox.conversation()
    assert conversation
    assert (conversation.called, conversation.unread) == (phone, 2)
    assert await whose(page, conversation) == phone


async def test_a_saved_contact_is_a_name_until_a_number_opened_its_chat(
    pages: Pages, page: WhatsApp, linked: Linked, kind: str
) -> None:
    await page.open_chat(new_phone())
    await pages.phone(linked[0], "incoming", phone=ELSEWHERE, text="It is Ben")

    async def shown() -> list[Unread]:
        return [one for one in (await page.inbox.glance()).unread if "Ben" in one.title]

    conversation = await page.inbox.open((await until(shown))[0])
    assert conversation
    assert (conversation.name, texts(conversation)[-1]) == ("Ben Okafor", "It is Ben")
    assert await whose(page, conversation, at_any_cost=True) == (ELSEWHERE if kind.startswith(DOMS[0]) else None)
    await page.open_chat(ELSEWHERE)
    conversation = await page.inbox.conversation()
    assert conversation
    assert conversation.phone == ELSEWHERE
    assert list(unrecorded(conversation, {own_id(conversation.bubbles[-1].id)}, InboxMemory(), StopWords())) == []


async def test_a_title_that_is_a_number_is_proved(pages: Pages, page: WhatsApp, linked: Linked, kind: str) -> None:
    """By the ids or the contact's panel; where there is neither, by the page's address for the number, at any cost."""
    await page.open_chat(ELSEWHERE)
    phone = new_phone()
    await page._page.evaluate("window.stays = true")
    conversation = await page.inbox.open(await arrive(pages, linked, phone, "STOP"))
    assert conversation
    assert await whose(page, conversation) == (None if kind.startswith("bare") else phone)
    assert await page._page.evaluate("window.stays")
    assert await whose(page, conversation, at_any_cost=True) == phone
    # From then on this is the chat of the number that opened it, or has a message of ours.
    conversation = await page.inbox.conversation()
    assert conversation
    assert await whose(page, conversation) == phone
    await send(page, phone, "done")
    await page.open_chat(ELSEWHERE)
    await page._page.evaluate("window.stays = true")
    conversation = await page.inbox.open(await arrive(pages, linked, phone, "thanks"))
    assert conversation
    assert await whose(page, conversation) == phone
    assert await page._page.evaluate("window.stays")


async def test_a_contact_saved_under_another_number_is_not_that_number(
    pages: Pages, page: WhatsApp, linked: Linked, kind: str
) -> None:
    saved, named = "447700900060", "447700900123"
    await page.open_chat(ELSEWHERE)
    await pages.phone(linked[0], "incoming", phone=saved, text="STOP")

    async def shown() -> list[Unread]:
        return [one for one in (await page.inbox.glance()).unread if "900123" in one.title]

    conversation = await page.inbox.open((await until(shown))[0])
    assert conversation
    assert conversation.called == named
    assert await whose(page, conversation, at_any_cost=True) == (saved if kind.startswith(DOMS[0]) else None)
    if kind.startswith("bare"):  # nothing that is known there tells whose chat it is
        return
    await page.open_chat(saved)
    conversation = await page.inbox.conversation()
    assert conversation
    assert await whose(page, conversation) == saved


async def test_what_postgres_cannot_hold_is_left_out(pages: Pages, page: WhatsApp, linked: Linked) -> None:
    await page.open_chat(ELSEWHERE)
    conversation = await page.inbox.open(await arrive(pages, linked, new_phone(), "STOP§"))
    assert conversation
    await page._page.evaluate("""() => {
        const walker = document.createTreeWalker(document.querySelector("#main"), NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replace("§", "\\0\\ud83d!");
    }""")
    conversation = await page.inbox.conversation()
    assert conversation
    assert texts(conversation) == ["STOP!"]


async def test_a_group_is_left_out_in_the_list_and_in_the_chat(pages: Pages, page: WhatsApp, linked: Linked) -> None:
    await page.open_chat(ELSEWHERE)
    await pages.phone(linked[0], "incoming", phone=BOOK_CLUB, text="STOP")
    await page.settle_in()
    row = page._page.get_by_role("row").filter(has=page._page.get_by_title("Book club", exact=True))
    await row.locator('[aria-label="1 unread message"]').first.wait_for()
    assert [one for one in (await page.inbox.glance()).unread if "club" in one.title] == []
    await row.click()

    async def opened() -> bool:
        return (await page.inbox.glance()).name == "Book club"

    await until(opened)
    conversation = await page.inbox.conversation()
    assert conversation
    assert conversation.group


async def test_a_long_message_is_unfolded(pages: Pages, page: WhatsApp, linked: Linked) -> None:
    long = "word " * 400 + "end"
    conversation = await page.inbox.open(await arrive(pages, linked, new_phone(), long))
    assert conversation
    assert texts(conversation) != [long]
    ids = {bubble.id for bubble in conversation.bubbles}
    assert texts(await page.inbox.unfolded(conversation, ids)) == [long]


async def test_an_empty_chat_is_known_to_be_empty(page: WhatsApp) -> None:
    await page.open_chat(new_phone())
    conversation = await page.inbox.conversation()
    assert conversation
    assert conversation.empty
    await page.open_chat(ELSEWHERE)
    conversation = await page.inbox.conversation()
    assert conversation
    assert not conversation.empty
    assert conversation.bubbles


async def test_the_whole_list_can_be_gone_through(page: WhatsApp) -> None:
    seen = [{row["title"] for row in await page._reader.ask("chats")}]
    while await page.inbox.further():
        seen.append({row["title"] for row in await page._reader.ask("chats")})
    assert len(seen) > 2
    assert seen[0] & seen[-1] == set()
    assert {"Aunt Rosa", "Zoë", "שירה לוי"} <= set().union(*seen)
    assert await page._page.evaluate("document.querySelector('#pane-side').scrollTop") == 0


async def test_what_arrives_is_waited_for(pages: Pages, page: WhatsApp, linked: Linked) -> None:
    phone = new_phone()
    for text in ("one", "two"):
        await pages.phone(linked[0], "incoming", phone=phone, text=text)
    await page.inbox.arrival()
    assert any(phone[-4:] in one.title and one.count == 2 for one in (await page.inbox.glance()).unread)


# --- what is new ---------------------------------------------------------------------------------------------------


def bubble(name: str, text: str = "", *, ours: bool = False) -> Bubble:
    return Bubble(name, text or name, Tick.READ if ours else Tick.UNKNOWN, side=Side.OURS if ours else Side.THEIRS)


def chat(*bubbles: Bubble, unread: int = 0, name: str = "Ben") -> Conversation:
    last = bubbles[-1].id if bubbles else None
    return Conversation(name, None, "", group=False, bubbles=bubbles, last=last, unread=unread, empty=not bubbles)


OLD, STOP, NEW = bubble("old"), bubble("stop", "Stop!"), bubble("new")
OURS, AGAIN = bubble("ours", ours=True), bubble("again", ours=True)


@pytest.mark.parametrize(
    ("shown", "recorded", "memory", "expected"),
    [
        # History of before our time is nobody's news,
        (chat(OLD, OURS, NEW), [], InboxMemory(), []),
        # save for what nobody had read,
        (chat(OLD, OURS, NEW, unread=1), [], InboxMemory(), ["new"]),
        (chat(OLD, OURS, NEW, unread=9), [], InboxMemory(), ["old", "new"]),
        # what stands below the newest recorded message,
        (chat(OLD, OURS, NEW), ["old"], InboxMemory(), ["new"]),
        (chat(OLD, STOP, OURS, NEW), ["stop"], InboxMemory(), ["new"]),
        # and what came since the last look, at this chat.
        (chat(OLD, OURS, NEW), [], InboxMemory(("Ben", "ours")), ["new"]),
        (chat(OLD, OURS, NEW), [], InboxMemory(("Ben", "new")), []),
        (chat(OLD, OURS, NEW), [], InboxMemory(("Ann", None), empty=True), []),
        (chat(OLD, OURS, NEW), [], InboxMemory(("Ben", None), empty=True), ["old", "new"]),
        # A STOP counts until we wrote again,
        (chat(OLD, STOP, NEW), [], InboxMemory(), ["stop"]),
        (chat(OURS, STOP, NEW), [], InboxMemory(("Ben", "new")), ["stop"]),
        (chat(OURS, STOP, AGAIN, NEW), [], InboxMemory(), []),
        # and once.
        (chat(OURS, STOP, NEW), ["stop"], InboxMemory(), ["new"]),
        (chat(OURS, STOP), ["stop"], InboxMemory(), []),
        (chat(), [], InboxMemory(), []),
    ],
)
def test_what_is_new(shown: Conversation, recorded: list[str], memory: InboxMemory, expected: list[str]) -> None:
    assert [one.id for one in unrecorded(shown, recorded, memory, StopWords())] == expected


@pytest.mark.parametrize(
    ("shown", "memory", "expected"),
    [
        (chat(OLD, OURS, STOP, unread=1), InboxMemory(), {"stop"}),
        (chat(OLD, OURS, STOP), InboxMemory(("Ben", "ours")), {"stop"}),
        (chat(STOP), InboxMemory(("Ben", None), empty=True), {"stop"}),
        # Somebody has read it on the phone, when nobody knows.
        (chat(OLD, OURS, STOP), InboxMemory(), set()),
        (chat(OLD, STOP, NEW, unread=1), InboxMemory(), {"new"}),
    ],
)
def test_what_has_just_come(shown: Conversation, memory: InboxMemory, expected: set[str]) -> None:
    assert arrivals(shown, memory) == expected


def test_a_message_has_one_id_in_both_generations() -> None:
    assert own_id("false_15551234567@c.us_3EB0A1B2") == own_id("3EB0A1B2") == "3EB0A1B2"
    assert own_id("false_120363000000000013@g.us_3EB0A1B2_15551234567@c.us") == "3EB0A1B2"
    assert own_id("A_B_C") == "A_B_C"
