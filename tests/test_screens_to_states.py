"""Every screen that the sandbox can show, and what becomes of the account.

Which error each screen is met with is tried on a page alone, of every generation (test_browser_link.py); what becomes
of each error is tried in a house here, with every screen on the newest page and one screen an error on the others.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import pytest
from fixtures_browser import DOMS
from fixtures_house import House, house
from fixtures_lanes import until, value
from fixtures_screens import MEETS

from api.accounts.account_health import KEPT
from browser.page.screens import Screen
from browser.sandbox.control import DIALOGS, FULL_PAGE, LOGOUTS
from commands.demo_timing import PATIENCE
from errors import Banned, LoggedOut, Offline, OpenElsewhere, PageCrashed, PageHung, SendError, UiChanged, UnknownDialog
from tasks.web import account_errors
from tasks.web.lane import AccountWork
from tasks.web.seats import Seats

pytestmark = pytest.mark.timeout(600)

LINES = 4  # accounts at once: most of a case is waiting
#: A page of the sandbox takes less than a second to boot.
HASTY = replace(PATIENCE, boot=8.0, chat=12.0, offline=6.0)
FAILURES = "select reconnects + failures_in_a_row from accounts where id = %s"
WAY = "select string_agg(to_state, ' ' order by id) from account_changes where account_id = %s and id > %s"
LAST = "select coalesce(max(id), 0) from account_changes"

Moment = Literal["idle", "opening"]


@dataclass(frozen=True)
class Fate:
    """What becomes of an account whose page shows a screen when a message is due."""

    state: str
    reason: str | None
    #: why its lane is closed, and whether for good
    gate: str
    for_good: bool
    health: str
    #: of which failure evidence is kept
    evidence: str | None
    #: what a person does when the screen has gone
    act: str | None = None


def waits(moment: Moment) -> Fate:
    """The page connects by itself, where it stands."""
    if moment == "idle":
        return Fate("ready", None, "offline", for_good=False, health="healthy", evidence=None)
    return Fate("starting", Offline().summary, "offline", for_good=False, health="warning", evidence=None)


def opens_anew(error: type[SendError]) -> Fate:
    """The browser is closed and opened again, 1, 2, 4, 8 and 16 s apart."""
    return Fate("starting", error().summary, error.code, for_good=False, health="warning", evidence=error.code)


def stops(error: type[SendError]) -> Fate:
    """Somebody has to look."""
    return Fate(
        "disconnected", error().summary, error.code, for_good=True, health="critical", evidence=error.code, act="resume"
    )


CHANGED = stops(UiChanged)
BAN = Fate("banned", "The page shows a ban screen.", "banned", True, "critical", "banned", "resume")  # noqa: FBT003
OUT = Fate("auth_failed", f"{LoggedOut().summary} {KEPT}", "logged_out", True, "critical", "logged_out", "connect")  # noqa: FBT003

#: by the error that a screen is met with; None: nothing becomes of it, and the message goes out at once
FATES: dict[type[SendError] | None, dict[Moment, Fate | None]] = {
    error: {"idle": idle, "opening": opening}
    for error, idle, opening in (
        (PageHung, opens_anew(PageHung), opens_anew(PageHung)),
        (PageCrashed, opens_anew(PageCrashed), opens_anew(PageCrashed)),
        (Offline, waits("idle"), waits("opening")),
        (Banned, BAN, BAN),
        (OpenElsewhere, stops(OpenElsewhere), stops(OpenElsewhere)),
        (UiChanged, CHANGED, CHANGED),
        (None, None, None),
        (UnknownDialog, stops(UnknownDialog), stops(UnknownDialog)),
        (LoggedOut, OUT, OUT),
    )
}
#: one screen for each
EXAMPLES = {error: screen for screen, error in reversed(MEETS.items())}


def test_every_screen_has_a_fate() -> None:
    assert set(MEETS) == {*FULL_PAGE, *DIALOGS, *LOGOUTS}
    assert set(MEETS.values()) == set(FATES)


@dataclass
class Stage:
    """A house, and accounts in it whose pages are all of one generation."""

    house: House
    dom: str
    phones: Iterator[int] = field(default_factory=lambda: itertools.count(15553330001))

    @property
    def seats(self) -> Seats:
        assert self.house.worker
        return self.house.seats

    async def show(self, account: str, screen: str | None) -> None:
        """Show a screen, or end it."""
        await self.house.client.post(f"/sandbox/accounts/{account}/show", {"screen": screen})

    async def sleep(self, account: str) -> None:
        """Put the account to sleep, as soon as no drain works on it."""
        async with asyncio.timeout(30):
            while (await self.house.client.get(f"/accounts/{account}"))["state"] != "hibernated":
                await self.seats.leave(account, "idle", only_idle=True)

    async def shown(self, account: str) -> None:
        """Wait until the account's open page shows something that is not the chat list alone."""
        page = self.seats.sessions[account].page
        async with asyncio.timeout(30):
            while await page.screen() is Screen.MAIN and not (await page._reader.sight()).dialogs:
                await asyncio.sleep(0.05)

    async def becomes(self, account: str, job: str, fate: Fate) -> None:
        """Wait until the account has this fate and the message waits."""
        wanted = (fate.state, fate.reason, fate.health, fate.gate, fate.for_good, "queued")
        seen: tuple[object, ...] = ()
        try:
            async with asyncio.timeout(90):
                while seen != wanted:
                    seen = await self._stands(account, job)
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{seen} is not {wanted}") from None

    async def _stands(self, account: str, job: str) -> tuple[object, ...]:
        get = self.house.client.get
        health, shown = await get(f"/accounts/{account}/health"), await get(f"/accounts/{account}")
        return (
            shown["state"], shown["stateReason"], shown["health"], health["nextSendReason"],
            health["nextSendAt"] is None, (await get(f"/jobs/{job}"))["status"],
        )  # fmt: skip

    def evidence(self, account: str) -> set[Path]:
        """Return the pictures that are kept as evidence; each has its HTML beside it."""
        return set((self.house.settings.data_dir / "evidence" / account).glob("*.png"))

    async def act(self, account: str, what: str) -> None:
        """Do what a person is asked to: resume, or connect and scan."""
        await self.house.client.post(f"/accounts/{account}/{what}")
        if what == "connect":
            await self.house.client.qr(account)
            await self.house.client.scan(account, (await self.house.client.get(f"/accounts/{account}"))["phone"])


@asynccontextmanager
async def stage(tmp_path: Path, url: str, dom: str) -> AsyncIterator[Stage]:
    async with house(tmp_path, url, HASTY, rate_limit_per_minute=0) as it:
        assert it.worker
        work = it.worker.lanes.works["account"]
        assert isinstance(work, AccountWork)
        work.errors.ban_recheck_seconds = 1.0
        work.errors.evidence.per_hour = 1000
        address = it.seats.url
        it.seats.url = lambda account: f"{address(account)}?dom={dom}"
        yield Stage(it, dom)


@pytest.mark.long
@pytest.mark.parametrize("moment", get_args(Moment))
@pytest.mark.parametrize("dom", DOMS)
async def test_every_screen_leads_to_its_state_and_back(
    database_url: str, tmp_path: Path, dom: str, moment: Moment
) -> None:
    screens = MEETS if dom == DOMS[-1] else EXAMPLES.values()
    await play_all(database_url, tmp_path, dom, ((screen, moment) for screen in screens))


async def play_all(url: str, tmp_path: Path, dom: str, cases: Iterable[tuple[str, Moment]]) -> None:
    """Play each case, some at once."""
    waiting, failures = iter(cases), list[str]()
    async with stage(tmp_path, url, dom) as it:

        async def line() -> None:
            account, friend = await it.house.link(), str(next(it.phones))
            for screen, moment in waiting:
                # To somebody who is known, which costs no reload; a dialog is met by the reload that a new chat costs.
                phone = friend if FATES[MEETS[screen]][moment] else str(next(it.phones))
                try:
                    await play(it, account, phone, screen, moment)
                except Exception as error:  # noqa: BLE001  # the other screens are tried all the same
                    failures.append(f"{screen} when {moment}: {error or type(error).__name__}")
                    account = await it.house.link()

        await asyncio.gather(*(line() for _ in range(LINES)))
    assert not failures, "\n".join(failures)


async def play(it: Stage, account: str, phone: str, screen: str, moment: Moment) -> None:
    """Let a message fall due while the screen is shown, and see it go when the screen has gone."""
    text, fate = f"Meet me at the lighthouse, {screen}, {moment}", FATES[MEETS[screen]][moment]
    before, last = it.evidence(account), await value(it.house.database, LAST)
    if moment == "opening":
        await it.sleep(account)
    await it.show(account, screen)
    if moment == "idle":
        await it.shown(account)
    job = await it.house.send(account, phone, text)
    if fate:
        await it.becomes(account, job, fate)
        assert text not in await it.house.received(phone)
        if fate is BAN:
            way = await value(it.house.database, WAY, account, last)
            assert way.removeprefix("hibernated starting ") == "suspected_ban banned"
        if screen not in LOGOUTS:
            await it.show(account, None)
        if fate.act:
            await it.act(account, fate.act)
    ended = await it.house.ended(job)
    assert ended["sentAt"]
    assert ended["attempts"] == 1, "a message is not to blame for what the page shows"
    if not fate:
        await it.show(account, None)
    check_evidence(
        it.evidence(account) - before, fate.evidence if fate else None, (text.split(",", maxsplit=1)[0], phone)
    )
    assert (await it.house.received(phone)).count(text) == 1
    assert await value(it.house.database, FAILURES, account) == 0
    await settled(it, account)


async def settled(it: Stage, account: str) -> None:
    """Wait until the account has come to rest on its chat list."""
    await it.house.client.wait(f"/accounts/{account}", "state", {"ready"}, 60)
    session = it.seats.sessions[account]
    async with session.busy:
        await session.page.wait_screen(Screen.MAIN, timeout=30)
        await session.page.settle_in()


def check_evidence(pieces: set[Path], code: str | None, private: tuple[str, ...]) -> None:
    """Check that each piece is of this failure, is whole, and tells nothing of the message."""
    assert {piece.stem.partition("Z-")[2] for piece in pieces} == ({code} if code else set())
    for piece in pieces:
        assert piece.read_bytes().startswith(b"\x89PNG")
        html = piece.with_suffix(".html").read_text("utf-8")
        assert "<body" in html
        assert not [words for words in private if words in html]


@pytest.mark.long
async def test_an_unknown_screen_can_be_read_in_its_evidence(database_url: str, tmp_path: Path) -> None:
    async with stage(tmp_path, database_url, DOMS[0]) as it:
        account = await it.house.link()
        await it.show(account, "unknown")
        await it.shown(account)
        job = await it.house.send(account, "15553339001")
        await it.becomes(account, job, CHANGED)
        (piece,) = it.evidence(account)
        assert "Choose your avatar" in piece.with_suffix(".html").read_text("utf-8")
        # Nothing opens it behind a person's back: not another message, not the clock.
        await it.house.send(account, "15553339002")
        await until(it.house.database, "select count(*) from procrastinate_jobs where lock like 'acc_%'", 0)
        assert account not in it.seats.sessions
        await it.becomes(account, job, CHANGED)


@pytest.mark.long
async def test_an_outage_costs_the_seat_after_five_tries_and_ends_by_itself(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_errors, "RECONNECT_CAP", 0.05)
    monkeypatch.setattr(account_errors, "DISCONNECTED_RETRY_SECONDS", 1.0)
    async with stage(tmp_path, database_url, DOMS[-1]) as it:
        outages = {"offline": Offline, "crashed": PageCrashed}
        accounts = {screen: await it.house.link() for screen in outages}
        jobs = {}
        for screen, account in accounts.items():
            await it.show(account, screen)
            await it.shown(account)
            jobs[screen] = await it.house.send(account, str(next(it.phones)), screen)
        for screen, error in outages.items():
            fate = Fate("disconnected", error().summary, error.code, for_good=False, health="critical", evidence=None)
            await it.becomes(accounts[screen], jobs[screen], fate)
            tried = await value(it.house.database, "select reconnects from accounts where id = %s", accounts[screen])
            assert tried > account_errors.RECONNECTS
            await it.show(accounts[screen], None)
        for screen, account in accounts.items():
            assert (await it.house.ended(jobs[screen]))["attempts"] == 1
            assert await value(it.house.database, FAILURES, account) == 0


@pytest.mark.long
async def test_a_ban_screen_that_goes_before_the_second_look_was_none(database_url: str, tmp_path: Path) -> None:
    async with stage(tmp_path, database_url, DOMS[-1]) as it:
        account = await it.house.link()
        await it.show(account, "banned")
        await it.shown(account)
        job = await it.house.send(account, "15553339003")
        await it.becomes(account, job, replace(BAN, state="suspected_ban", gate="suspected_ban"))
        await it.show(account, None)
        assert (await it.house.ended(job))["sentAt"]
        assert (await it.house.client.get(f"/accounts/{account}"))["state"] == "ready"


@pytest.mark.long
async def test_a_page_that_loads_itself_anew_under_a_message_is_no_page_that_changed(
    database_url: str, tmp_path: Path
) -> None:
    async with stage(tmp_path, database_url, DOMS[-1]) as it:
        account, phone = await it.house.link(), "15553339004"
        it.seats.sessions[account].page._box._delays = (30, 30)
        job = await it.house.send(account, phone, "x" * 80)
        page = it.seats.sessions[account].page
        async with asyncio.timeout(30):
            while "xxx" not in str(await page._reader.ask("chat")):
                await asyncio.sleep(0.02)
        await page._page.reload()
        ended = await it.house.ended(job)
        assert ended["sentAt"]
        assert "ui_changed" in [step["detail"] for step in ended["timeline"]]
        assert await it.house.received(phone) == ["x" * 80]


@pytest.mark.long
async def test_a_box_that_is_missing_twice_stops_the_account(database_url: str, tmp_path: Path) -> None:
    async with stage(tmp_path, database_url, DOMS[-1]) as it:
        account, phone = await it.house.link(), "15553339005"
        right = it.seats.selectors
        it.seats.use(replace(right, elements={**right.elements, "compose": ["#no-such-box"]}))
        job = await it.house.send(account, phone)
        await it.becomes(account, job, replace(CHANGED, reason=f"{CHANGED.reason} It lacks compose."))
        shown = await it.house.client.get(f"/jobs/{job}")
        assert shown["attempts"] == 0
        assert [step["status"] for step in shown["timeline"]].count("sending") == 2
        check_evidence(it.evidence(account), "ui_changed-compose", (phone,))
        assert len(it.evidence(account)) == 2
        it.seats.use(right)
        await it.act(account, "resume")
        assert (await it.house.ended(job))["sentAt"]
        assert await it.house.received(phone) == ["hello"]
