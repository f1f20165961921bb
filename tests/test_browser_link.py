"""Linking by a code, leaving, whose account it is, restrictions, and every screen, on both generations of the page."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fixtures_browser import (
    DOMS,
    PATIENCE,
    SELECTORS,
    TIMING,
    Pages,
    kind,
    new_account,
    new_phone,
    pages,
    sandbox_at,
    send,
    until,
)
from fixtures_screens import MEETS

import errors
from browser.engine.memory import measure
from browser.page.own_account import OwnAccount
from browser.page.pairing import RENEWALS
from browser.page.reader import Patience
from browser.page.restriction import Restriction, read
from browser.page.screens import ERRORS, Screen
from browser.page.whatsapp import WhatsApp
from browser.sandbox.control import DIALOGS, FULL_PAGE, LOGOUTS
from tasks.web.lane import MOST_SCREENS, on_main_screen

__all__ = ["kind", "pages"]

TODAY = date(2026, 11, 20)


@asynccontextmanager
async def unlinked(pages: Pages, kind: str) -> AsyncIterator[tuple[str, WhatsApp]]:
    """Open a new account's page and wait for its linking screen."""
    account = new_account()
    page = await pages.open(account, kind)
    try:
        await page.wait_screen(Screen.QR, timeout=30)
        yield account, page
    finally:
        await page.close()


# --- pairing


@pytest.mark.parametrize("phone", [pytest.param("15557654321", marks=pytest.mark.long), "4915112345678"])
async def test_a_code_links_the_phone_that_it_was_asked_for(pages: Pages, kind: str, phone: str) -> None:
    async with unlinked(pages, kind) as (account, page):
        assert await page.pairing_code() is None
        await page.ask_pairing_code(phone)
        assert await page.screen() is Screen.QR
        code = await until(page.pairing_code)
        assert re.fullmatch(r"[0-9A-Z]{4}-[0-9A-Z]{4}", str(code))
        assert await page.own() == OwnAccount(None, None)
        await pages.phone(account, "pair", code=str(code))
        await page.wait_screen(Screen.MAIN, timeout=30)
        await page.settle_in()
        assert await page.own() == OwnAccount(phone, "Postrider")
        assert await page.pairing_code() is None


async def test_a_code_can_be_asked_for_again(pages: Pages, kind: str) -> None:
    async with unlinked(pages, kind) as (account, page):
        await page.ask_pairing_code(new_phone())
        first = await until(page.pairing_code)
        phone = new_phone()
        await page.ask_pairing_code(phone)
        second = await until(page.pairing_code)
        assert first != second
        await pages.phone(account, "pair", code=str(second))
        await page.wait_screen(Screen.MAIN, timeout=30)
        assert (await page.own()).phone == phone


async def test_no_code_is_asked_for_in_an_account_that_is_linked(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        await page._page.evaluate("addEventListener('pointerdown', () => { window.clicked = true; }, true)")
        with pytest.raises(errors.PageHung, match="shows main instead of the linking screen"):
            await page.ask_pairing_code(new_phone())
        assert await page._page.evaluate("window.clicked === undefined")
        assert (await pages.standing(account))["devices"] == 1
        await pages.phone(account, "show", screen="banned")
        await page.wait_screen(Screen.BANNED, timeout=30)
        with pytest.raises(errors.Banned):
            await page.ask_pairing_code(new_phone())


REFUSALS = {
    "too_many_attempts": "There were too many attempts to link a device. Please try again later.",
    "something_went_wrong": "Something went wrong",
    "limited_availability": "Limited availability",
    "update_phone": "Update WhatsApp on phone",
}


@pytest.mark.long
async def test_a_refusal_is_told_in_the_pages_words(pages: Pages, kind: str) -> None:
    async with unlinked(pages, kind) as (account, page):

        async def ask() -> None:
            await page.ask_pairing_code(new_phone())
            await until(page.pairing_code)

        for reason, words in REFUSALS.items():
            await pages.phone(account, "refuse-pairing", reason=reason)
            with pytest.raises(errors.PairingRefused, match=words) as refused:
                await ask()
            assert refused.value.code == "pairing_refused"
            assert isinstance(refused.value, errors.NotLinked)
            assert await page.screen() is Screen.QR
        await pages.phone(account, "refuse-pairing")
        await ask()


async def test_a_number_that_is_none_is_refused(pages: Pages, kind: str) -> None:
    async with unlinked(pages, kind) as (_, page):
        with pytest.raises(errors.PairingRefused, match=r"Valid phone number is required\."):
            await page.ask_pairing_code("1555")


@asynccontextmanager
async def hasty(pages: Pages, root: Path) -> AsyncIterator[Pages]:
    """Serve a sandbox whose pairing codes end soon."""
    async with sandbox_at(root, replace(TIMING, pairing_life=0.15, pairing_limit=0.4)) as (origin, http):
        yield replace(pages, origin=origin, http=http)


@pytest.mark.long
async def test_a_code_is_replaced_and_when_it_has_expired_asked_for_anew(
    pages: Pages, kind: str, tmp_path: Path
) -> None:
    async with hasty(pages, tmp_path) as quick, unlinked(quick, kind) as (account, page):
        await page.ask_pairing_code(new_phone())
        seen = set()
        with pytest.raises(errors.PairingRefused, match=f"renewed {RENEWALS} times"):
            async with asyncio.timeout(30):
                while True:
                    assert await page.screen() is Screen.QR
                    seen.add(await page.pairing_code())
        assert len(seen - {None}) > RENEWALS
        # It can still be asked for, and by scanning too.
        await page.ask_pairing_code(new_phone())
        await page._page.reload()
        await quick.link(account, page)


# --- whose it is, and leaving


async def test_whose_account_it_is(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        own = await page.own()
        assert own == OwnAccount((await pages.standing(account))["phone"], "Postrider")
        assert own.phone == await page.profile_phone()
        await page._page.evaluate("localStorage.setItem('me-display-name', 'a name that is not JSON')")
        await page._page.evaluate("localStorage.setItem('last-wid-md', '\"someone@lid\"')")
        assert await page.own() == OwnAccount(None, "a name that is not JSON")


async def test_logging_out_unlinks(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        await send(page, new_phone(), "an open chat has a menu of its own")
        await pages.phone(account, "show", screen="whats_new")
        await until(partial(says, page, "what's new"))
        await page.log_out()
        await page.wait_screen(Screen.QR, timeout=30)
        assert (await pages.standing(account))["devices"] == 0
        assert await page.own() == OwnAccount(None, None)
        await page.log_out()  # nothing is left to do
        await pages.phone(account, "show")
        await pages.link(account, page)


#: keeps the dialog "Log out?" on the page after its button was pressed, out of reach, while the page logs out for 1 s
SLOW_TO_LOG_OUT = """() => {
  const send = window.fetch;
  window.fetch = async (...args) => {
    if (String(args[0]).includes("logout")) await new Promise((done) => setTimeout(done, 1000));
    return send(...args);
  };
  document.addEventListener("click", (event) => {
    const layer = event.target.closest(".backdrop");
    if (!layer) return;
    const copy = layer.cloneNode(true);
    copy.style.pointerEvents = "none";
    layer.after(copy);
  }, true);
}"""


async def test_a_dialog_that_stays_while_the_page_logs_out(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        await page._page.evaluate(SLOW_TO_LOG_OUT)
        await page.log_out()
        assert (await pages.standing(account))["devices"] == 0


@pytest.mark.long
async def test_no_logging_out_from_other_screens(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        await pages.phone(account, "offline")
        await page.wait_screen(Screen.OFFLINE, timeout=30)
        with pytest.raises(errors.Offline):
            await page.log_out()
        await pages.phone(account, "online")
        await page.wait_screen(Screen.MAIN, timeout=30)
        await page._page.evaluate("document.querySelector('[role=menuitem]').replaceWith(document.createElement('hr'))")
        with pytest.raises(errors.UiChanged, match="log_out"):
            await page.log_out()
        assert (await pages.standing(account))["devices"] == 1


# --- restrictions


@pytest.mark.parametrize("limit", ["new_chats", pytest.param("monthly_cap", marks=pytest.mark.long)])
async def test_a_restriction_is_read_and_known_chats_go_on(pages: Pages, kind: str, limit: str) -> None:
    async with pages.linked(kind, patience=Patience(**{**vars(PATIENCE), "chat": 6.0})) as (account, page):
        known = new_phone()
        await send(page, known, "before")
        assert await page.restriction() is None
        await pages.phone(account, "restrict", kind=limit)
        assert await until(page.restriction) == limit
        assert await page.screen() is Screen.MAIN
        with pytest.raises(errors.NewChatsRestricted) as refused:
            await page.open_chat(new_phone())
        assert refused.value.restriction == limit
        if limit == "monthly_cap":
            assert refused.value.until is not None
            assert refused.value.until.day == 1
            assert timedelta() <= refused.value.until - datetime.now(UTC).date() < timedelta(days=33)
        else:
            assert refused.value.until is None
        await page.open_chat(known, known_only=True)
        await send(page, known, "known chats go on")
        assert await pages.received(known) == ["before", "known chats go on"]
        await pages.phone(account, "unrestrict")

        async def lifted() -> bool:
            return await page.restriction() is None

        await until(lifted)
        await send(page, new_phone(), "new ones too")


@pytest.mark.long
async def test_only_known_chats_are_opened_where_only_they_may_be(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        known, other = new_phone(), new_phone()
        await send(page, known, "hello")
        await send(page, other, "hello too")
        await page._page.evaluate("window.stays = true")
        for restriction in ("new_chats", None):
            await pages.phone(account, "restrict" if restriction else "unrestrict")
            await until(partial(is_restricted, page, restriction))
            with pytest.raises(errors.NewChatsRestricted) as refused:
                await page.open_chat(new_phone(), known_only=True)
            assert refused.value.restriction == "new_chats"
            # A saved contact's number does not tell its row, and nobody has opened it by its number yet.
            with pytest.raises(errors.NewChatsRestricted):
                await page.open_chat("447700900012", known_only=True)
            await page.open_chat(known, known_only=True)
        assert await page._page.evaluate("window.stays"), "The page went to the address of a chat."
        await page.open_chat("447700900012")
        await page.open_chat(other)
        await page._page.evaluate("window.stays = true")
        await page.open_chat("447700900012", known_only=True)
        await send(page, "447700900012", "Hello Ben")
        assert (await pages.received("447700900012"))[-1] == "Hello Ben"
        assert await page._page.evaluate("window.stays")


@pytest.mark.long
async def test_two_contacts_of_one_name_are_not_told_apart(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (_, page):
        await page.open_chat("447700900012")
        await send(page, new_phone(), "another chat")
        await page._page.evaluate("""() => {
            const row = document.querySelector("#pane-side [title='Ben Okafor']").closest("[role=row]");
            row.parentElement.append(row.cloneNode(true));
        }""")
        with pytest.raises(errors.NewChatsRestricted):
            await page.open_chat("447700900012", known_only=True)


@pytest.mark.long
async def test_a_notice_that_comes_by_itself_keeps_no_known_chat_closed(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        known = new_phone()
        await send(page, known, "hello")
        await pages.phone(account, "restrict")
        await until(page.restriction)
        await page._page.locator("#side").get_by_role("button", name="Show details").click()
        await until(partial(says, page, "recent activity"))
        await page.open_chat(known)
        await send(page, known, "and on")
        assert await pages.received(known) == ["hello", "and on"]


async def says(page: WhatsApp, words: str) -> bool:
    """Tell whether a dialog says this."""
    return any(words in dialog.text for dialog in (await page._reader.sight()).dialogs)


async def is_restricted(page: WhatsApp, restriction: str | None) -> bool:
    """Tell whether the page says this of new chats."""
    return await page.restriction() == restriction


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nothing of the kind", None),
        ("your account is restricted right now", Restriction("new_chats")),
        ("your whatsapp web is restricted", Restriction("new_chats")),
        ("your account is no longer restricted", None),
        ("your account is restricted your account is no longer restricted", None),
        ("you're close to your monthly limit of new chats.", None),
        ("you've reached the monthly limit on new chats you can start.", Restriction("monthly_cap")),
        ("you can't start any more new chats until december 1, 2026.", Restriction("monthly_cap", date(2026, 12, 1))),
        ("you can't start any more new chats until dec 1, 2026.", Restriction("monthly_cap", date(2026, 12, 1))),
        ("you can't start any more new chats until 1 december 2026", Restriction("monthly_cap", date(2026, 12, 1))),
        ("you can't start any more new chats until tuesday, dec. 1", Restriction("monthly_cap", date(2026, 12, 1))),
        ("you can't start any more new chats until january 1.", Restriction("monthly_cap", date(2027, 1, 1))),
        ("you can't start any more new chats until 12/1/2026.", Restriction("monthly_cap")),
        ("you can't start any more new chats until february 30, 2027.", Restriction("monthly_cap")),
        ("you can't start any more new chats until someday 5", Restriction("monthly_cap")),
        (
            "monthly limit: you can't start any more new chats until may 2, 2027. 250 of 250 started",
            Restriction("monthly_cap", date(2027, 5, 2)),
        ),
    ],
)
def test_a_restrictions_words(text: str, wanted: Restriction | None) -> None:
    assert read(text, SELECTORS, TODAY) == wanted


# --- every screen

SCREENS = {
    "loading": Screen.LOADING,
    "syncing": Screen.SYNCING,
    "logging_out": Screen.LOADING,
    "banned": Screen.BANNED,
    "conflict_window": Screen.CONFLICT,
    "conflict_tab": Screen.CONFLICT,
    "conflict_browser": Screen.CONFLICT,
    "offline": Screen.OFFLINE,
    "connecting": Screen.OFFLINE,
    "proxy_blocked": Screen.PROXY_BLOCKED,
    "unavailable": Screen.UNAVAILABLE,
    "disk_full": Screen.UNAVAILABLE,
    "unsupported": Screen.UNSUPPORTED,
    "deprecated": Screen.UNSUPPORTED,
    "crashed": Screen.CRASHED,
    "unknown": Screen.UNKNOWN,
    "whats_new": Screen.MAIN,
    "update": Screen.MAIN,
    "unknown_dialog": Screen.MAIN,
}
LOGGED_OUT = {
    "post_logout": "You have been logged out.",
    "database_error": "A database error occurred on your browser.",
    "sync_issue": "Your device could not link due to a sync issue.",
    "link_failed": "Couldn't link device.",
}


def test_every_name_of_a_screen_is_tried() -> None:
    assert set(SCREENS) == {*FULL_PAGE, *DIALOGS}
    assert set(LOGGED_OUT) == set(LOGOUTS)
    assert {*SCREENS.values(), Screen.QR} == set(Screen)
    assert set(MEETS) == {*SCREENS, *LOGGED_OUT}


async def believed(_: Screen) -> None:
    """Take no evidence."""


async def meets(page: WhatsApp) -> type[errors.SendError] | None:
    """Bring a linked account's page to rest as for a message that is due; return what was raised."""
    try:
        for _ in range(MOST_SCREENS):
            await on_main_screen(page, linked=True, seconds=1, doubt=believed)
            if await page.settle_in():
                return None
    except errors.SendError as error:
        return type(error)
    raise AssertionError("The page does not come to rest.")


@pytest.mark.long
async def test_every_screen_is_shown_and_recognised_and_met_and_ends(pages: Pages, kind: str) -> None:
    async with pages.linked(kind, patience=replace(PATIENCE, unknown=0.3)) as (account, page):
        for name, screen in SCREENS.items():
            await pages.phone(account, "show", screen=name)
            await until(partial(shows, page, screen))
            if name in DIALOGS and screen is Screen.MAIN:
                await until(partial(says, page, ""))
            if screen not in {Screen.MAIN, Screen.OFFLINE, Screen.LOADING, Screen.SYNCING, Screen.UNKNOWN}:
                with pytest.raises(ERRORS[screen]):
                    await page.open_chat(new_phone())
            assert await meets(page) is MEETS[name], f"{name} in an open page"
            await page._page.reload()
            await until(partial(shows, page, screen))
            if name in DIALOGS and screen is Screen.MAIN:
                await until(partial(says, page, ""))
            assert await meets(page) is MEETS[name], f"{name} in a page that is opened"
            await pages.phone(account, "show")
            await page.wait_screen(Screen.MAIN, timeout=30)
        await send(page, new_phone(), "after them all")


@pytest.mark.parametrize("name", ["crashed", "banned", "unavailable", "unknown", "sync_issue", "conflict_window"])
async def test_a_screen_that_comes_while_the_list_is_settled_is_not_taken_for_the_list(pages: Pages, name: str) -> None:
    async with pages.linked(DOMS[-1], patience=replace(PATIENCE, quiet=1.5, unknown=0.3)) as (account, page):
        settling = asyncio.create_task(page.settle_in())
        await asyncio.sleep(0.3)
        await pages.phone(account, "show", screen=name)
        assert await settling is False
        assert await meets(page) is MEETS[name]


async def test_a_list_that_is_gone_for_a_moment_while_it_is_settled_is_settled_again(pages: Pages) -> None:
    async with pages.linked(DOMS[-1], patience=replace(PATIENCE, quiet=1.0)) as (account, page):
        settling = asyncio.create_task(page.settle_in())
        await asyncio.sleep(0.3)
        await pages.phone(account, "show", screen="syncing")
        assert await settling is False
        settled = asyncio.create_task(meets(page))
        await pages.phone(account, "show")
        assert await settled is None


async def shows(page: WhatsApp, screen: Screen) -> bool:
    """Tell whether the page shows this screen."""
    return await page.screen() is screen


@pytest.mark.long
async def test_a_logout_says_why(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        for name, words in LOGGED_OUT.items():
            await pages.phone(account, "show", screen=name)
            await page.wait_screen(Screen.QR, timeout=30)
            await page._page.get_by_text(words).wait_for()
            assert "post_logout=1" in page._page.url
            assert await meets(page) is MEETS[name], f"{name} in an open page"
            await page._page.reload()
            await page.wait_screen(Screen.QR, timeout=30)
            assert await meets(page) is MEETS[name], f"{name} in a page that is opened"
            await pages.link(account, page)


async def test_a_screen_before_linking(pages: Pages, kind: str) -> None:
    async with unlinked(pages, kind) as (account, page):
        await pages.phone(account, "show", screen="proxy_blocked")
        await page.wait_screen(Screen.PROXY_BLOCKED, timeout=30)
        await pages.phone(account, "show")
        await pages.link(account, page)


@pytest.mark.parametrize(
    ("act", "body", "field"),
    [
        ("show", {"screen": "the end"}, "screen"),
        ("show", {"screen": 1}, "screen"),
        ("leak", {"mb": 0}, "mb"),
        ("leak", {"mb": True}, "mb"),
        ("leak", {}, "mb"),
        ("hang", {"seconds": 1e9}, "seconds"),
        ("crash", {"at": "home"}, "at"),
        ("restrict", {"kind": "for ever"}, "kind"),
        ("refuse-pairing", {"reason": "no"}, "reason"),
    ],
)
async def test_what_cannot_be_ordered_is_named(pages: Pages, act: str, body: dict[str, Any], field: str) -> None:
    answer = await pages.http.post(f"/sandbox/accounts/{new_account()}/{act}", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.long
async def test_a_page_that_takes_memory_and_one_that_hangs(pages: Pages, kind: str) -> None:
    refused = await pages.http.post(f"/sandbox/accounts/{new_account()}/leak", json={"mb": 1})
    assert refused.status_code == 409
    async with pages.linked(kind) as (account, page):
        (before,) = (await measure([page._directory])).values()
        await pages.http.post(f"/sandbox/accounts/{account}/leak", json={"mb": 300})

        async def has_doubled() -> bool:
            return (await measure([page._directory]))[page._directory] > 2 * before

        await until(has_doubled)
        assert await page.screen() is Screen.MAIN
        page._reader.patience = replace(PATIENCE, answer=1)
        await pages.http.post(f"/sandbox/accounts/{account}/hang", json={"seconds": 4})

        async def hangs() -> bool:
            return not await page._reader.answers(0.5)

        await until(hangs)
        with pytest.raises(errors.PageHung):
            await page.screen()
        await until(partial(page._reader.answers, 0.5))
        assert await page.screen() is Screen.MAIN
