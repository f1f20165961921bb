"""What `postrider doctor --account` says of a page, and of whoever does not look at it."""

import asyncio
import base64
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fixtures_browser import SELECTORS, Pages, kind, linked, new_account, page, pages, send
from fixtures_house import ROOT, house
from fixtures_lanes import add_lanes, add_worker, value

from browser.engine.profile import visiting
from browser.page.checkup import examine
from browser.page.screens import Screen
from browser.page.whatsapp import WhatsApp
from commands import checkup, environment, output
from commands.checkup import ExaminedAccount
from crypto import Sealer
from errors import OperatorError, ProfileElsewhere
from sql.database import Database
from tasks.web import checkups
from tasks.web.profiles import Profiles

__all__ = ["kind", "linked", "page", "pages"]
NO_KEY = base64.b64encode(bytes(32)).decode()
EXAMINED = ExaminedAccount(
    id="acc_1", org_id="org_default", name="Shop", transport="sandbox", wanted="connected", state="ready",
    state_reason=None, state_since=datetime(2026, 1, 1, tzinfo=UTC), linked=True, phone="15550000001", held=True,
    leased_by="wrk_1", host="here:1", version="1", visited=False, kept=True, profile_home=None, closed=False,
    closed_because=None, opens_at=None, works=True,
)  # fmt: skip


async def test_what_is_printed_of_it(page: WhatsApp, capsys: pytest.CaptureFixture[str]) -> None:
    await send(page, await page.profile_phone() or "", "a note")
    said = await told(page)
    assert said == f"shows the screen main, and selectors {SELECTORS.version} (shipped) find what it needs"
    printed = capsys.readouterr().out
    assert re.search(r"^ +pane +1/2 #pane-side$", printed, re.MULTILINE)
    assert re.search(r"^ +qr +-/6 not on this screen$", printed, re.MULTILINE)
    assert "MISSING" not in printed
    for gone in ("attach", "chat_row", "compose", "meta"):
        page.use(replace(SELECTORS, elements=SELECTORS.elements | {gone: ["#gone"]}))
        assert gone in (await page.census()).missing(Screen.MAIN), gone
    page.use(replace(SELECTORS, elements=SELECTORS.elements | {"search": ["#gone", "a:unheard-of"]}))
    with pytest.raises(OperatorError, match=r"On the screen main, selectors .* \(shipped\) do not find search: see"):
        await told(page)
    page.use(SELECTORS)
    printed = capsys.readouterr().out
    assert re.search(r"^ +search +-/2 MISSING on this screen$", printed, re.MULTILINE)
    assert "'a:unheard-of' is not valid CSS in this Chromium" in printed


async def told(page: WhatsApp, **changes: object) -> str:
    """Print and judge a look without a click, as the command does."""
    found = await examine(page, shown=10, act=False, reload=False)
    answer = asdict(found) | {"origin": "shipped"}
    checkup._print(checkup.Progress(), answer)
    return checkup._judged(answer, EXAMINED if not changes else replace(EXAMINED, **changes))  # type: ignore[arg-type]


async def test_the_linking_screen(pages: Pages, kind: str) -> None:
    page = await pages.open(new_account(), kind)
    try:
        assert (await told(page, state="qr_pending", linked=False)).startswith("shows the screen qr, and selectors ")
        with pytest.raises(OperatorError, match="It was logged out, on the phone or by WhatsApp"):
            await told(page)
        page.use(replace(SELECTORS, elements=SELECTORS.elements | {"qr_ref": ["#gone"]}))
        assert (await page.census()).missing(Screen.QR) == ["qr_ref"]
        assert (await page.census()).missing(Screen.BANNED) == []
    finally:
        await page.close()


async def test_what_a_killed_one_leaves_is_swept(database: Database, tmp_path: Path) -> None:
    await add_worker(database, "wrk_a", home="visit_living", seats=0, duties=())
    left = {home: visiting(tmp_path, home) for home in ("visit_dead", "visit_living")}
    for home in left.values():
        (home / "acc_1").mkdir()
        assert home.stat().st_mode & 0o777 == 0o700
    await Profiles(database, "wrk_b", "home_b", tmp_path, Sealer.from_text(NO_KEY)).sweep()
    assert [home.name for home in left.values() if home.exists()] == ["visit_living"]
    room = await database.one("room_elsewhere", worker="wrk_b")
    assert room == {"room": False}, "nothing is left to it"
    assert [row["workers"] for row in await database.all("duties_done", most=1)] == [0, 0], "it works on nothing"


async def said(database_url: str, tmp_path: Path) -> str:
    """Look at account a; return why that cannot be."""
    with pytest.raises((OperatorError, ProfileElsewhere)) as raised:
        await checkup._checkup(environment.load(data_dir=tmp_path, database_url=database_url), "a")
    return str(raised.value)


@pytest.mark.long
async def test_a_page_that_is_in_use_is_looked_at_without_a_click(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house(tmp_path, database_url) as it:
        account = await it.link()
        assert it.worker
        session = it.seats.sessions[account]
        async with session.busy:
            monkeypatch.setattr(checkups, "BUSY", 0.1)
            assert (await checkup._checkup(it.settings, account)).startswith("shows the screen main, and selectors ")
        assert checkups.IN_USE in capsys.readouterr().out
        monkeypatch.setattr(checkups, "BUSY", 30.0)
        for limit in ("LIMIT", "LIMIT_WITH_RELOAD"):
            monkeypatch.setattr(checkups, limit, -checkups.SHOWN)
        with pytest.raises(OperatorError, match="Its own chat was not opened: its own chat did not open within"):
            await checkup._checkup(it.settings, account)
        assert (await it.ended(await it.send(account, "15556670005", "goes on")))["sentAt"]


async def test_who_does_not_look_is_named(
    database: Database,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checkup, "PATIENCE", 0.5)
    monkeypatch.setattr(output, "EVERY", 0.2)
    assert await said(database_url, tmp_path) == "There is no account a."
    await add_lanes(database, "a")
    await add_worker(database, "wrk_old")
    assert (await said(database_url, tmp_path)).startswith("It is not linked")
    async with database.transaction() as tx:
        await tx.connection.execute("update accounts set linked = true")
    await database.all("lease_account", account="a", worker="wrk_old", lease=60)
    text = await said(database_url, tmp_path)
    assert text.startswith("It is not_started; worker wrk_old on here, version 0.2.0, did not look within 0 s")
    assert "it is not_started, and wrk_old has not looked yet" in capsys.readouterr().out
    async with database.transaction() as tx:
        await tx.connection.execute("update accounts set lease_until = null, profile_home = 'home_x'")
    assert (await said(database_url, tmp_path)).startswith("Its newest login is in home_x, the profiles of a")
    assert await value(database, "select leased_by from accounts") == "wrk_old", "nothing was leased for that"


async def test_a_canary_wants_an_account(database_url: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "doctor", "--canary", cwd=ROOT, stdout=PIPE, stderr=STDOUT,
        env={**os.environ, "DATABASE_URL": database_url, "DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    assert (process.returncode, output) == (1, "postrider: --canary sends from an account: name it with --account.\n")
