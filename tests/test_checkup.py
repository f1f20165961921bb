"""Looks at pages, in both generations: what fits, what was renamed, and the account's own chat."""

import pytest
from fixtures_browser import Pages, kind, linked, new_account, new_phone, page, pages, send, until

from browser.page import checkup
from browser.page.checkup import NOT_LISTED, Findings, examine
from browser.page.whatsapp import WhatsApp

__all__ = ["kind", "linked", "page", "pages"]
Linked = tuple[str, WhatsApp]

#: what the sandbox draws, and the elements that the code knows it as
RENAMED = {
    ".compose-box, .menu-place > button, .meta, .meta *": ["compose", "menu", "meta"],
    '.messages, .messages-list, .search-input, #main button[aria-label="Attach"], #main footer [data-icon]': [
        "panel",
        "search",
    ],
}


async def look(page: WhatsApp, *, reload: bool = True) -> Findings:
    return await examine(page, shown=10, act=True, reload=reload)


async def unread(page: WhatsApp) -> list[tuple[str, int]]:
    return [(one.title, one.count) for one in (await page.inbox.glance()).unread]


async def test_the_own_chat_is_opened_and_nobodys_message_is_read(pages: Pages, page: WhatsApp, linked: Linked) -> None:
    await pages.phone(linked[0], "incoming", phone=new_phone(), text="unread")
    before = await until(lambda: unread(page))
    found = await look(page, reload=False)
    assert (found.screen, found.missing, found.own_chat, found.note) == ("main", [], False, NOT_LISTED)
    found = await look(page)
    assert (found.own_chat, found.note, found.missing, found.ticks) == (True, "", [], {})
    own = await page.profile_phone()
    assert own
    await send(page, own, "a note")
    await page.open_chat(new_phone())
    found = await look(page, reload=False)
    assert (found.own_chat, found.missing, found.strange) == (True, [], [])
    assert sum(found.ticks.values()) == 1
    assert {fit.name for fit in found.fits if fit.place >= 0} >= {"compose", "bubble", "text", "meta", "outgoing"}
    assert await unread(page) == before
    assert (await page.inbox.glance()).name
    await page.open_chat(own)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "SETTLE_SECONDS", 1.0)


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("css", RENAMED)
async def test_what_was_renamed_is_named(pages: Pages, page: WhatsApp, linked: Linked, kind: str, css: str) -> None:
    await send(page, await page.profile_phone() or "", f"before {css} goes")
    await pages.phone(linked[0], "rename", css=css)
    try:
        found = await look(page)
    finally:
        await pages.phone(linked[0], "rename")
        await until(lambda: whole(page))
    # In the newer pages the time of a message is found by its structure, too, which stays.
    stays = set() if kind.startswith("legacy") else {"meta"}
    assert sorted(found.missing) == sorted(set(RENAMED[css]) - stays)
    assert found.own_chat, "it is in view, and needs no search"


async def whole(page: WhatsApp) -> bool:
    return not (await look(page)).missing


async def test_a_tick_that_nobody_knows_is_named(pages: Pages, page: WhatsApp, linked: Linked, kind: str) -> None:
    own = await page.profile_phone()
    assert own
    await send(page, own, "with a new icon")
    await pages.phone(linked[0], "rename", css=".meta .status, .meta title")
    try:
        found = await look(page)
    finally:
        await pages.phone(linked[0], "rename")
        await until(lambda: whole(page))
    if kind.startswith("legacy"):  # where the icon is all that tells of a message's meta
        assert (found.missing, found.strange) == (["meta"], [])
    else:
        assert (found.missing, list(found.ticks)) == ([], ["unknown"])
        assert found.strange == ["renamed- Read"]


async def test_a_screen_without_chats_is_looked_at_as_it_is(pages: Pages, kind: str) -> None:
    account = new_account()
    page = await pages.open(account, kind)
    try:
        assert (await look(page)).screen == "qr"
        await pages.link(account, page)
        await pages.phone(account, "ban")
        assert await until(lambda: banned(page)) == ([], False)
    finally:
        await page.close()


async def banned(page: WhatsApp) -> tuple[list[str], bool] | None:
    found = await look(page)
    return (found.missing, found.own_chat) if found.screen == "banned" else None
