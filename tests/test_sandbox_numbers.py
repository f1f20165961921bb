from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_browser import until
from fixtures_sandbox import (  # noqa: F401 - fixtures
    QUICK,
    OpenProfile,
    Profile,
    a_generation,
    a_linked,
    a_playwright,
    a_profile,
    a_sandbox,
    profiles,
    serve,
)
from playwright.async_api import expect

#: what the sandbox draws and answers, page by page: the other tests use it
pytestmark = pytest.mark.long

#: keeps what each dialog says, however short it stays
NOTE = """window.said = [];
new MutationObserver(() => {
    const dialog = document.querySelector("[data-animate-modal-backdrop]");
    if (dialog) window.said.push(dialog.innerText);
}).observe(document, { childList: true, subtree: true });"""


async def test_0404_is_not_on_whatsapp(open_profile: OpenProfile, tmp_path: Path, generation: str) -> None:
    async with serve(tmp_path / "data", replace(QUICK, lookup=0.3, popup_stay=0.4)) as server:
        profile = await open_profile(server=server)
        await profile.context.add_init_script(NOTE)
        await profile.link(generation)
        await _sees_that_it_is_not_on_whatsapp(profile)


async def _sees_that_it_is_not_on_whatsapp(profile: Profile) -> None:
    await profile.goto("send?phone=15550000404&text=x")
    backdrop = profile.page.locator("[data-animate-modal-backdrop]")
    await backdrop.get_by_role("button", name="OK").wait_for()
    first = (await profile.page.evaluate("window.said"))[0]
    assert "Starting chat" in first
    assert "Cancel" in first
    words = "The number +1 555-000-0404 isn't on WhatsApp."
    structure = '> div[role="dialog"][aria-modal="true"] > div[data-animate-modal-popup] > div[data-animate-modal-body]'
    await expect(backdrop.locator(structure)).to_contain_text(words)
    assert await backdrop.locator("[data-animate-modal-popup]").get_attribute("aria-label") == words
    await backdrop.get_by_role("button", name="OK").click()
    await expect(backdrop).to_have_count(0)
    assert await profile.page.locator("#main").count() == 0
    assert await profile.server.items("messages?phone=15550000404") == []


async def test_0408_blocks_the_page_once(linked: Profile) -> None:
    least = linked.server.timing.hang * 900
    longest = f"(list) => list.getEntries().some((each) => each.duration > {least}) && done()"
    await linked.goto("send?phone=15550000408", wait=False)
    await linked.page.evaluate(
        f"new Promise((done) => new PerformanceObserver({longest}).observe({{type: 'longtask', buffered: true}}))"
    )
    await linked.send("15550000408", "worked the second time")
    await linked.ticked.first.wait_for()
    assert len(await linked.server.items(f"messages?phone=15550000408&account={linked.account}")) == 1


async def test_0409_stays_at_the_clock_until_released(linked: Profile) -> None:
    where = f"messages?phone=15550000409&account={linked.account}"
    await linked.send("15550000409", "held")
    await linked.status("Pending").wait_for()
    await linked.send("15551110020", "passes by")
    await linked.status("Read").wait_for()
    await linked.open("15550000409")
    await linked.status("Pending").wait_for()
    assert await linked.server.items(where) == []
    answer = await linked.server.post(f"{linked.account}/release")
    assert answer.json() == {"released": 1}
    await linked.status("Read").wait_for()
    assert [item["text"] for item in await linked.server.items(where)] == ["held"]


async def test_0429_restricts_new_chats_and_known_ones_go_on(linked: Profile) -> None:
    await linked.send("15551110021", "known")
    await linked.ticked.first.wait_for()
    await linked.goto("send?phone=15550000429")
    bar = linked.page.locator("#main footer").get_by_text("You can't start new chats right now.")
    await bar.wait_for()
    await expect(linked.box).to_have_count(0)
    await linked.send("15551110021", "still known")
    await expect(linked.status("Read")).to_have_count(2)
    await linked.goto("send?phone=15551110022")
    await bar.wait_for()
    await linked.server.post(f"{linked.account}/unrestrict")
    await linked.box.wait_for()
    await expect(bar).to_have_count(0)


async def test_0403_shows_the_ban_screen_until_unban(linked: Profile) -> None:
    await linked.goto("send?phone=15550000403")
    await linked.page.get_by_text("You're temporarily banned from WhatsApp because you sent too many").wait_for()
    await linked.page.get_by_text("You'll be able to use WhatsApp again in 24:00:00").wait_for()
    assert await linked.page.locator("#side, #pane-side").count() == 0
    await linked.goto()
    await linked.page.get_by_text("You're temporarily banned").wait_for()
    await linked.server.post(f"{linked.account}/unban")
    await linked.chats.wait_for()
    await linked.send("15550000403", "after the ban")
    await linked.ticked.first.wait_for()


async def test_0500_crashes_once_and_the_recipient_has_it_once(linked: Profile) -> None:
    await linked.send("15550000500", "through the crash")
    await linked.page.get_by_text("Unexpected error occurred.").wait_for()
    assert await linked.page.locator("#side").count() == 0
    await linked.page.get_by_role("button", name="Reload").click()
    await linked.chats.wait_for()
    await linked.open("15550000500")
    await expect(linked.bubbles).to_have_count(1)
    await linked.status("Read").wait_for()
    await linked.box.fill("no crash now")
    await linked.box.press("Enter")
    await expect(linked.status("Read")).to_have_count(2)
    items = await linked.server.items(f"messages?phone=15550000500&account={linked.account}")
    assert [item["text"] for item in items] == ["through the crash", "no crash now"]


async def test_0503_is_offline_for_a_while(linked: Profile) -> None:
    await linked.send("15550000503", "goes out later")
    await linked.page.get_by_role("alert").get_by_text("Computer not connected").wait_for()
    await linked.status("Pending").wait_for()
    await linked.ticked.first.wait_for()
    await expect(linked.page.get_by_text("Computer not connected")).to_have_count(0)

    async def arrived_once() -> bool:
        return len(await linked.server.items(f"messages?phone=15550000503&account={linked.account}")) == 1

    await until(arrived_once)
