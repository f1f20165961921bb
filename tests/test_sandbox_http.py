import re
from pathlib import Path

import httpx2
import pytest
from fixtures_browser import until
from fixtures_sandbox import (  # noqa: F401 - fixtures
    QUICK,
    OpenProfile,
    SandboxServer,
    a_playwright,
    a_sandbox,
    profiles,
    serve,
)
from playwright.async_api import expect

from browser.sandbox.app import create_sandbox
from browser.sandbox.problem import PHONE
from browser.sandbox.special_numbers import SpecialNumber
from browser.sandbox.store import HERE, Store
from browser.sandbox.web import version_of


async def test_scan_without_a_code_on_screen(sandbox: SandboxServer) -> None:
    answer = await sandbox.post("nobody/scan")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["title"], problem["status"], problem["code"]) == ("Conflict", 409, "conflict")
    assert "nobody" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"phone": "1555"}, 422, "text"),
        ({"text": "hi"}, 422, "phone"),
        ({"phone": "call me", "text": "hi"}, 422, "phone"),
        ({"phone": 1555, "text": "hi"}, 422, "phone"),
        ({"phone": "1555", "text": "  "}, 422, "text"),
        (rb'{"phone": "1555", "text": "\ud800"}', 422, "text"),
        ({"phone": "1555", "text": "x" * 65_537}, 422, "text"),
        ({"phone": "1555", "text": "hi", "when": "now"}, 422, "when"),
        (["phone"], 400, None),
        (b"{", 400, None),
        (b"\xff", 400, None),
    ],
)
async def test_wrong_body_names_the_field(sandbox: SandboxServer, body: object, status: int, field: str | None) -> None:
    if isinstance(body, bytes):
        answer = await sandbox.client.post("accounts/someone/incoming", content=body)
    else:
        answer = await sandbox.post("someone/incoming", body)
    assert answer.status_code == status
    assert [error["field"] for error in answer.json()["errors"]] == ([field] if field else [])


async def test_wrong_paths_are_problems(sandbox: SandboxServer) -> None:
    assert (await sandbox.post("no spaces/ban")).status_code == 422
    assert (await sandbox.client.get("messages?phone=nobody")).json()["errors"][0]["field"] == "phone"
    for answer in (await sandbox.post("someone/dance"), await sandbox.client.get("accounts/someone/ban")):
        assert answer.status_code in {404, 405}
        assert answer.headers["content-type"] == "application/problem+json"


async def test_acts_answer_how_the_account_stands(sandbox: SandboxServer) -> None:
    for act, undo, flag in (
        ("ban", "unban", "banned"),
        ("restrict", "unrestrict", "restricted"),
        ("offline", "online", "offline"),
    ):
        for _ in range(2):  # however often
            assert (await sandbox.post(f"acts/{act}")).json()[flag] is True
        assert (await sandbox.post(f"acts/{undo}")).json()[flag] is False
    assert (await sandbox.post("acts/unlink")).json()["devices"] == 0


@pytest.mark.parametrize("peer", ["192.0.2.7", "2001:db8::1", "testclient"])
async def test_only_loopback_peers(tmp_path: Path, peer: str) -> None:
    app = create_sandbox(tmp_path)
    transport = httpx2.ASGITransport(app, client=(peer, 5))
    async with httpx2.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        for path in ("/", "/messages", "/web/someone/"):
            answer = await client.get(path)
            assert answer.status_code == 403
            assert answer.json()["code"] == "forbidden"
    app.state.sandbox.store.close()


async def test_no_orders_from_other_sites(sandbox: SandboxServer) -> None:
    answer = await sandbox.client.post("accounts/someone/ban", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


async def test_login_needs_the_key(sandbox: SandboxServer) -> None:
    api = "web/someone/api"
    assert (await sandbox.client.post(f"{api}/challenge", json={"device": "made-up"})).status_code == 410
    assert (await sandbox.client.post(f"{api}/login", json={"device": "made-up", "proof": "00"})).status_code == 410
    sent = await sandbox.client.post(f"{api}/send", json={"id": "1", "phone": "1555", "text": "hi"})
    assert sent.status_code == 401
    assert (await sandbox.client.get(f"{api}/live?token=guess")).status_code == 401


async def test_pages_run_no_foreign_script(sandbox: SandboxServer) -> None:
    for path in ("", "web/someone/", "web/someone/send?phone=1555"):
        answer = await sandbox.client.get(path)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


async def test_what_a_page_loads_is_kept_until_it_changes(sandbox: SandboxServer, tmp_path: Path) -> None:
    page = await sandbox.client.get("web/someone/")
    addresses = re.findall(r'(?:src|href)="\.\./(static/[^"]+)"', page.text)
    assert {address.rpartition("/")[2] for address in addresses} >= {"main.js", "whatsapp.css"}
    for address in addresses:
        answer = await sandbox.client.get(f"web/{address}")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "max-age=31536000, immutable")
    assert (await sandbox.client.get("web/static/main.js")).headers["cache-control"] == "no-cache"
    (tmp_path / "main.js").write_text("one")
    before = version_of(tmp_path)
    assert before == version_of(tmp_path)
    (tmp_path / "main.js").write_text("another")
    assert before != version_of(tmp_path)


async def test_server_that_comes_back_finds_everything(open_profile: OpenProfile, tmp_path: Path) -> None:
    async with serve(tmp_path / "data", QUICK) as server:
        profile = await open_profile(server=server)
        await profile.link()
        await profile.send("15551230100", "before")
        await profile.ticked.wait_for()
        await profile.goto(f"send?phone={SpecialNumber.BANS}")
        await profile.page.get_by_text("You're temporarily banned").wait_for()
        await server.post(f"{profile.account}/unban")
        await profile.open("15551230102")
        await server.stop()

        await profile.page.get_by_text("Computer not connected").wait_for()
        await profile.box.fill("while it was away")
        await profile.box.press("Enter")
        await profile.status("Pending").wait_for()

        await server.start()
        await profile.status("Read").wait_for()
        await expect(profile.page.get_by_text("Computer not connected")).to_have_count(0)
        items = await server.items("messages")
        assert [(item["phone"], item["text"]) for item in items] == [
            ("15551230100", "before"),
            ("15551230102", "while it was away"),
        ]
        await profile.open(SpecialNumber.BANS)  # its one time was before the restart
        await profile.context.close()

        async def all_ended() -> bool:
            return all(session["end"] for session in await server.items("sessions"))

        await until(all_ended)


async def test_phone_page_scans_by_a_click(open_profile: OpenProfile) -> None:
    profile = await open_profile()
    await profile.goto()
    await profile.page.locator("[data-ref]").wait_for()
    phone = await profile.context.new_page()
    await phone.goto(profile.server.url)
    mine = phone.locator("section", has_text=profile.account)
    await mine.get_by_text("QR code on screen").wait_for()
    await mine.get_by_role("button", name="Scan QR code").click()
    await profile.chats.wait_for()
    await profile.send("15551230101", "<img src=x onerror=alert(1)>")
    await mine.get_by_role("cell", name="<img src=x onerror=alert(1)>").wait_for()
    await mine.get_by_label("From").fill("15551230101")
    await mine.get_by_label("Message").fill("and back")
    await mine.get_by_role("button", name="Send to this account").click()
    await expect(profile.bubbles).to_have_count(2)
    await mine.get_by_role("button", name="Ban").click()
    await profile.page.get_by_text("You're temporarily banned").wait_for()
    await mine.get_by_role("button", name="Lift ban").click()
    await profile.chats.wait_for()
    await mine.get_by_role("button", name="Unlink").click()
    await profile.page.get_by_text("You have been logged out.").wait_for()


def test_every_query_is_used(tmp_path: Path) -> None:
    store = Store(tmp_path / "sandbox.sqlite")
    code = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("*.py"))
    assert [name for name in store.names if f'"{name}"' not in code] == []
    store.close()


def test_magic_numbers_are_phones() -> None:
    assert all(PHONE.fullmatch(number) for number in SpecialNumber)
