import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import pytest
import segno
from fixtures_api import ADMIN_KEY, api, client_of, new_account, production, rows, running
from fixtures_browser import serving
from fixtures_driver import Lender
from playwright.async_api import Browser, BrowserContext, Page, expect

from api.scenes import LINKED, STOPPED
from browser.chromium import candidates
from browser.session import State
from sql.database import Database

HTML = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PENDING = (
    "update accounts set wanted = 'connected', state = 'qr_pending', qr = '2@abc,def', "
    "qr_expires_at = now() + interval '20 s' returning id"
)


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with running(database_url) as app, client_of(app, x_admin_key=ADMIN_KEY) as client:
        await new_account(client, "Ann & <b>Sons</b>")
        yield client


async def token_url(client: httpx2.AsyncClient, database: Database) -> str:
    """Return a fresh link; one app makes five of them."""
    answer = await client.post("/admin/generate-qr-token")
    assert answer.status_code == 200, answer.text
    assert await rows(database, "select from qr_tokens where spent_at is null")
    return str(answer.json()["url"])


# --- token and cookie --------------------------------------------------------------------------------------------


async def test_the_first_visit_trades_the_token_for_a_cookie(client: httpx2.AsyncClient, database: Database) -> None:
    url = await token_url(client, database)
    for _ in range(2):  # whoever looks whether the link works does not spend it
        assert (await client.head(url, headers=HTML)).status_code == 401
    first = await client.get(url, headers=HTML)
    cookie = first.headers["set-cookie"]
    assert (first.status_code, first.headers["location"]) == (303, "/qr")
    assert re.fullmatch(r"postrider_qr=[\w-]{43}; HttpOnly; Max-Age=600; Path=/qr; SameSite=strict", cookie), cookie
    page = await client.get("/qr", headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "set-cookie" not in page.headers
    [(stored,)] = await rows(database, "select qr_tokens::text from qr_tokens")
    assert client.cookies["postrider_qr"] not in stored
    for headers, kind in ((HTML, "text/html; charset=utf-8"), ({}, "application/problem+json")):
        again = await client.get(url, headers=headers)
        assert (again.status_code, again.headers["content-type"]) == (410, kind)
        assert "used already" in again.text
        assert "set-cookie" not in again.headers


async def test_of_many_visits_at_once_one_gets_in(client: httpx2.AsyncClient, database: Database) -> None:
    url = await token_url(client, database)
    answers = await asyncio.gather(*(client.get(url, headers=HTML) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [303] + [410] * 7


@pytest.mark.parametrize("secured", ["https", "production"])
async def test_the_cookie_is_secure_where_the_page_is(database_url: str, database: Database, secured: str) -> None:
    values = production(database_url) if secured == "production" else {}
    async with running(database_url, (), **values) as app, client_of(app, x_admin_key=ADMIN_KEY) as client:
        await client.post("/accounts", json={"name": "Shop"})
        url = await token_url(client, database)
        if secured == "https":
            url = f"https://postrider.test{url}"
        assert "; Secure" in (await client.get(url, headers=HTML)).headers["set-cookie"]


async def test_what_opens_nothing_says_why(client: httpx2.AsyncClient, database: Database) -> None:
    expired = await token_url(client, database)
    await rows(database, "update qr_tokens set expires_at = now() returning account_id")
    over = {"cookie": "postrider_qr=none"}
    for target, headers, status, why in (
        ("/qr", {}, 401, "opens with a link"),
        ("/qr?token=", {}, 401, "token of this link is not valid"),
        ("/qr?token=wrong", {}, 401, "token of this link is not valid"),
        ("/qr?token=%F0%9F%91%8B", {}, 401, "token of this link is not valid"),
        ("/qr", over, 401, "cookie of this page is not valid"),
        (expired, {}, 410, "good for 60 seconds"),
        ("/qr?token=a&token=b", {}, 422, "token stands twice"),
        ("/qr?colour=red", {}, 422, "colour is not a known field"),
    ):
        plain = await client.get(target, headers=headers)
        page = await client.get(target, headers=headers | HTML)
        assert (plain.status_code, page.status_code) == (status, status), target
        assert why in plain.json()["detail"]
        assert why in page.text
        assert "This page cannot be shown" in page.text
    state = await client.get("/qr/state")
    assert (state.status_code, state.json()["code"]) == (401, "unauthorized")
    assert (await client.get("/qr?token=%00")).status_code == 400


async def test_a_visit_ends_after_its_time_and_with_its_account(client: httpx2.AsyncClient, database: Database) -> None:
    await client.get(await token_url(client, database), headers=HTML)
    assert (await client.get("/qr/state")).status_code == 200
    [(left,)] = await rows(database, "select extract(epoch from visit_expires_at - now()) from qr_tokens")
    assert 590 < left <= 600
    for change in (
        "update qr_tokens set visit_expires_at = now() returning account_id",
        "with a as (update qr_tokens set visit_expires_at = null) update accounts set deleted_at = now() returning id",
    ):
        await rows(database, change)
        for path in ("/qr", "/qr/state"):
            answer = await client.get(path)
            assert (answer.status_code, "has expired" in answer.json()["detail"]) == (410, True)


async def test_every_visit_counts_for_its_address(database_url: str) -> None:
    async with api(database_url, rate_limit_per_minute=3) as client:
        statuses = [
            (await client.get(path)).status_code for path in ("/qr", "/qr/state", "/qr?token=x", "/qr", "/qr/state")
        ]
    assert statuses == [401, 401, 401, 429, 429]


# --- forms -------------------------------------------------------------------------------------------------------


async def test_by_accept_it_is_the_raw_code(client: httpx2.AsyncClient, database: Database) -> None:
    early = await client.get(await token_url(client, database))
    assert (early.status_code, early.headers["content-type"]) == (409, "application/problem+json")
    # The token is spent, so that the cookie must come with the refusal as well.
    assert "postrider_qr=" in early.headers["set-cookie"]
    await rows(database, PENDING)
    for accept, kind, begins in (
        ("*/*", "application/json", b'{"qr":"2@abc,def","expiresAt":"20'),
        ("application/json", "application/json", b'{"qr":"2@abc,def"'),
        ("image/png", "image/png", b"\x89PNG\r\n"),
        ("image/svg+xml", "image/svg+xml", b"<?xml"),
        ("text/plain, text/html;q=0.5", "text/plain; charset=utf-8", "█".encode()),
        ("text/html", "text/html; charset=utf-8", b"<!doctype html>"),
    ):
        answer = await client.get("/qr", headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content.lstrip().startswith(begins)
        assert answer.headers["vary"] == "accept, cookie"
    at_once = await client.get(await token_url(client, database), headers={"accept": "image/png"})
    assert (at_once.status_code, at_once.headers["content-type"]) == (200, "image/png")
    assert "postrider_qr=" in at_once.headers["set-cookie"]


async def test_nothing_of_it_is_kept_framed_or_told_on(client: httpx2.AsyncClient, database: Database) -> None:
    moved = await client.get(await token_url(client, database), headers=HTML)
    page = await client.get("/qr", headers=HTML)
    refused = await client.get("/qr?token=wrong", headers=HTML)
    for answer in (moved, page, refused, await client.get("/qr"), await client.get("/qr/state")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
    for answer in (page, refused):
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?! src=)|<style|\son\w+=|\sstyle=", answer.text)
    assert "Ann &amp; &lt;b&gt;Sons&lt;/b&gt;" in page.text
    assert "<b>Sons" not in page.text
    for name, kind in (("qr.js", "text/javascript"), ("qr.css", "text/css")):
        assert f"/qr/static/{name}" in page.text
        answer = await client.get(f"/qr/static/{name}")
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, kind)
    for name in ("none.js", "..%2f..%2fapp.py", "%00", ""):
        assert (await client.get(f"/qr/static/{name}")).status_code == 404


async def test_while_the_database_is_away_the_page_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    async with api("postgresql://nobody@127.0.0.1:1/nothing") as client:
        answer = await client.get("/qr", headers=HTML | {"cookie": "postrider_qr=x"})
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert int(answer.headers["retry-after"]) > 0
    assert "The database is away" in answer.text


# --- scenes ------------------------------------------------------------------------------------------------------


async def test_each_state_has_its_words(client: httpx2.AsyncClient, database: Database) -> None:
    await client.get(await token_url(client, database), headers=HTML)
    phases = {
        ("not_started", "disconnected", False): "ended",
        ("not_started", "connected", False): "waiting",
        ("starting", "connected", False): "waiting",
        ("starting", "connected", True): "linked",
        ("qr_pending", "connected", False): "code",
        ("qr_pending", "connected", True): "code",
        ("disconnected", "disconnected", False): "ended",
        ("disconnected", "logged_out", False): "ended",
        ("disconnected", "connected", False): "waiting",
        ("disconnected", "disconnected", True): "linked",
        **{(state, "connected", True): "linked" for state in LINKED},
        **{(state, "connected", True): "stopped" for state in STOPPED},
    }
    assert {state for state, _, _ in phases} == set(State)
    await rows(database, PENDING)
    for (state, wanted, linked), phase in phases.items():
        async with database.transaction() as tx:
            statement = "update accounts set state = %s, wanted = %s, linked = %s"
            await tx.connection.execute(statement, [state, wanted, linked])
        shown = (await client.get("/qr/state")).json()
        page = (await client.get("/qr", headers=HTML)).text
        assert (shown["account"], shown["phase"]) == ("Ann & <b>Sons</b>", phase), (state, wanted, linked)
        assert f'data-phase="{phase}"' in page
        assert shown["heading"] in page
        assert (shown["picture"] is not None) == (phase == "code") == (shown["expiresAt"] is not None)
        assert re.fullmatch(r"[A-Z].+\.", shown["text"])


async def test_a_code_is_shown_while_it_lives(client: httpx2.AsyncClient, database: Database) -> None:
    await client.get(await token_url(client, database), headers=HTML)
    await rows(database, PENDING)
    shown = (await client.get("/qr/state")).json()
    assert shown["picture"] == segno.make_qr("2@abc,def").svg_data_uri(light="#fff")
    assert 15 < shown["secondsLeft"] <= 20
    for change, heading in (
        ("update accounts set qr_expires_at = now() returning id", "The next code is on its way"),
        ("update accounts set qr = null, pairing_phone = '15551230001' returning id", "A pairing code was asked for"),
    ):
        await rows(database, change)
        shown = (await client.get("/qr/state")).json()
        assert (shown["phase"], shown["heading"]) == ("waiting", heading)
        assert (shown["picture"], shown["expiresAt"], shown["secondsLeft"]) == (None, None, None)


# --- in a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def chromium(one_driver: Lender) -> AsyncIterator[Browser]:
    playwright = await one_driver.start()
    browser = await playwright.chromium.launch(executable_path=candidates(None)[0], args=["--no-sandbox"])
    yield browser
    await browser.close()


@dataclass
class Site:
    """The API on a real port, a client of it, and what pages of it complained about."""

    origin: str
    client: httpx2.AsyncClient
    database: Database
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    async def link(self) -> str:
        return self.origin + await token_url(self.client, self.database)

    @asynccontextmanager
    async def window(self, *, width: int = 1280, scripts: bool = True) -> AsyncIterator[Page]:
        context: BrowserContext = await self.browser.new_context(
            viewport={"width": width, "height": 800}, java_script_enabled=scripts
        )
        page = await context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        yield page
        await context.close()


@pytest.fixture
async def site(database_url: str, database: Database, chromium: Browser) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(running(database_url))
        client = await stack.enter_async_context(client_of(app, x_admin_key=ADMIN_KEY))
        await new_account(client, "Shop")
        yield Site(await stack.enter_async_context(serving(app)), client, database, chromium)


async def test_the_page_follows_the_account_until_it_is_linked(site: Site) -> None:
    async with site.window() as page:
        answer = await page.goto(await site.link())
        assert (answer and answer.status, page.url) == (200, f"{site.origin}/qr")
        heading, code = (
            page.get_by_role("heading", level=2),
            page.get_by_role("img", name="QR code that links the account Shop"),
        )
        await expect(heading).to_have_text("There is no code to scan")
        await expect(code).to_be_hidden()
        await rows(site.database, PENDING)
        await expect(heading).to_have_text("Scan this code")
        await expect(code).to_have_attribute("src", segno.make_qr("2@abc,def").svg_data_uri(light="#fff"))
        assert await code.evaluate("image => image.complete && image.naturalWidth > 0")
        await expect(page.get_by_role("timer")).to_have_text(re.compile(r"New code in \d+ s"))
        await rows(site.database, "update accounts set qr = '2@next' returning id")
        await expect(code).to_have_attribute("src", segno.make_qr("2@next").svg_data_uri(light="#fff"))
        await rows(site.database, "update accounts set state = 'ready', linked = true, qr = null returning id")
        await expect(page.get_by_role("status")).to_contain_text("Linked")
        await expect(code).to_be_hidden()
        await expect(page).to_have_title("Linked · Shop · Postrider")
        await page.reload()
        await expect(page.get_by_role("status")).to_contain_text("Linked")
    assert site.complaints == []


async def test_the_token_is_in_no_history(site: Site) -> None:
    link = await site.link()
    async with site.window() as page:
        await page.goto("about:blank")
        await page.goto(link)
        seen = await page.evaluate("[location.href, document.referrer, history.length]")
        assert seen == [f"{site.origin}/qr", "", 2]
        assert "token" not in await page.content()


async def test_a_link_on_another_site_opens_it_too(site: Site) -> None:
    other = site.origin.replace("127.0.0.1", "localhost")  # another site to a browser: no SameSite=Strict cookie
    async with site.window() as page:
        mail = f'<a href="{await site.link()}">Your code</a>'
        await page.route("**/mail", lambda route: route.fulfill(content_type="text/html", body=mail))
        await page.goto(f"{other}/mail")
        await page.get_by_role("link").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Shop")
        assert page.url == f"{site.origin}/qr"
    assert site.complaints == []


async def test_without_scripts_it_shows_what_there_is(site: Site) -> None:
    await rows(site.database, PENDING)
    async with site.window(scripts=False) as page:
        await page.goto(await site.link())
        await expect(page.get_by_role("heading", level=2)).to_have_text("Scan this code")
        await expect(page.get_by_role("img", name="QR code that links")).to_be_visible()
        assert await page.locator("meta[http-equiv=refresh]").count() == 1


@pytest.mark.parametrize("width", [320, 390, 720, 1920])
async def test_it_fits_every_screen(site: Site, width: int) -> None:
    await rows(site.database, f"update accounts set name = '{'Very' * 40}' returning id")  # noqa: S608 # our own
    await rows(site.database, PENDING)
    async with site.window(width=width) as page:
        await page.goto(await site.link())
        await expect(page.get_by_role("timer")).to_have_text(re.compile(r"New code in \d+ s"))
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        box = await page.locator("#code").bounding_box()
        assert box is not None
        assert box["width"] == pytest.approx(box["height"], abs=1)
        assert box["width"] > 200


async def test_it_says_when_the_visit_is_over_or_the_server_away(site: Site) -> None:
    async with site.window() as page:
        await page.goto(await site.link())
        await page.context.set_offline(True)
        await expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
        await page.context.set_offline(False)
        await expect(page.locator("#note")).to_be_hidden(timeout=10_000)
        await rows(site.database, "update qr_tokens set visit_expires_at = now() returning account_id")
        await expect(page.get_by_role("status")).to_contain_text("it is good for 10 minutes")
        await expect(page.locator("main")).to_have_attribute("data-phase", "over")


async def test_a_link_that_was_used_shows_a_page_that_says_so(site: Site) -> None:
    link = await site.link()
    async with site.window() as first, site.window() as second:
        await first.goto(link)
        answer = await second.goto(link)
        assert answer is not None
        assert answer.status == 410
        await expect(second.get_by_role("heading")).to_have_text("This page cannot be shown")
        await expect(second.locator("main")).to_contain_text("it opens once")
