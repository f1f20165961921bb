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
from playwright.async_api import Browser, BrowserContext, Page, Request, expect

from api.accounts import qr_drawing
from api.accounts.qr_view import LINKED, STOPPED
from api.http.query_params import FORM
from browser.engine.chromium import candidates
from sql.database import Database
from tasks.web.states import State

HTML = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
JSON_TYPE, PROBLEM, PAGE = "application/json", "application/problem+json", "text/html; charset=utf-8"
#: What fetches a link of its own accord, and what it likes to get.
AGENTS = (
    "WhatsApp/2.23.20.0",
    "TelegramBot (like TwitterBot)",
    "facebookexternalhit/1.1",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Safari/537.36",
)
ACCEPTS = (
    "*/*",
    "",
    "image/*,*/*;q=0.8",
    "application/json",
    "image/png",
    "image/svg+xml",
    "text/plain",
    HTML["accept"],
)
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


async def press(client: httpx2.AsyncClient, url: str) -> httpx2.Response:
    """Open a link and press its button, as a browser does."""
    page = await client.get(url, headers=HTML)
    assert page.status_code == 200, page.text
    return await client.post("/qr", data=fields(page), headers=HTML | {"sec-fetch-site": "same-origin"})


def fields(page: httpx2.Response) -> dict[str, str]:
    return dict(re.findall(r'name="(\w+)" value="([^"]+)"', page.text))


def token_of(url: str) -> str:
    return url.partition("=")[2]


# --- the link ----------------------------------------------------------------------------------------------------


async def test_what_fetches_the_link_spends_nothing_and_sees_no_code(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await rows(database, PENDING)
    url = await token_url(client, database)
    for agent in AGENTS:
        for accept in ACCEPTS:
            for method in ("GET", "HEAD"):
                answer = await client.request(method, url, headers={"user-agent": agent, "accept": accept})
                expected = (200, PAGE) if accept == HTML["accept"] else (405, PROBLEM)
                assert (answer.status_code, answer.headers["content-type"]) == expected, (agent, accept)
                assert answer.headers["vary"] == "accept, cookie"
                assert "set-cookie" not in answer.headers
                assert "2@abc" not in answer.text
                assert "data:image/svg+xml;base64" not in answer.text
                assert "Ann" not in answer.text
    assert (await press(client, url)).status_code == 303
    assert (await client.get("/qr", headers={"accept": JSON_TYPE})).json()["qr"] == "2@abc,def"
    # Nor does it show the code to whoever has a cookie besides.
    again = await token_url(client, database)
    assert (await client.get(again)).status_code == 405
    assert "Show the QR code" in (await client.get(again, headers=HTML)).text


async def test_a_program_that_gets_the_link_is_told_what_to_do(client: httpx2.AsyncClient, database: Database) -> None:
    url = await token_url(client, database)
    answer = await client.get(url)
    assert (answer.json()["code"], answer.headers["allow"]) == ("method_not_allowed", "POST")
    assert "Send POST /qr with" in answer.json()["detail"]
    await rows(database, PENDING)
    assert (await client.post("/qr", json={"token": token_of(url)})).json()["qr"] == "2@abc,def"


async def test_the_token_is_in_no_log(
    client: httpx2.AsyncClient, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await rows(database, PENDING)
    urls = [await token_url(client, database) for _ in range(2)]
    for _ in range(2):
        await client.get(urls[0])
        await client.post("/qr", json={"token": token_of(urls[1])})
    await press(client, urls[0])
    text = "".join(f"{record.__dict__}" for record in caplog.records if record.name.partition(".")[0] != "httpx2")
    assert "POST /qr: 200" in text
    assert not any(token_of(url) in text for url in urls)


# --- token and cookie --------------------------------------------------------------------------------------------


async def test_the_button_trades_the_token_for_a_cookie(client: httpx2.AsyncClient, database: Database) -> None:
    url = await token_url(client, database)
    first = await press(client, url)
    cookie = first.headers["set-cookie"]
    assert (first.status_code, first.headers["location"]) == (303, "/qr")
    assert re.fullmatch(r"postrider_qr=\w{64}; HttpOnly; Max-Age=600; Path=/qr; SameSite=strict", cookie), cookie
    page = await client.get("/qr", headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (200, PAGE)
    assert "set-cookie" not in page.headers
    [(stored,)] = await rows(database, "select qr_tokens::text from qr_tokens")
    assert client.cookies["postrider_qr"] not in stored
    for headers, kind in ((HTML, PAGE), ({}, PROBLEM)):
        for again in (
            await client.get(url, headers=headers),
            await client.post("/qr", data={"token": token_of(url)}, headers=headers),
            await client.post("/qr", json={"token": token_of(url)}, headers=headers),
        ):
            assert (again.status_code, again.headers["content-type"]) == (410, kind)
            assert "used already" in again.text
            assert "set-cookie" not in again.headers


async def test_of_many_visits_at_once_one_gets_in(client: httpx2.AsyncClient, database: Database) -> None:
    url = await token_url(client, database)
    pages = [await client.get(url, headers=HTML) for _ in range(8)]
    answers = await asyncio.gather(*(client.post("/qr", data=fields(page), headers=HTML) for page in pages))
    assert sorted(answer.status_code for answer in answers) == [303] + [410] * 7
    [won] = [answer for answer in answers if answer.status_code == 303]
    assert won.headers["set-cookie"].startswith(f"postrider_qr={client.cookies['postrider_qr']}; ")
    assert (await client.get("/qr", headers=HTML)).status_code == 200


async def test_a_button_that_is_pressed_twice_opens_one_visit(client: httpx2.AsyncClient, database: Database) -> None:
    page = await client.get(await token_url(client, database), headers=HTML)
    pressed = fields(page)
    answers = await asyncio.gather(*(client.post("/qr", data=pressed, headers=HTML) for _ in range(4)))
    assert {(answer.status_code, answer.headers["set-cookie"]) for answer in answers} == {
        (303, answers[0].headers["set-cookie"])
    }
    # The same text with another token is another visit.
    other = pressed | {"token": token_of(await token_url(client, database))}
    assert (await client.post("/qr", data=other, headers=HTML)).headers["set-cookie"] != answers[0].headers[
        "set-cookie"
    ]
    await rows(database, "update qr_tokens set visit_expires_at = now() returning account_id")
    assert (await client.post("/qr", data=pressed, headers=HTML)).status_code == 410


async def test_a_form_of_another_site_changes_no_visit(client: httpx2.AsyncClient, database: Database) -> None:
    await press(client, await token_url(client, database))
    mine = client.cookies["postrider_qr"]
    token = {"token": token_of(await token_url(client, database))}
    for site in ("cross-site", "same-site"):
        answer = await client.post("/qr", data=token, headers=HTML | {"sec-fetch-site": site})
        assert (answer.status_code, "Open the link itself" in answer.text) == (403, True)
    assert client.cookies["postrider_qr"] == mine
    assert (await client.post("/qr", data=token, headers=HTML)).status_code == 303


async def test_a_body_that_cannot_be_traded_is_refused(client: httpx2.AsyncClient) -> None:
    for content, kind, status, why in (
        (b"", "", 415, "must be application/json"),
        (b"token=x", "text/plain", 415, "must be application/json"),
        (b"", FORM, 422, "token is required"),
        (b"token=a&token=b", FORM, 422, "token stands twice"),
        (b"token=a&press=short", FORM, 422, "press must have at least 20 characters"),
        (b"token=a&colour=red", FORM, 422, "colour is not a known field"),
        (b"token=%00%ff\xff", f"{FORM}; charset=UTF-8", 401, "token of this link is not valid"),
        (b"token=" + b"a" * 64 * 1024, FORM, 413, "65,536 bytes"),
        (b"{}", JSON_TYPE, 422, "token is required"),
        (b'{"token": 1}', JSON_TYPE, 422, "token must be a valid string"),
        (b'{"token": "wrong"}', JSON_TYPE, 401, "token of this link is not valid"),
        (b"[]", JSON_TYPE, 422, "must be an object"),
    ):
        plain = await client.post("/qr", content=content, headers={"content-type": kind})
        page = await client.post("/qr", content=content, headers=HTML | {"content-type": kind})
        assert (plain.status_code, page.status_code) == (status, status), content[:40]
        assert why in plain.json()["detail"]
        assert why in page.text
        assert "set-cookie" not in page.headers
    assert (await client.post("/qr?token=x", json={"token": "x"})).status_code == 422


@pytest.mark.parametrize("secured", ["https", "production"])
async def test_the_cookie_is_secure_where_the_page_is(database_url: str, database: Database, secured: str) -> None:
    values = production(database_url) if secured == "production" else {}
    async with running(database_url, (), **values) as app, client_of(app, x_admin_key=ADMIN_KEY) as client:
        await client.post("/accounts", json={"name": "Shop"})
        token = {"token": token_of(await token_url(client, database))}
        page = "https://postrider.test/qr" if secured == "https" else "/qr"
        assert "; Secure" in (await client.post(page, data=token, headers=HTML)).headers["set-cookie"]


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
    await press(client, await token_url(client, database))
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
    async with api(database_url, rate_limit_per_minute=4) as client:
        statuses = [
            (await client.request(method, path, json={"token": "x"} if method == "POST" else None)).status_code
            for method, path in (
                ("GET", "/qr"), ("GET", "/qr/state"), ("GET", "/qr?token=x"), ("POST", "/qr"),
                ("GET", "/qr"), ("GET", "/qr/state"), ("GET", "/qr?token=x"), ("POST", "/qr"),
            )
        ]  # fmt: skip
        page = await client.get("/qr?token=x", headers=HTML)
    assert statuses == [401] * 4 + [429] * 4
    assert (page.status_code, page.headers["content-type"]) == (429, PAGE)
    assert int(page.headers["retry-after"]) > 0


# --- forms -------------------------------------------------------------------------------------------------------


async def test_by_accept_it_is_the_raw_code(client: httpx2.AsyncClient, database: Database) -> None:
    early = await client.post("/qr", json={"token": token_of(await token_url(client, database))})
    assert (early.status_code, early.headers["content-type"]) == (409, PROBLEM)
    # The token is spent, so that the cookie must come with the refusal as well.
    assert "postrider_qr=" in early.headers["set-cookie"]
    await rows(database, PENDING)
    kinds = (
        ("*/*", "application/json", b'{"qr":"2@abc,def","expiresAt":"20'),
        ("application/json", "application/json", b'{"qr":"2@abc,def"'),
        ("image/png", "image/png", b"\x89PNG\r\n"),
        ("image/svg+xml", "image/svg+xml", b"<?xml"),
        ("text/plain, text/html;q=0.5", "text/plain; charset=utf-8", "█".encode()),
        ("text/html", PAGE, b"<!doctype html>"),
    )
    for accept, kind, begins in kinds:
        answer = await client.get("/qr", headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content.lstrip().startswith(begins)
        assert answer.headers["vary"] == "accept, cookie"
    for accept, kind, begins in kinds[1:5]:
        token = {"token": token_of(await token_url(client, database))}
        at_once = await client.post("/qr", json=token, headers={"accept": accept})
        assert (at_once.status_code, at_once.headers["content-type"]) == (200, kind)
        assert at_once.content.lstrip().startswith(begins)
        assert "postrider_qr=" in at_once.headers["set-cookie"]


async def test_nothing_of_it_is_kept_framed_or_told_on(client: httpx2.AsyncClient, database: Database) -> None:
    url = await token_url(client, database)
    hint, button = await client.get(url), await client.get(url, headers=HTML)
    moved = await press(client, url)
    page = await client.get("/qr", headers=HTML)
    refused = await client.get("/qr?token=wrong", headers=HTML)
    for answer in (hint, button, moved, page, refused, await client.get("/qr"), await client.get("/qr/state")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
    for answer, has_form in ((button, True), (page, False), (refused, False)):
        policy = answer.headers["content-security-policy"]
        assert ("form-action 'self'" in policy) is has_form
        assert ("form-action 'none'" in policy, "script-src 'self'" in policy) == (not has_form, not has_form)
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
    await press(client, await token_url(client, database))
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
    await press(client, await token_url(client, database))
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


async def test_a_code_is_drawn_once_however_often_it_is_asked_for(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await press(client, await token_url(client, database))
    await rows(database, PENDING.replace("abc", "asked for often"))
    forms = {"image/png": qr_drawing.png, "image/svg+xml": qr_drawing.svg, "text/plain": qr_drawing.text}
    before = [draw.cache_info().misses for draw in (*forms.values(), qr_drawing.data_url)]
    for _ in range(3):
        await client.get("/qr/state")
        for form in forms:
            assert (await client.get("/qr", headers={"accept": form})).status_code == 200
    after = [draw.cache_info().misses for draw in (*forms.values(), qr_drawing.data_url)]
    assert after == [misses + 1 for misses in before]


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

    async def visit(self, page: Page) -> None:
        """Open a fresh link and press its button."""
        await page.goto(await self.link())
        await page.get_by_role("button", name="Show the QR code").click()
        await page.wait_for_url(f"{self.origin}/qr")

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
        await site.visit(page)
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


async def test_a_page_names_the_account_whose_code_it_shows(site: Site) -> None:
    """Both pages of one browser have its one cookie, and so show the account of the link that was used last."""
    async with site.window() as page:
        await site.visit(page)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Shop")
        other = await new_account(site.client, "Café")
        await rows(site.database, PENDING)
        link = (await site.client.post("/admin/generate-qr-token", json={"account": other})).json()["url"]
        second = await page.context.new_page()
        await second.goto(site.origin + link)
        await second.get_by_role("button").click()
        for one in (second, page):
            await expect(one.get_by_role("img", name="QR code that links the account Café")).to_be_visible()
            await expect(one.get_by_role("heading", level=1)).to_have_text("Café")


async def test_the_token_is_in_no_address_bar_and_no_referer(site: Site) -> None:
    async with site.window() as page:
        asked: list[Request] = []
        # Playwright marks a handler, and a list's own method takes no mark.
        page.on("request", lambda request: asked.append(request))  # noqa: PLW0108
        await site.visit(page)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Shop")
        assert await page.evaluate("[location.href, document.referrer]") == [f"{site.origin}/qr", ""]
        assert "token" not in await page.content()
        assert [(one.method, "token" in one.url) for one in asked if one.is_navigation_request()] == [
            ("GET", True),
            ("POST", False),
            ("GET", False),
        ]
        for one in asked:
            assert "token" not in (await one.all_headers()).get("referer", "")
        await page.reload()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Shop")
        # What stays in the history is spent.
        answer = await page.goto(asked[0].url)
        assert answer is not None
        assert answer.status == 410


async def test_a_link_on_another_site_opens_it_too(site: Site) -> None:
    other = site.origin.replace("127.0.0.1", "localhost")  # another site to a browser: no SameSite=Strict cookie
    async with site.window() as page:
        mail = f'<a href="{await site.link()}">Your code</a>'
        await page.route("**/mail", lambda route: route.fulfill(content_type="text/html", body=mail))
        await page.goto(f"{other}/mail")
        await page.get_by_role("link").click()
        await page.get_by_role("button").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Shop")
        assert page.url == f"{site.origin}/qr"
    assert site.complaints == []


async def test_a_form_on_another_site_opens_nothing(site: Site) -> None:
    other = site.origin.replace("127.0.0.1", "localhost")
    async with site.window() as page:
        token = token_of(await site.link())
        trap = f'<form action="{site.origin}/qr" method="post"><input name="token" value="{token}"><button>Win</button>'
        await page.route("**/trap", lambda route: route.fulfill(content_type="text/html", body=trap))
        await page.goto(f"{other}/trap")
        await page.get_by_role("button").click()
        await expect(page.get_by_role("heading")).to_have_text("This page cannot be shown")
        assert await page.context.cookies() == []


async def test_a_double_click_opens_it_too(site: Site) -> None:
    async with site.window() as page:
        await page.goto(await site.link())
        await page.get_by_role("button").dblclick()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Shop")
    assert site.complaints == []


async def test_without_scripts_it_shows_what_there_is(site: Site) -> None:
    await rows(site.database, PENDING)
    async with site.window(scripts=False) as page:
        await site.visit(page)
        await expect(page.get_by_role("heading", level=2)).to_have_text("Scan this code")
        await expect(page.get_by_role("img", name="QR code that links")).to_be_visible()
        assert await page.locator("meta[http-equiv=refresh]").count() == 1


@pytest.mark.parametrize("width", [320, 390, 720, 1920])
async def test_it_fits_every_screen(site: Site, width: int) -> None:
    await rows(site.database, f"update accounts set name = '{'Very' * 40}' returning id")  # our own
    await rows(site.database, PENDING)
    async with site.window(width=width) as page:
        await page.goto(await site.link())
        button = await page.get_by_role("button").bounding_box()
        assert button is not None
        assert button["height"] >= 48  # px that a finger needs
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.get_by_role("button").click()
        await expect(page.get_by_role("timer")).to_have_text(re.compile(r"New code in \d+ s"))
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        box = await page.locator("#code").bounding_box()
        assert box is not None
        assert box["width"] == pytest.approx(box["height"], abs=1)
        assert box["width"] > 200


async def test_it_says_when_the_visit_is_over_or_the_server_away(site: Site) -> None:
    async with site.window() as page:
        await site.visit(page)
        await page.context.set_offline(True)
        await expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
        await page.context.set_offline(False)
        await expect(page.locator("#note")).to_be_hidden(timeout=10_000)
        await rows(site.database, "update qr_tokens set visit_expires_at = now() returning account_id")
        await expect(page.get_by_role("status")).to_contain_text("it is good for 10 minutes")
        await expect(page.locator("main")).to_have_attribute("data-phase", "over")


async def test_a_link_that_was_used_shows_a_page_that_says_so(site: Site) -> None:
    link = await site.link()
    async with site.window() as first, site.window() as second, site.window() as third:
        await second.goto(link)
        await first.goto(link)
        await first.get_by_role("button").click()
        await expect(first.get_by_role("heading", level=1)).to_have_text("Shop")
        await second.get_by_role("button").click()
        await third.goto(link)
        for late in (second, third):
            await expect(late.get_by_role("heading")).to_have_text("This page cannot be shown")
            await expect(late.locator("main")).to_contain_text("its button works once")
