"""What goes wrong with a page, its account or its browser; each with a browser of its own."""

import asyncio
import shutil
from pathlib import Path

import psutil
import pytest
from fixtures_browser import DOMS, PATIENCE, Pages, kind, new_account, new_phone, pages, press, send, until
from fixtures_driver import let_engines_have_their_own

import errors
from bench.ports import held_ports
from browser.engine import profile
from browser.engine.engine import Engine
from browser.engine.process import browsers_of
from browser.page.history import Verdict
from browser.page.reader import Patience
from browser.page.screens import Screen
from browser.page.whatsapp import WhatsApp

__all__ = ["kind", "pages"]

NEWEST = DOMS[-1]
SHORT = Patience(**{**vars(PATIENCE), "answer": 1.0})


@pytest.mark.long
async def test_codes_rotate_run_out_and_are_asked_for_anew(pages: Pages, kind: str) -> None:
    account = new_account()
    page = await pages.open(account, kind)
    try:
        await page.wait_screen(Screen.QR, timeout=30)
        first = await until(page.qr)

        async def another() -> bool:
            return await page.qr() not in {None, first}

        async def gone() -> bool:
            return await page.qr() is None

        await until(another)
        await until(gone)
        assert await page.screen() is Screen.QR
        button = await page._reader.find("qr_reload")
        assert button
        await page._reader.click(button)
        assert await until(page.qr) != first
        assert await page.profile_phone() is None
        await pages.link(account, page)
        # The login is in the profile.
        await page.close()
        page = await pages.open(account, kind)
        assert await page.wait_screen(Screen.MAIN, Screen.QR, timeout=30) is Screen.MAIN
        # Unlinked by the phone.
        await pages.phone(account, "unlink")
        await page.wait_screen(Screen.QR, timeout=30)
        with pytest.raises(errors.NotLinked):
            await page.open_chat(new_phone())
    finally:
        await page.close()


@pytest.mark.long
async def test_a_ban_a_restriction_and_a_network_that_goes(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        known = new_phone()
        await send(page, known, "before")
        with pytest.raises(errors.Banned):
            await page.open_chat("15550000403")
        assert await page.screen() is Screen.BANNED
        await pages.phone(account, "unban")
        await page.wait_screen(Screen.MAIN, timeout=30)

        with pytest.raises(errors.NewChatsRestricted):
            await page.open_chat("15550000429")
        await send(page, known, "known chats go on")
        await pages.phone(account, "unrestrict")
        assert await pages.received(known) == ["before", "known chats go on"]

        await pages.phone(account, "offline")
        await page.wait_screen(Screen.OFFLINE, timeout=30)
        waiting = asyncio.create_task(page.open_chat(known))
        await pages.phone(account, "online")
        await waiting
        await page.write("while offline")
        anchor = await page.arm(10)
        await pages.phone(account, "offline")
        await page.wait_screen(Screen.OFFLINE, timeout=30)
        await page.press_enter()
        with pytest.raises(errors.Offline):
            await page.confirm("while offline", anchor, 0.5)
        await pages.phone(account, "online")
        await page.confirm("while offline", anchor, 30)


@pytest.mark.long
async def test_an_account_that_stays_offline_waits(pages: Pages) -> None:
    patience = Patience(**{**vars(PATIENCE), "offline": 0.5})
    async with pages.linked(NEWEST, patience=patience) as (account, page):
        await pages.phone(account, "offline")
        await page.wait_screen(Screen.OFFLINE, timeout=30)
        with pytest.raises(errors.Offline):
            await page.open_chat(new_phone())


async def test_a_page_that_crashes_after_enter_is_settled(pages: Pages, kind: str) -> None:
    async with pages.linked(kind) as (account, page):
        await page.open_chat("15550000500")
        anchor = await press(page, "into the crash")
        with pytest.raises(errors.PageCrashed):
            await page.confirm("into the crash", anchor, 30)
        assert await page.screen() is Screen.CRASHED
        with pytest.raises(errors.PageCrashed):
            await page.open_chat(new_phone())
        await page.close()
        again = await pages.open(account, kind)
        await again.wait_screen(Screen.MAIN, timeout=30)
        assert (await again.look_for("15550000500", "into the crash", anchor)).verdict is Verdict.SENT
        await again.close()


@pytest.mark.long
async def test_an_older_profile_knows_neither_the_anchor_nor_the_message(pages: Pages, tmp_path: Path) -> None:
    account, phone = new_account(), new_phone()
    directory, copy = tmp_path / "profile", tmp_path / "older"
    page = await pages.open(account, NEWEST, directory=directory)
    await pages.link(account, page)
    await page.close()
    shutil.copytree(directory, copy)
    page = await pages.open(account, NEWEST, directory=directory)
    await send(page, phone, "first")
    anchor = await press(page, "second")
    await page.confirm("second", anchor, 30)
    older = await pages.open(account, NEWEST, directory=copy)
    try:
        await older.wait_screen(Screen.MAIN, timeout=30)
        assert (await older.look_for(phone, "second", anchor)).verdict is Verdict.UNKNOWN
        # The same device in another browser: WhatsApp takes it from the first.
        await page.wait_screen(Screen.CONFLICT, timeout=30)
        with pytest.raises(errors.OpenElsewhere):
            await page.open_chat(phone)
    finally:
        await page.close()
        await older.close()


@pytest.mark.long
async def test_a_page_that_hangs_is_left_and_works_when_opened_again(pages: Pages) -> None:
    async with pages.linked(NEWEST, patience=SHORT) as (account, page):
        with pytest.raises(errors.PageHung):
            await page.open_chat("15550000408")
        async with asyncio.timeout(30):
            await page.close()
        assert not page.alive
        again = await pages.open(account, NEWEST)
        await again.wait_screen(Screen.MAIN, timeout=30)
        await send(again, "15550000408", "now it works")
        assert await pages.received("15550000408") == ["now it works"]
        await again.close()


async def test_a_renderer_that_dies_is_a_crash(pages: Pages) -> None:
    async with pages.linked(NEWEST) as (_, page):
        waiting = asyncio.create_task(page.wait_screen(Screen.QR, timeout=30))
        renderer(page).kill()
        with pytest.raises(errors.PageCrashed):
            await waiting
        await asyncio.wait_for(page.lost.wait(), 30)
        assert not page.alive
        with pytest.raises(errors.PageCrashed):
            await page.open_chat(new_phone())


async def test_a_browser_that_dies_is_lost(pages: Pages) -> None:
    async with pages.linked(NEWEST) as (_, page):
        for process in browsers_of(page._directory):
            process.kill()
        await asyncio.wait_for(page.lost.wait(), 30)
        with pytest.raises(errors.BrowserLost):
            await page.screen()
        await page.close()


@pytest.mark.long
async def test_a_driver_that_dies_is_started_again(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    let_engines_have_their_own(monkeypatch)
    async with Engine() as engine:
        own = Pages(pages.origin, pages.http, engine, pages.root)
        page = await own.open(new_account(), NEWEST)
        await page.wait_screen(Screen.QR, timeout=30)
        driver(page).kill()
        await asyncio.wait_for(page.lost.wait(), 30)
        with pytest.raises(errors.BrowserLost):
            await page.screen()
        await page.close()
        page = await own.open(new_account(), NEWEST)
        await page.wait_screen(Screen.QR, timeout=30)
        await page.close()


async def test_a_profile_in_use_is_refused_and_free_when_closed(pages: Pages) -> None:
    account = new_account()
    directory = profile.directory_of(pages.root, account)
    page = await pages.open(account, NEWEST)
    with pytest.raises(errors.ProfileElsewhere):
        profile.prepare(directory)
    with pytest.raises(errors.ProfileElsewhere):
        profile.delete(directory)
    await page.close()
    profile.prepare(directory)
    profile.delete(directory)
    assert not directory.exists()


async def test_a_page_that_cannot_be_reached_is_offline(pages: Pages) -> None:
    (port,) = held_ports(1)
    nowhere = Pages(f"http://127.0.0.1:{port}", pages.http, pages.engine, pages.root)
    with pytest.raises(errors.Offline):
        await nowhere.open(new_account(), NEWEST)


async def test_a_headless_user_agent_is_refused(pages: Pages) -> None:
    class Plain(Engine):
        @property
        def user_agent(self) -> str:
            return super().user_agent.replace("Chrome/", "HeadlessChrome/")

    async with Plain() as engine:
        page = await Pages(pages.origin, pages.http, engine, pages.root).open(new_account(), NEWEST)
        await page.wait_screen(Screen.UNSUPPORTED, timeout=30)
        with pytest.raises(errors.UiChanged):
            await page.open_chat(new_phone())
        await page.close()


def renderer(page: WhatsApp) -> psutil.Process:
    browser = browsers_of(page._directory)[0]
    return next(each for each in browser.children(recursive=True) if "--type=renderer" in each.cmdline())


def driver(page: WhatsApp) -> psutil.Process:
    parents = [parent for process in browsers_of(page._directory) for parent in process.parents()]
    return next(each for each in parents if "run-driver" in each.cmdline())
