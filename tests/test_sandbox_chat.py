import pytest
from fixtures_browser import until
from fixtures_sandbox import (  # noqa: F401 - fixtures
    Profile,
    a_generation,
    a_linked,
    a_playwright,
    a_profile,
    a_sandbox,
    profiles,
)
from playwright.async_api import expect

#: what the sandbox draws and answers, page by page: the other tests use it
pytestmark = pytest.mark.long


async def test_a_message_gets_its_ticks_and_arrives(linked: Profile) -> None:
    await linked.open("15551110001")
    await linked.page.evaluate("""() => {
        window.states = [];
        new MutationObserver(() => {
            const mark = document.querySelector('#main [data-id] .meta [aria-label]');
            const state = mark && [mark.ariaLabel, mark.dataset.icon ?? mark.querySelector('title').textContent].join();
            if (state && state !== window.states.at(-1)) window.states.push(state);
        }).observe(document, {subtree: true, childList: true});
    }""")
    await linked.box.fill("Hello from the sandbox")
    await linked.box.press("Enter")
    await linked.status("Read").wait_for()
    icons = ["msg-time", "msg-check", "msg-dblcheck", "msg-dblcheck"]
    if linked.generation != "legacy":  # where "delivered" is the name of ONE tick
        icons = ["wds-ic-status-pending", "wds-ic-delivered", "wds-ic-read", "wds-ic-read"]
    labels = [" Pending ", " Sent ", " Delivered ", " Read "]
    assert await linked.page.evaluate("states") == [",".join(pair) for pair in zip(labels, icons, strict=True)]
    [item] = await linked.server.items(f"messages?phone=15551110001&account={linked.account}")
    assert (item["phone"], item["text"], item["account"]) == ("15551110001", "Hello from the sandbox", linked.account)
    assert item["at"].endswith("Z")
    await expect(linked.box).to_have_text("")


async def test_old_markup(profile: Profile) -> None:
    await profile.link("legacy")
    await profile.send("15551110002", "two\nlines")
    main = profile.page.locator("#main")
    bubble = main.locator('[data-id^="true_15551110002@c.us_"] .message-out')
    await bubble.locator('[data-icon="msg-dblcheck"]').wait_for()
    assert await bubble.locator("span.selectable-text").inner_text() == "two\nlines"
    stamp = await bubble.locator(".copyable-text[data-pre-plain-text]").get_attribute("data-pre-plain-text")
    assert stamp is not None
    assert stamp.endswith("] Postrider: ")
    assert await profile.page.locator("[data-testid]:not([data-icon])").count() == 0
    assert await profile.page.locator("svg title").count() == 0
    await profile.server.post(f"{profile.account}/incoming", {"phone": "15551110002", "text": "yes"})
    await main.locator('[data-id^="false_15551110002@c.us_"] .message-in').wait_for()


async def test_new_markup(profile: Profile) -> None:
    await profile.link("2026-08")
    await profile.send("15551110003", "one")
    main = profile.page.locator("#main")
    title = main.locator('[data-testid="msg-meta"] svg title')
    await expect(title).to_have_text("wds-ic-read")
    blue = main.locator('[aria-label=" Read "]')
    assert await blue.evaluate("e => getComputedStyle(e).color") == "rgb(0, 123, 252)"
    await profile.box.fill("two")
    await profile.box.press("Enter")
    await expect(profile.bubbles).to_have_count(2)
    ids = await profile.bubbles.evaluate_all("all => all.map((e) => [e.dataset.id, e.dataset.testid])")
    assert all(testid == f"conv-msg-{bare}" and "_" not in bare for bare, testid in ids)
    assert await main.locator('[data-testid="tail-out"]').count() == 1  # the first of the run only
    assert await main.locator('[data-id] [data-testid="msg-container"]').count() == 2
    assert await main.locator('[data-icon^="msg-"], .message-out').count() == 0


async def test_own_chat(linked: Profile) -> None:
    own = "15551119999"
    assert (await linked.server.post(f"{linked.account}/unlink")).status_code == 200
    await linked.page.locator("[data-ref] canvas").wait_for()
    assert (await linked.server.post(f"{linked.account}/scan", {"phone": own})).status_code == 200
    await linked.chats.wait_for()
    title = linked.page.locator("#main header span[title]")
    row = linked.chats.get_by_role("row", name="(You)")
    assert await row.count() == 0  # as any chat, it is listed once it has a message
    await linked.send(own, "a note")
    await linked.status("Read").wait_for()
    assert await title.get_attribute("title") == "+1 555-111-9999 (You)"
    await expect(linked.page.locator("#main header")).to_contain_text("Message yourself")
    assert await linked.box.get_attribute("aria-label") == "Type a message to +1 555-111-9999 (You)"
    await linked.goto()
    assert await row.locator("span[title]").first.get_attribute("title") == "\u202a+1 555-111-9999 (You)\u202c"
    names = ("message-yourself-row", "cell-frame-container")
    marks = [await row.locator(f'[data-testid="{name}"]').count() for name in names]
    assert marks == ([1, 0] if linked.generation == "2026-08" else [0, 0])
    await row.click()
    await expect(linked.bubbles).to_have_count(1)


async def test_renamed(linked: Profile) -> None:
    await linked.open("15551110016")
    assert (await linked.server.post(f"{linked.account}/rename", {"css": '#main [data-tab="10"]'})).status_code == 200
    box = linked.page.locator('[role="renamed-textbox"][data-tab="renamed-10"][aria-label^="renamed-"]')
    await box.wait_for()
    assert await linked.box.count() == 0
    await box.fill("still works")
    await box.press("Enter")
    await linked.ticked.wait_for()
    await linked.goto("send?phone=15551110016")
    await box.wait_for()  # after a load, too
    assert (await linked.server.post(f"{linked.account}/rename")).status_code == 200
    await box.wait_for(state="detached")  # or the load that this causes cuts off the next one
    await linked.chats.wait_for()
    await linked.open("15551110016")


async def test_only_trusted_input_writes(linked: Profile) -> None:
    await linked.open("15551110004")
    await linked.box.evaluate("""box => {
        box.textContent = 'assigned';
        box.dispatchEvent(new InputEvent('input', {bubbles: true, data: 'assigned'}));
        box.dispatchEvent(new InputEvent('beforeinput', {
            bubbles: true, cancelable: true, data: 'x', inputType: 'insertText'
        }));
        box.dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, key: 'Enter'}));
    }""")
    await expect(linked.box).to_have_text("")
    await expect(linked.page.get_by_role("button", name="Voice message")).to_be_visible()
    await expect(linked.bubbles).to_have_count(0)
    await linked.chats.get_by_title("Aunt Rosa").evaluate("row => row.click()")
    await expect(linked.page.locator("#main header")).to_contain_text("+1 555-111-0004")


async def test_box_is_edited_like_a_box(linked: Profile) -> None:
    await linked.open("15551110005")
    box, keyboard = linked.box, linked.page.keyboard
    await box.press_sequentially("a cat")
    for _ in range(3):
        await keyboard.press("ArrowLeft")
    await keyboard.type("big ")
    assert await box.inner_text() == "a big cat"
    await keyboard.press("End")
    await keyboard.press("Shift+Enter")
    await keyboard.insert_text("second 😀 line")
    assert await box.inner_text() == "a big cat\nsecond 😀 line"
    await keyboard.press("Backspace")
    await keyboard.press("ControlOrMeta+Backspace")
    await keyboard.press("ControlOrMeta+a")
    await keyboard.press("Delete")
    assert (await box.inner_text()).strip() == ""
    await box.fill("שלום עולם")
    assert await box.locator("p").evaluate("p => getComputedStyle(p).direction") == "rtl"


async def test_draft_is_kept_and_link_text_is_not_sent(linked: Profile) -> None:
    await linked.open("15551110006", text="from%20a%20link")
    await expect(linked.box).to_have_text("from a link")
    assert linked.page.url.endswith(f"/web/{linked.account}/")
    await linked.box.press("End")
    await linked.box.press_sequentially("!")

    async def draft_is_in_the_profile() -> bool:
        drafts = "import('../static/model.js').then((m) => m.chats()).then((all) => all.map((chat) => chat.draft))"
        return "from a link!" in await linked.page.evaluate(drafts)

    await until(draft_is_in_the_profile)
    await linked.open("15551110007")
    await expect(linked.box).to_have_text("")
    await linked.open("15551110006")
    await expect(linked.box).to_have_text("from a link!")
    await expect(linked.bubbles).to_have_count(0)
    assert await linked.server.items(f"messages?phone=15551110006&account={linked.account}") == []


async def test_emoji_are_pictures_and_the_text_arrives_whole(linked: Profile) -> None:
    text = "Hi 👩‍👩‍👧 there 🇩🇪\n\n<b>not bold</b> “שלום”"
    await linked.send("15551110008", text)
    words = linked.bubbles.locator("[data-pre-plain-text]")
    assert await words.inner_text() == "Hi  there \n\n<b>not bold</b> “שלום”"
    assert await words.locator("img").evaluate_all("all => all.map((image) => image.alt)") == ["👩‍👩‍👧", "🇩🇪"]
    await linked.ticked.first.wait_for()
    [item] = await linked.server.items(f"messages?phone=15551110008&account={linked.account}")
    assert item["text"] == text


async def test_marks_become_what_they_mean(linked: Profile) -> None:
    await linked.send("15551110014", "*bold* _it *b*_ 2*3*4 `x*y*`\n- one\n- ~two~\n> quote\nend")
    words = linked.bubbles.locator('[data-pre-plain-text^="["]')
    assert (await words.inner_text()).split() == ["bold", "it", "b", "2*3*4", "x*y*", "one", "two", "quote", "end"]
    assert await words.locator("strong, em, del, code, li, blockquote").count() == 8


async def test_long_text_is_folded(linked: Profile) -> None:
    text = "0123456789 " * 100
    await linked.send("15551110015", text)
    words = linked.bubbles.locator("[data-pre-plain-text]")
    assert await words.inner_text() == f"{text[:768]}… Read more"
    await words.get_by_role("button", name="Read more").click()
    assert (await words.inner_text()).strip() == text.strip()
    await linked.ticked.wait_for()
    [item] = await linked.server.items(f"messages?phone=15551110015&account={linked.account}")
    assert item["text"] == text.strip(), "the page trims what it sends"


async def test_longest_message(linked: Profile) -> None:
    await linked.open("15551110009")
    await linked.box.fill("x" * 65_540)
    await linked.box.press("Enter")
    await linked.ticked.first.wait_for()
    [item] = await linked.server.items(f"messages?phone=15551110009&account={linked.account}")
    assert item["text"] == "x" * 65_536


async def test_send_button_is_there_only_with_text(linked: Profile) -> None:
    await linked.open("15551110010")
    send = linked.page.locator('#main button[aria-label="Send"]')
    assert await send.count() == 0
    await linked.box.fill("by the button")
    await send.click()
    await linked.ticked.first.wait_for()
    assert await send.count() == 0


async def test_chat_list_is_virtual_and_searched(linked: Profile) -> None:
    await linked.goto()
    rows = linked.chats.get_by_role("row")
    # Drawn once the profile has been read; until then there are no rows to count.
    await rows.nth(10).wait_for()
    total = int(await linked.chats.get_attribute("aria-rowcount") or 0)
    assert 10 < await rows.count() < total
    await linked.page.locator("#pane-side").hover()
    await linked.page.mouse.wheel(0, 100_000)
    await linked.chats.get_by_title("שירה לוי").wait_for()
    assert await linked.chats.get_by_title("Aunt Rosa").count() == 0

    await linked.send("15551110011", "findable")
    search = linked.page.locator("#side input[data-tab='3']")
    await search.evaluate("input => { input.value = 'Aunt'; input.dispatchEvent(new Event('input')); }")
    assert await rows.count() > 5
    await search.fill("+1 (555) 111-0011")
    await expect(rows).to_have_count(2)  # a heading is a row too; which stands first in the DOM is the page's affair
    assert await search.get_attribute("aria-label") is None
    await expect(rows.filter(has_text="Chats")).to_have_text("Chats")
    title = await rows.locator("span[title]").first.get_attribute("title")
    assert title == "\u202a+1 555-111-0011\u202c"
    await search.fill("Aunt Rosa")
    await expect(rows).to_have_count(2)
    await rows.filter(has=linked.page.get_by_title("Aunt Rosa")).click()
    await expect(linked.page.locator("#main header")).to_have_text("Aunt Rosa")
    await linked.page.locator('#main div[aria-label="Type a message to Aunt Rosa"]').wait_for()


async def test_messages_are_virtual_and_come_back(linked: Profile) -> None:
    await linked.goto()
    await linked.page.locator("#side input").fill("Ben Okafor")
    await linked.chats.get_by_title("Ben Okafor").click()
    await expect(linked.bubbles).to_have_count(60)
    newest = await linked.bubbles.last.get_attribute("data-id")
    end_to_end = linked.page.locator("#main").get_by_text("end-to-end encrypted")
    assert await end_to_end.count() == 0
    panel = linked.page.locator('#main [data-tab="8"]')

    async def oldest_is_there() -> bool:
        await panel.evaluate("panel => panel.scrollTop = 0")
        return await end_to_end.count() == 1

    await until(oldest_is_there)
    assert await linked.page.locator(f'[data-id="{newest}"]').count() == 0

    async def newest_is_there() -> bool:
        await panel.evaluate("panel => panel.scrollTop = panel.scrollHeight")
        return await linked.page.locator(f'[data-id="{newest}"]').count() == 1

    await until(newest_is_there)


async def test_incoming_message_is_unread_until_its_chat_is_open(linked: Profile) -> None:
    await linked.goto()
    for text in ("first", "STOP"):
        await linked.server.post(f"{linked.account}/incoming", {"phone": "15551110012", "text": text})
    row = linked.chats.get_by_role("row").filter(has=linked.page.get_by_title("+1 555-111-0012"))
    await row.locator('[aria-label="2 unread messages"]').wait_for()
    await expect(row).to_contain_text("STOP")
    await row.click()
    await expect(linked.bubbles).to_have_count(2)
    await expect(linked.bubbles.last).to_contain_text("STOP")
    await expect(linked.page.locator("#main").get_by_text("2 unread messages")).to_be_visible()
    await expect(linked.chats.locator('[aria-label*="unread message"]')).to_have_count(0)
    assert await linked.page.locator('#main [aria-label=" Sent "], #main [aria-label=" Read "]').count() == 0


async def test_hidden_tab_draws_only_the_last_message(linked: Profile) -> None:
    await linked.goto()
    for text in ("one", "two"):
        await linked.server.post(f"{linked.account}/incoming", {"phone": "15551110013", "text": text})
    await linked.chats.get_by_title("+1 555-111-0013").click()
    await expect(linked.bubbles).to_have_count(2)
    await linked.page.evaluate("""() => {
        Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }""")
    await expect(linked.bubbles).to_have_count(1)
    await expect(linked.bubbles).to_contain_text("two")
    await linked.goto()
