"""A page on which nothing changes is not read again for new messages; and nothing that may have changed is missed."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fixtures_browser import PATIENCE

from browser.engine.engine import Engine, Look
from browser.page import inbox, selectors
from browser.page.chats import Chats
from browser.page.history import History
from browser.page.inbox import Glance, Inbox, Unread
from browser.page.reader import Reader
from errors import PageHung

SELECTORS = selectors.load()
HTML = """<style id="sheet"></style>
<div id="side"><div id="pane-side">
  <div role="row"><span title="Ann">Ann</span><b data-testid="icon-unread-count">2</b></div>
</div></div>
<div id="main"><header><span dir="auto" title="Ben">Ben</span></header>
  <div role="application"><div data-id="A1">hello</div></div></div>"""
SEEN = Glance("Ben", "A1", (Unread("Ann", 2),))
#: each way in which a page may change, and what is seen then
CHANGES = {
    "a text": ("document.querySelector('b').firstChild.data = '3'", replace(SEEN, unread=(Unread("Ann", 3),))),
    "an attribute": ("document.querySelector('#main span').title = 'Eve'", replace(SEEN, name="Eve")),
    "a new message": (
        "document.querySelector('[role=application]').insertAdjacentHTML('beforeend', '<div data-id=B2>new</div>')",
        replace(SEEN, last="B2"),
    ),
    "a message that goes": ("document.querySelector('[data-id]').remove()", replace(SEEN, last=None)),
    "a row that is hidden": ("document.querySelector('[role=row]').hidden = true", replace(SEEN, unread=())),
    "a list that is hidden": ("document.body.className = 'x'; sheet.textContent = '.x { display: none }'", None),
    "another body": ("document.body = document.createElement('body')", None),
    "another tree": ("document.documentElement.replaceWith(document.createElement('html'))", None),
    "a document written anew": ("document.open(); document.write('<p>else</p>'); document.close()", None),
}


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[Engine]:
    async with Engine() as engine:
        yield engine


@pytest.fixture(scope="module")
async def opened(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reader]:
    context = await engine.open(tmp_path_factory.mktemp("profile"), Look(1000, 700))
    yield Reader(context.pages[0], SELECTORS, replace(PATIENCE, answer=5))
    await context.close()


@pytest.fixture
async def looking(opened: Reader) -> Inbox:
    """An inbox that has looked at its page once; since then the page counts how often it is searched."""
    await opened.page.goto("about:blank")
    await opened.page.set_content(HTML)
    looking = Inbox(opened, History(opened), Chats(opened, lambda phone: phone))
    assert await looking.glance() == SEEN
    await opened.page.evaluate("""() => {
        window.searches = 0;
        const search = document.querySelectorAll;
        document.querySelectorAll = (css) => (window.searches += 1, search.call(document, css));
    }""")
    return looking


async def searches(reader: Reader) -> int:
    return int(await reader.page.evaluate("searches"))


async def test_a_page_at_rest_is_not_read_again(opened: Reader, looking: Inbox) -> None:
    assert [await looking.glance() for _ in range(3)] == [SEEN] * 3
    assert await searches(opened) == 0


async def test_a_page_that_changes_all_the_time_is_read_each_time(opened: Reader, looking: Inbox) -> None:
    for number in (3, 4, 5):
        await opened.page.evaluate("(number) => { document.querySelector('b').textContent = number }", number)
        assert (await looking.glance()).unread == (Unread("Ann", number),)
        assert await looking.glance() == await looking.glance()


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_is_seen(opened: Reader, looking: Inbox, change: str) -> None:
    script, wanted = CHANGES[change]
    await opened.page.evaluate(f"() => {{ {script} }}")
    seen = await looking.glance()
    assert seen == wanted if wanted else (seen.unread == ())
    assert await looking.glance() == seen


async def test_a_document_that_was_loaded_is_read(opened: Reader, looking: Inbox) -> None:
    await opened.page.goto("data:text/html,<div id='main'><header><span dir='auto'>Eve</span></header></div>")
    assert await looking.glance() == Glance("Eve", None, ())
    await opened.page.reload()
    assert await looking.glance() == Glance("Eve", None, ())


async def test_readers_that_were_lost_are_made_anew(opened: Reader, looking: Inbox) -> None:
    assert opened._readers
    await opened._readers[1].dispose()
    opened._readers = None
    await opened.page.evaluate("document.querySelector('b').remove()")
    assert await looking.glance() == replace(SEEN, unread=())


async def test_other_selectors_read_the_page_anew(opened: Reader, looking: Inbox) -> None:
    elements = {**SELECTORS.elements, "header_title": ["[data-id]"]}
    opened.selectors = replace(SELECTORS, elements=elements)
    try:
        assert await looking.glance() == replace(SEEN, name="hello")
    finally:
        opened.selectors = SELECTORS


async def test_an_answer_that_came_too_late_is_not_missed(opened: Reader, looking: Inbox) -> None:
    await opened.page.evaluate("""() => {
        document.querySelector('b').textContent = '7';
        setTimeout(() => { const end = performance.now() + 1000; while (performance.now() < end); }, 0);
    }""")
    patience, opened.patience = opened.patience, replace(PATIENCE, answer=0.2)
    try:
        with pytest.raises(PageHung):
            await looking.glance()
    finally:
        opened.patience = patience
    assert (await looking.glance()).unread == (Unread("Ann", 7),)


async def test_what_no_change_of_the_document_shows_is_seen_a_while_later(
    opened: Reader, looking: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened.page.evaluate("sheet.sheet.insertRule('[role=row] { display: none }')")
    assert await looking.glance() == SEEN
    monkeypatch.setattr(inbox, "GLANCE_SECONDS", 0)
    assert await looking.glance() == replace(SEEN, unread=())


async def test_what_is_read_for_a_message_is_always_read_from_the_page(opened: Reader, looking: Inbox) -> None:
    await opened.page.evaluate("sheet.sheet.insertRule('[role=row] { display: none }')")
    assert (await looking.glance(), await opened.ask("chats")) == (SEEN, [])
    await opened.page.evaluate("document.querySelector('#main span').title = 'Eve'")
    assert (await opened.ask("chat"))["title"] == (await opened.ask("ready"))["chat"]["title"] == "Eve"
    before = await searches(opened)
    for question in ("sight", "rows", "chats", "chat", "ready"):
        assert await opened.ask(question) == await opened.ask(question)
        now = await searches(opened)
        assert now - before >= 2, question  # one search for each, at least
        before = now
