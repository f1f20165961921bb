import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_browser import until
from fixtures_sandbox import (  # noqa: F401 - fixtures
    QUICK,
    OpenProfile,
    Profile,
    SandboxServer,
    a_generation,
    a_playwright,
    a_profile,
    a_sandbox,
    profiles,
    serve,
)
from playwright.async_api import expect

#: what the sandbox draws and answers, page by page: the other tests use it
pytestmark = pytest.mark.long


async def test_qr_code_links_and_holds_the_whole_payload(profile: Profile, generation: str) -> None:
    await profile.goto(f"?dom={generation}")
    canvas = profile.page.locator('[data-ref] canvas[role="img"][aria-label="Scan this QR code to link a device!"]')
    await canvas.wait_for()
    payload = await profile.page.locator("[data-ref]").get_attribute("data-ref")
    assert payload is not None
    assert len(payload.split(",")) == 5
    dark = (
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v).length"
    )
    assert await canvas.evaluate(dark) > 5_000
    testids = await profile.page.locator('[data-testid="link-device-qr-code"]').count()
    assert testids == (1 if generation == "2026-08" else 0)

    # It is shown for a moment only, which the page itself does not miss.
    await profile.page.evaluate("""() => new MutationObserver(() => {
        window.loaded ||= document.body.textContent.includes("Loading your chats [");
    }).observe(document.body, {subtree: true, childList: true, characterData: true})""")
    assert (await profile.server.post(f"{profile.account}/scan", {"qr": payload})).status_code == 200
    await profile.chats.wait_for()
    assert await profile.page.evaluate("window.loaded")
    assert await profile.page.locator("#wa_web_initial_startup").count() == 0
    marker = await profile.page.evaluate("localStorage.getItem('last-wid-md')")
    assert re.fullmatch(r'"1555\d{7}:1@c\.us"', marker)


async def test_news_takes_every_click_until_it_is_closed(open_profile: OpenProfile) -> None:
    profile = await open_profile(news=True)
    await profile.goto()
    await profile.page.locator("[data-ref]").wait_for()
    await profile.server.post(f"{profile.account}/scan")
    dialog = profile.page.locator('[role="dialog"][aria-modal="true"]', has_text="What\u2019s new on WhatsApp Web")
    await dialog.wait_for()
    row = await profile.chats.get_by_title("Aunt Rosa").bounding_box()
    assert row is not None
    await profile.page.mouse.click(row["x"] + 5, row["y"] + 5)
    assert await profile.page.locator("#main").count() == 0
    await dialog.get_by_role("button", name="Close").click()
    await profile.page.mouse.click(row["x"] + 5, row["y"] + 5)
    await profile.page.locator("#main").wait_for()


async def test_login_is_in_the_profile_and_nowhere_else(open_profile: OpenProfile, tmp_path: Path) -> None:
    first = await open_profile("one")
    await first.link()
    await first.send("15551230001", "before the copy")
    await first.ticked.first.wait_for()
    await first.context.close()
    shutil.copytree(tmp_path / "one", tmp_path / "older")

    again = await open_profile("one")
    await again.send("15551230001", "after the copy")
    await expect(again.bubbles).to_have_count(2)
    await again.status("Read").nth(1).wait_for()
    await again.context.close()

    older = await open_profile("older")
    await older.open("15551230001")
    await expect(older.bubbles).to_have_count(1)
    await expect(older.bubbles).to_contain_text("before the copy")
    assert len(await older.server.items(f"messages?account={older.account}")) == 2

    stranger = await open_profile("stranger")
    await stranger.goto()
    await stranger.page.locator("[data-ref]").wait_for()


async def test_key_cannot_be_read_out(profile: Profile) -> None:
    await profile.link()
    extractable = await profile.page.evaluate(
        "(async () => (await (await import('../static/keys.js')).load()).key.extractable)()"
    )
    assert extractable is False


async def test_codes_rotate_and_end_with_a_button(open_profile: OpenProfile, tmp_path: Path) -> None:
    async with serve(tmp_path / "data", replace(QUICK, qr_first_life=0.5, qr_life=0.1)) as server:
        profile = await open_profile(server=server)
        await profile.page.add_init_script("""
            window.refs = [];
            new MutationObserver(() => {
                const ref = document.querySelector('[data-ref]')?.dataset.ref;
                if (ref && ref !== window.refs.at(-1)) window.refs.push(ref);
            }).observe(document, {subtree: true, childList: true, attributes: true});
        """)
        await profile.goto()
        reload = profile.page.locator("[data-ref] button", has_text="Click to reload QR code")
        await reload.wait_for()
        assert len(await profile.page.evaluate("refs")) == 6
        assert (await server.post(f"{profile.account}/scan")).status_code == 409
        await reload.click()
        await expect(reload).to_have_count(0)
        await profile.page.locator("[data-ref] canvas").wait_for()
        assert (await server.post(f"{profile.account}/scan")).status_code == 200
        await profile.chats.wait_for()


async def test_spinner_without_data_ref_until_the_first_code(open_profile: OpenProfile, tmp_path: Path) -> None:
    async with serve(tmp_path / "data", replace(QUICK, qr_wait=60)) as server:
        profile = await open_profile(server=server)
        await profile.goto()
        await profile.page.locator(".qr .spinner").wait_for()
        assert await profile.page.locator("[data-ref]").count() == 0


async def test_pairing_code_links_too(profile: Profile, generation: str) -> None:
    await profile.goto(f"?dom={generation}")
    await profile.page.locator("[data-ref] canvas").wait_for()
    await profile.page.get_by_text("Link with phone number instead.").click()
    await profile.page.locator('input[aria-label^="Type your phone number"]').fill("+1 555 123 4567")
    await profile.page.get_by_role("button", name="Next").click()
    cells = profile.page.locator('[aria-label="Enter code on phone:"][aria-details]')
    await cells.wait_for()
    shown = re.sub(r"\s", "", await cells.inner_text())
    assert re.fullmatch(r"[1-9A-Z]{4}-[1-9A-Z]{4}", shown)
    assert (await profile.server.post(f"{profile.account}/pair", {"code": "ZZZZ-0000"})).status_code == 409
    assert (await profile.server.post(f"{profile.account}/pair", {"code": shown})).status_code == 200
    await profile.chats.wait_for()


async def test_unlinked_by_the_phone_it_forgets_everything(profile: Profile) -> None:
    await profile.link()
    await profile.send("15551230002", "soon gone")
    await profile.ticked.first.wait_for()
    await profile.server.post(f"{profile.account}/unlink")
    await profile.page.wait_for_url("**/?post_logout=1")
    await profile.page.get_by_text("You have been logged out.").wait_for()
    await profile.page.locator("[data-ref]").wait_for()
    await profile.server.post(f"{profile.account}/scan")
    await profile.chats.wait_for()
    assert await profile.chats.get_by_title("+1 555-123-0002").count() == 0


async def test_what_comes_while_it_logs_out_is_not_stored(profile: Profile) -> None:
    await profile.link()
    stored = """async () => {
        const main = document.querySelector('script[type="module"]').src;
        const model = await import(main.replace("main.js", "model.js"));
        const forgotten = model.forget();
        const late = [model.saveChat({ phone: "15551230002", title: "late" }), model.lastIncoming()];
        await forgotten;
        late.push(model.saveChat({ phone: "15551230003", title: "later" }));
        await Promise.race([Promise.allSettled(late), new Promise((resolve) => setTimeout(resolve, 300))]);
        return (await indexedDB.databases()).map(({ name }) => name);
    }"""
    assert await profile.page.evaluate(stored) == ["wawc_db_enc"]


async def test_unlinked_while_it_was_closed(open_profile: OpenProfile) -> None:
    profile = await open_profile()
    await profile.link()
    await profile.context.close()
    await profile.server.post(f"{profile.account}/unlink")
    again = await open_profile()
    await again.goto()
    await again.page.wait_for_url("**/?post_logout=1")
    await again.page.locator("[data-ref]").wait_for()


async def test_log_out_from_the_menu(profile: Profile, generation: str) -> None:
    await profile.link(generation)
    await profile.page.locator('[aria-label="Menu"]').click()
    await profile.page.locator('[role="menuitem"][aria-label="Log out"]').click()
    await profile.page.get_by_role("dialog").get_by_role("button", name="Log out").click()
    await profile.page.wait_for_url("**/?post_logout=1")
    assert await profile.page.evaluate("localStorage.getItem('last-wid-md')") is None
    await profile.page.locator("[data-ref]").wait_for()


async def test_linked_with_another_number(profile: Profile) -> None:
    await profile.goto()
    await profile.page.locator("[data-ref]").wait_for()
    answer = await profile.server.post(f"{profile.account}/scan", {"phone": "+1 555-999-8888"})
    assert answer.json()["phone"] == "15559998888"
    await profile.chats.wait_for()
    assert await profile.page.evaluate("localStorage.getItem('last-wid-md')") == '"15559998888:1@c.us"'


async def test_second_page_of_a_profile_asks_first(profile: Profile) -> None:
    await profile.link()
    second = await profile.context.new_page()
    await second.goto(profile.page.url)
    question = 'WhatsApp is open in another window. Click "Use here" to use WhatsApp in this window.'
    await second.get_by_role("dialog").get_by_text(question).wait_for()
    await second.get_by_role("button", name="Use here").click()
    await second.locator("#pane-side").wait_for()
    await profile.page.get_by_text(question).wait_for()


async def test_same_device_in_another_browser_takes_over(open_profile: OpenProfile, tmp_path: Path) -> None:
    profile = await open_profile("one")
    await profile.link()
    await profile.context.close()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = await open_profile("one"), await open_profile("two")
    await one.goto()
    await one.chats.wait_for()
    await two.goto()
    await two.chats.wait_for()
    await one.page.get_by_text("WhatsApp is open on another computer or browser.").wait_for()
    await one.page.get_by_role("button", name="Use here").click()
    await one.chats.wait_for()
    await two.page.get_by_text("WhatsApp is open on another computer or browser.").wait_for()


async def test_the_record_of_sessions_shows_two_at_once(open_profile: OpenProfile, tmp_path: Path) -> None:
    profile = await open_profile("one")
    await profile.link()
    await profile.context.close()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = await open_profile("one"), await open_profile("two")
    where = f"sessions?account={profile.account}"
    for each in (one, two):
        await each.goto()
        await each.chats.wait_for()
    # The displaced page goes by itself; it was there when the other one came.
    await one.page.get_by_text("WhatsApp is open on another computer or browser.").wait_for()
    await until(lambda: _sessions(one, where, 3, 1))
    linked, first, second = await one.server.items(where)
    assert linked["end"] <= first["start"] < second["start"] < first["end"]


async def test_a_page_that_is_loaded_anew_is_no_second_session(profile: Profile) -> None:
    await profile.link()
    where = f"sessions?account={profile.account}"
    await profile.page.reload()
    await profile.chats.wait_for()
    await until(lambda: _sessions(profile, where, 2, 1))
    first, second = await profile.server.items(where)
    assert first["end"] <= second["start"]


async def _sessions(profile: Profile, where: str, count: int, live: int) -> bool:
    items = await profile.server.items(where)
    return (len(items), sum(item["end"] is None for item in items)) == (count, live)


async def test_headless_chrome_is_refused(sandbox: SandboxServer) -> None:
    answer = await sandbox.client.get("web/anyone/", headers={"user-agent": "Mozilla/5.0 HeadlessChrome/156.0"})
    assert "WhatsApp works with Google Chrome 100+" in answer.text
    assert "main.js" not in answer.text


async def test_sessions_have_a_start_and_an_end(open_profile: OpenProfile) -> None:
    profile = await open_profile()
    await profile.link()
    where = f"sessions?account={profile.account}"
    [live] = await profile.server.items(where)
    assert live["start"].endswith("Z")
    assert live["end"] is None
    await profile.context.close()

    async def ended() -> bool:
        [session] = await profile.server.items(where)
        return bool(session["end"] and session["end"] >= session["start"])

    await until(ended)
