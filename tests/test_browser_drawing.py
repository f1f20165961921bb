"""Whatever a text holds, the bubble that the page draws of it is known again, and no other text is taken for it."""

import re
import unicodedata
from collections.abc import AsyncIterator

import pytest
from fixtures_browser import DOMS, PATIENCE, SELECTORS, Pages, pages, query_of
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from browser.engine.engine import Look
from browser.page.bubbles import Side, Tick, read_statuses
from browser.page.reader import Reader
from browser.page.text_matching import EMOJI, LISTED, essence

__all__ = ["pages"]

PARTS = [
    "*", "_", "~", "`", "```", "- ", "* ", "> ", "1. ", "24. ", "10. ", "-", ".", "\n", "\n", " ", "   ", "\t",
    "word", "Order", "x", "2026", ":)", "<3", "@ann", "é", unicodedata.normalize("NFD", "Việt"),
    unicodedata.normalize("NFD", "한국어"), "שלום", "مرحبا", "नमस्ते", "🎉", "👩\u200d👩\u200d👧", "👍🏽", "🇩🇪",
    "❤\ufe0f", "1\ufe0f\u20e3", "\u200e", "\u00a0", "…", "Read more", "https://example.org/?a=1_b*c", "a" * 300,
    "\u200e" * 400,
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PARTS), min_size=1, max_size=14).map("".join)
#: draws messages, of ours unless they say otherwise, each with its place as its id, and nothing else
DRAW = """async (messages) => {
    const main_js = document.querySelector("script[type=module]").src;
    const { bubbleRow } = await import(main_js.replace("main.js", "bubble.js"));
    const chat = { phone: "15551234567", title: "Ann" };
    const list = document.createElement("div");
    list.role = "application";
    list.dataset.testid = "conversation-panel-messages";
    list.append(...messages.map((message, place) =>
        bubbleRow(chat, { id: String(place), mine: true, ack: 1, at: 0, ...message }, { first: true, self: "me" })));
    const main = document.createElement("div");
    main.id = "main";
    main.append(list);
    document.body.replaceChildren(main);
}"""


@pytest.fixture(scope="module", params=DOMS)
async def reader(pages: Pages, request: pytest.FixtureRequest) -> AsyncIterator[Reader]:
    directory = pages.root / f"drawing-{request.param}"
    context = await pages.engine.open(directory, Look(1000, 700))
    page = context.pages[0]
    # A page that shows something else on order has no life of its own beneath it.
    await pages.phone("drawing", "show", screen="unknown")
    await page.goto(f"{pages.origin}/sandbox/web/drawing/{query_of(str(request.param))}")
    await page.get_by_text("Choose your avatar").wait_for()
    yield Reader(page, SELECTORS, PATIENCE)
    await context.close()


def digits(text: str) -> str:
    return "".join(re.findall(r"\d", EMOJI.sub("", text)))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(texts=st.lists(TEXT, min_size=1, max_size=25))
@example(
    texts=[
        "*1. Your order* is ready", "*2. Pagamento*\nPix", "- 24. Dezember: zu\n- 25. Dezember: zu", "1. 24. Mai",
        "10. 5. 2026", "3. 2. 1. Go!", "- a\n- b", "1. Item\n   - sub\n2. Item", "**SOD Blast:** ok",
        "Pedido 42\n-\nTotal: 10", "a\n1.\nb", "a\n>\nb", "📋 *Menu*" + "\u200e" * 850 + "\n1) Pizza",
        "Pedido 42" + " " * 900 + "obrigado", "_" * 400 + "\n" + "*" * 400 + "\nTotal 10",
        "a" + unicodedata.normalize("NFD", "안녕하세요 고객님 주문하신 상품이 발송되었습니다. ") * 30,
        "a" * 765 + "\n- b", "a" * 763 + "\n10. b", "* " + "\u200e" * 900, "1. " + "\u200e" * 900,
        "1. -\n1. *", "1. a\n1. b",
    ]
)  # fmt: skip
async def test_a_bubble_says_what_was_sent(reader: Reader, texts: list[str]) -> None:
    texts = [text.strip() for text in texts if text.strip()]
    assume(texts)
    await reader.page.evaluate(DRAW, [{"text": text} for text in texts])
    bubbles = await reader.bubbles()
    assert len(bubbles) == len(texts)
    for text, bubble in zip(texts, bubbles, strict=True):
        assert bubble.side is Side.OURS
        assert bubble.says(text), (text, bubble.text)
        assert not bubble.says(f"other {text}"), (text, bubble.text)
        # Lists may be drawn with other numbers: such a text is not identified, since all digits must agree.
        renumbered = bool(LISTED.search(text)) and not digits(text).startswith(digits(bubble.text))
        assert bubble.surely_says(text) or renumbered or not essence(EMOJI.sub("", text)), (text, bubble.text)
        if "Read more" not in bubble.text and "…" not in bubble.text:
            assert not bubble.says(f"{text} and more"), (text, bubble.text)


@pytest.mark.parametrize(
    "text", ["1. Blue\n2. XL\n3. No wrap", "2. Green Option", "- 3", "> 5", "Options:\n1. Blue\n\nor none", "a\n\nb"]
)
async def test_a_text_is_read_with_its_numbers_and_dashes(reader: Reader, text: str) -> None:
    await reader.page.evaluate(DRAW, [{"text": text}])
    assert [bubble.text for bubble in await reader.bubbles()] == [text]


async def test_a_status_is_read_without_the_text(reader: Reader) -> None:
    drawn = [
        {"text": "the words", "ack": ack, "quote": quote} for ack in (0, 1, 2, 3, -1) for quote in (None, "theirs")
    ]
    await reader.page.evaluate(DRAW, [*drawn, {"text": "the words", "mine": False, "ack": None}])
    bubbles = await reader.bubbles()
    wanted = {bubble.id: bubble.tick for bubble in bubbles[1:]}
    assert set(wanted.values()) == set(Tick)
    read = await reader.ask("statuses", ids=[*wanted, "none has this id"])
    assert "words" not in str(read)
    told = read_statuses(read, SELECTORS)
    assert told.keys() == wanted.keys()
    # Some pages say only beside the status, by a label, that a message was not sent.
    assert all(
        told[name] is tick or (tick is Tick.FAILED and told[name] is Tick.UNKNOWN) for name, tick in wanted.items()
    )
