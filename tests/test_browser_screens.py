"""Each screen, recognised on a page that holds what is known of it and nothing else; and the browser itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest

import errors
from browser.engine.engine import Engine, Look
from browser.engine.flags import FLAGS, OFF, ON, PLAYWRIGHT_OFF, PLAYWRIGHT_ON, TELEMETRY
from browser.engine.playwright_calls import bounded
from browser.engine.process import browsers, browsers_of
from browser.page import selectors
from browser.page.dialogs import close_all
from browser.page.reader import Patience, Reader
from browser.page.screens import ERRORS, Screen, recognise

SELECTORS = selectors.load()
PATIENCE = Patience(answer=5, doubt=0.5, click=1, poll=0.02)
PANE = '<div id="side"><input data-tab="3"><div id="pane-side"><div role="row">{}</div></div></div>'


def popup(text: str, *buttons: str) -> str:
    inner = "".join(f"<button>{button}</button>" for button in buttons)
    return f'<div role="dialog" aria-modal="true"><div data-animate-modal-body>{text}</div>{inner}</div>'


SCREENS = {
    "empty": (Screen.LOADING, ""),
    "boot": (
        Screen.LOADING,
        '<div id="wa_web_initial_startup"><progress value="0" max="100"></progress>WhatsApp</div>',
    ),
    "boot of 2023": (Screen.LOADING, '<div id="app"></div><div id="initial_startup">WhatsApp</div>'),
    "logging out": (Screen.LOADING, '<div id="app">Logging out<br>Do not close this window</div>'),
    "spinner": (Screen.LOADING, '<div id="app"><svg></svg></div>'),
    "qr": (Screen.QR, '<div id="app"><div data-ref="2@x,y"><canvas></canvas></div></div>'),
    "qr to come": (Screen.QR, '<div id="app"><h1>Scan to log in</h1><svg></svg></div>'),
    "qr by test id": (Screen.QR, '<div id="app"><div data-testid="link-device-qr-code">x</div></div>'),
    "promo": (Screen.QR, '<div id="app"><a data-testid="wa-web-landing-promo-get-started">Get started</a></div>'),
    "pairing": (Screen.QR, '<div id="app"><h1>Enter code on phone</h1></div>'),
    "syncing": (Screen.SYNCING, '<div id="app"><progress></progress>Loading your chats [20%]</div>'),
    "syncing in words": (
        Screen.SYNCING,
        '<div id="app">Don&rsquo;t close this window. Your messages are downloading.</div>',
    ),
    "main": (Screen.MAIN, f'<div id="app">{PANE.format("Ada")}</div>'),
    "main and news": (
        Screen.MAIN,
        f'<div id="app">{PANE.format("")}</div>{popup("What&rsquo;s new on WhatsApp Web", "Continue")}',
    ),
    "main that quotes": (
        Screen.MAIN,
        f'<div id="app">{PANE.format("Computer not connected. Unexpected error occurred.")}</div>',
    ),
    "main with a ban text in a hint": (
        Screen.MAIN,
        f'<div id="app"><p>temporarily banned from WhatsApp</p>{PANE.format("")}</div>',
    ),
    "ban": (
        Screen.BANNED,
        "<div id='app'><h1>You&rsquo;re temporarily banned from WhatsApp because …</h1></div>",
    ),
    "ban for good": (Screen.BANNED, "<div id='app'>This account is not allowed to use WhatsApp due to spam</div>"),
    "another window": (
        Screen.CONFLICT,
        f'<div id="app"></div>{popup("WhatsApp is open in another window. Click Use here", "Close", "Use here")}',
    ),
    "another browser": (
        Screen.CONFLICT,
        f'<div id="app">{PANE.format("")}</div>{popup("WhatsApp is open on another computer or browser", "Use here")}',
    ),
    "another tab": (
        Screen.CONFLICT,
        "<div id='app'>There is already another active WhatsApp Web tab in this browser</div>",
    ),
    "offline": (Screen.OFFLINE, f'<div id="app"><div role="alert">Computer not connected</div>{PANE.format("")}</div>'),
    "offline at start": (Screen.OFFLINE, '<div id="app"><h1>Connecting to WhatsApp</h1></div>'),
    "proxy": (Screen.PROXY_BLOCKED, "<div id='app'><h1>Can&rsquo;t load WhatsApp</h1></div>"),
    "503": (Screen.UNAVAILABLE, "<div id='app'><h1>Service unavailable</h1></div>"),
    "disk": (Screen.UNAVAILABLE, "<div id='app'>Your computer does not have enough space for WhatsApp to run.</div>"),
    "unsupported": (Screen.UNSUPPORTED, "<div>WhatsApp works with Google Chrome 100+</div>"),
    "old phone": (Screen.UNSUPPORTED, "<div id='app'>The version of WhatsApp on your phone is too old</div>"),
    "crash": (Screen.CRASHED, '<div id="app"><h1>Unexpected error occurred.</h1><button>Reload</button></div>'),
    "crash over the list": (
        Screen.CRASHED,
        f'<div id="app">{PANE.format("")}</div>{popup("Unexpected error occurred.", "Reload")}',
    ),
    "hidden words": (
        Screen.LOADING,
        "<div id='app'><p hidden>Service unavailable</p></div><noscript>Service unavailable</noscript>",
    ),
    "something new": (Screen.UNKNOWN, "<div id='app'><h1>Choose your avatar</h1></div>"),
}


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[Engine]:
    async with Engine() as engine:
        yield engine


@pytest.fixture(scope="module")
async def reader(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reader]:
    context = await engine.open(tmp_path_factory.mktemp("profile"), Look(1000, 700))
    yield Reader(context.pages[0], SELECTORS, PATIENCE)
    await context.close()


@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen(reader: Reader, name: str) -> None:
    wanted, html = SCREENS[name]
    await reader.page.set_content(html)
    assert recognise(await reader.sight(), SELECTORS) is wanted


def test_every_screen_but_the_main_one_has_an_error() -> None:
    assert set(ERRORS) == set(Screen) - {Screen.MAIN}
    assert {screen for screen, _ in SCREENS.values()} == set(Screen)


async def test_every_selector_can_be_parsed_by_the_browser(reader: Reader) -> None:
    for alternatives in SELECTORS.elements.values():
        for css in alternatives:
            await reader.page.evaluate("css => document.querySelector(css)", css)


@pytest.mark.parametrize("buttons", [("Continue",), ("OK",), ("Not now", "Turn on"), ("Got it",)])
async def test_dialogs_are_closed_by_their_mildest_button(reader: Reader, buttons: tuple[str, ...]) -> None:
    dialogs = popup("What's new", *buttons) + popup("Get WhatsApp for Windows", *buttons)
    await reader.page.set_content(
        f"<div id='app'>{PANE.format('')}</div>{dialogs}"
        "<div data-testid='chat-butterbar'><button aria-label='Close'>x</button></div>"
    )
    await reader.page.evaluate("""() => document.addEventListener("click", (event) => {
        window.clicked = event.target.innerText;
        event.target.closest("[role=dialog], [data-testid]").remove();
    })""")
    await close_all(reader)
    assert not (await reader.sight()).dialogs
    assert await reader.find("butterbar_close") is None


async def test_a_hint_bar_that_goes_before_it_is_clicked_holds_nothing_up(reader: Reader) -> None:
    bar = "<div data-testid='chat-butterbar'><button aria-label='Close' disabled>x</button></div>"
    await reader.page.set_content(f"<div id='app'>{PANE.format('')}</div>{bar}")
    await reader.page.evaluate("setTimeout(() => document.querySelector('[data-testid=chat-butterbar]').remove(), 300)")
    await close_all(reader)
    assert await reader.find("butterbar_close") is None


@pytest.mark.parametrize("buttons", [("OK",), ("Continue", "OK"), ("Got it", "Close")])
async def test_no_button_of_a_dialog_that_nobody_knows_is_pressed(reader: Reader, buttons: tuple[str, ...]) -> None:
    await reader.page.set_content(f"<div id='app'>{PANE.format('')}</div>{popup('Take a tour?', *buttons)}")
    await reader.page.evaluate("""() => {
        window.touched = [];
        for (const kind of ["click", "keydown"]) {
            document.addEventListener(kind, (event) => window.touched.push(event.key ?? "click"));
        }
    }""")
    with pytest.raises(errors.UnknownDialog, match="take a tour"):
        await close_all(reader)
    assert set(await reader.page.evaluate("touched")) == {"Escape"}


async def test_what_is_hidden_is_passed_over_and_so_is_a_broken_selector(reader: Reader) -> None:
    await reader.page.set_content("<p hidden id='a'>x</p><p id='b'>y</p>")
    assert await reader.ask("place", alternatives=["p::nonsense(", "#a", "p"]) == [2, 1]
    assert await reader.ask("place", alternatives=["#a"]) is None


async def test_a_page_that_moves_on_while_it_is_read(reader: Reader) -> None:
    await reader.page.goto("data:text/html,<p>one</p>")
    reading = asyncio.gather(*(reader.sight() for _ in range(20)))
    await reader.page.goto("data:text/html,<p>two</p>")
    assert {sight.text for sight in await reading} <= {"", "one", "two"}


async def test_a_page_that_never_answers(engine: Engine, tmp_path: Path) -> None:
    context = await engine.open(tmp_path, Look(1000, 700))
    page = context.pages[0]
    await page.evaluate("setTimeout(() => { for (;;); }, 0)")
    with pytest.raises(errors.PageHung):
        await Reader(page, SELECTORS, Patience(answer=0.3)).sight()
    for process in browsers_of(tmp_path):
        process.kill()


def switches(command: list[str], name: str) -> list[set[str]]:
    return [set(word.partition("=")[2].split(",")) for word in command if word.startswith(f"--{name}=")]


async def test_the_browser_is_started_as_it_is_meant_to_be(engine: Engine, tmp_path: Path) -> None:
    context = await engine.open(tmp_path, Look(1000, 700, timezone_id="Europe/Berlin"))
    command = max((process.cmdline() for process in browsers_of(tmp_path)), key=len)
    off, on = switches(command, "disable-features"), switches(command, "enable-features")
    # Chromium heeds the last of each: it must hold all that Playwright's own holds.
    assert off[0] == set(PLAYWRIGHT_OFF) < off[-1] == set(OFF)
    assert on[0] == set(PLAYWRIGHT_ON) < on[-1] == set(ON)
    assert "--disable-blink-features=AutomationControlled" in command
    assert any("crashlogs.whatsapp.net" in word for word in command)
    page = context.pages[0]
    told = await page.evaluate("""async () => ({
        agent: navigator.userAgent, driven: navigator.webdriver, zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
        language: navigator.language, size: [innerWidth, innerHeight],
        worker: await new Promise((resolve) => {
            const source = URL.createObjectURL(new Blob(["postMessage(navigator.userAgent)"]));
            new Worker(source).onmessage = (event) => resolve(event.data);
        }),
    })""")
    assert "Headless" not in told["agent"]
    assert f"Chrome/{engine.version.split('.')[0]}.0.0.0" in told["agent"]
    assert told["worker"] == told["agent"]
    assert told["driven"] is False
    assert (told["zone"], told["language"], told["size"]) == ("Europe/Berlin", "en-US", [1000, 700])
    await context.close()


async def test_telemetry_goes_nowhere(tmp_path: Path) -> None:
    everywhere = "--host-resolver-rules=MAP * 127.0.0.1"
    came: list[str] = []

    def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append("somebody")
        writer.close()

    async def reached(flags: Sequence[str], directory: Path) -> int:
        """Return how many of the hosts are connected to."""
        engine._flags = flags
        context = await engine.open(directory, Look(800, 600))
        count = 0
        for host in TELEMETRY:
            came.clear()
            ask = "url => fetch(url, {mode: 'no-cors'}).catch(() => {}).then(() => 0)"
            await context.pages[0].evaluate(ask, f"https://{host}:{port}/")
            count += bool(came)
        await context.close()
        return count

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as server, Engine() as engine:
        port = server.sockets[0].getsockname()[1]
        # The control: where every name leads here, these do. Chromium heeds the last rule, which is ours then.
        assert await reached([everywhere], tmp_path / "control") == len(TELEMETRY)
        assert await reached([everywhere, *FLAGS], tmp_path / "ours") == 0


async def test_probe_starts_a_browser_and_leaves_none(engine: Engine, tmp_path: Path) -> None:
    def ours() -> set[Path]:
        own = psutil.Process()
        return {held for held, process in browsers() if own in process.parents()}

    before = ours()
    await engine.probe()
    assert ours() == before
    dead = tmp_path / "chromium"
    dead.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo {engine.version}\n')
    dead.chmod(0o755)
    async with Engine(executable=dead) as broken:
        with pytest.raises(errors.ChromiumMissing, match="does not open a page"):
            await broken.probe()


async def test_a_browser_that_cannot_start_is_lost_and_the_others_stay(
    reader: Reader, engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.BrowserLost):
        await engine.open(tmp_path / "file", Look(1000, 700))
    await bounded(reader.page.evaluate("1"), 5)
