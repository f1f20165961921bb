"""The compose box: typing like a person, reading back, and the one Enter that the guard lets through."""

import asyncio
import random
import re
import time
from collections.abc import Iterator
from importlib.resources import files

from browser.reader import Reader, secret_name
from browser.seam import bounded
from browser.words import same_text
from errors import BoxMismatch

GUARD = files("browser").joinpath("guard.js").read_text("utf-8")

#: Characters that are typed one by one; the rest of a long text follows in pieces, as if pasted. At 100 ms a character
#: a message of 370 characters took longer than an action may.
TYPED = 200
PIECES = 40
PIECE_LEAST = 80
#: what one key of a US keyboard makes; anything else is inserted, as an input method does
KEYS = re.compile(r"[ -~]")
#: a base character with what belongs to it: joiners, variation selectors, skin tones, marks, flags, keycaps
CLUSTER = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}"
    "|.[\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u20e3\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
    "(?:\u200d.[\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]*)*",
    re.DOTALL,
)


class ComposeBox:
    """The box of the open chat."""

    def __init__(self, reader: Reader, typing_delay_ms: tuple[int, int]) -> None:
        self._reader = reader
        self._keyboard = reader.page.keyboard
        self._delays = typing_delay_ms
        self._name = secret_name()

    async def install(self) -> None:
        """Put the guard into every document of the page, before the page's own scripts."""
        page, patience = self._reader.page, self._reader.patience
        await bounded(page.add_init_script(f"({GUARD})({self._name!r})"), patience.answer)

    async def write(self, text: str) -> None:
        """Replace what the box holds by `text`, and read it back. Raise BoxMismatch.

        The page may turn ":-)" or "- " into something else while keys come one by one, so a text that came out wrong is
        written once more as if pasted.
        """
        for typed in (TYPED, 0):
            await self.clear()
            await self._enter(text, typed)
            if await self.holds(text):
                return
        await self.clear()
        raise BoxMismatch

    async def clear(self) -> None:
        """Empty the box of a draft. Raise BoxMismatch when something stays."""
        await self._reader.click(await self._reader.need("compose"))
        if await self.is_empty():
            return
        await self._press("ControlOrMeta+a")
        await self._press("Backspace")
        async for _ in self._reader.looks(self._reader.patience.doubt):
            if await self.is_empty():
                return
        raise BoxMismatch("The compose box could not be emptied.")

    async def is_empty(self) -> bool:
        """Tell whether the box holds nothing; after Enter that means that the page has taken the message."""
        held = await self._reader.ask("chat")
        return bool(held["box"]) and not held["text"].strip() and not held["holes"]

    async def holds(self, text: str) -> bool:
        """Tell whether the box holds this text; it may take a moment to show the last key."""
        async for _ in self._reader.looks(1.0):
            held = await self._reader.ask("chat")
            if held["box"] and held["text"].strip() and same_text(text, held["text"], holes=held["holes"]):
                return True
        return False

    async def _enter(self, text: str, typed: int) -> None:
        """Type the first `typed` characters and insert the rest; line breaks by Shift+Enter, since Enter sends."""
        for stroke in strokes(text, typed):
            if stroke == "\n":
                await self._press("Shift+Enter")
            elif KEYS.fullmatch(stroke):
                await bounded(self._keyboard.type(stroke), self._reader.patience.answer)
            else:
                await bounded(self._keyboard.insert_text(stroke), self._reader.patience.answer)
            await asyncio.sleep(random.uniform(*self._delays) / 1000)  # noqa: S311 - a person's unevenness

    async def _press(self, keys: str) -> None:
        await bounded(self._keyboard.press(keys), self._reader.patience.answer)

    async def arm(self, seconds: float, since: float) -> None:
        """Let one Enter through until `seconds` after `since`, a reading of the monotonic clock.

        The page's clock is read first and our own after it, so a worker that freezes anywhere in between only
        shortens the time, never lengthens it.
        """
        patience = self._reader.patience
        now = await bounded(self._reader.page.evaluate(f"{self._name}.now()"), patience.answer)
        left = (seconds - (time.monotonic() - since)) * 1000
        deadline = {"steady": now["steady"] + left, "wall": now["wall"] + left}
        await bounded(
            self._reader.page.evaluate(f"(deadline) => {self._name}.arm(deadline)", deadline), patience.answer
        )

    async def press_enter(self) -> None:
        """Press Enter in the box, once."""
        box = await self._reader.need("compose")
        await bounded(box.focus(), self._reader.patience.answer)
        await self._press("Enter")

    async def swallowed(self) -> bool:
        """Tell whether the guard has swallowed an Enter since it was armed."""
        count = await bounded(self._reader.page.evaluate(f"{self._name}.swallowed()"), self._reader.patience.answer)
        return bool(count)


def strokes(text: str, typed: int) -> Iterator[str]:
    """Cut a text into what is entered at once: `typed` characters one by one, then pieces; a line break stands alone.

    A character is never parted from what belongs to it.
    """
    clusters = CLUSTER.findall(text.replace("\r\n", "\n").replace("\r", "\n"))
    yield from clusters[:typed]
    size = max(PIECE_LEAST, (len(clusters) - typed) // PIECES)
    piece = ""
    held = 0
    for cluster in clusters[typed:]:
        if piece and (cluster == "\n" or held == size):
            yield piece
            piece, held = "", 0
        if cluster == "\n":
            yield cluster
        else:
            piece, held = piece + cluster, held + 1
    if piece:
        yield piece
