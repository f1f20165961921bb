"""`postrider doctor --account`: look at an account's page, in the worker that has it open or in a browser of our own.

No login is ever open twice. If a worker has the account, that worker looks (tasks/web/checkups.py); only an account
without a lease is leased and opened here.
"""

import asyncio
import shutil
import signal
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.http.models import iso
from browser.engine.profile import VISITS, visiting
from browser.page.screens import ERRORS, PASSING, Screen
from commands import environment
from commands.output import keep_telling, tell
from errors import DatabaseError, LoggedOut, OperatorError, ProfileElsewhere
from settings import Settings
from sql.database import Database
from sql.ids import new_id
from sql.roles import Role
from tasks.web.checkups import Checkups
from tasks.web.profiles import Profiles
from tasks.web.seats import Seats
from tasks.web.selector_source import SelectorSource
from tasks.web.sessions import DUTY, seats_of
from tasks.web.state_changes import Account
from tasks.web.states import State
from wiring import selectors, shared
from wiring.worker import make_worker

BOOT = 90.0  # seconds that a page may take to start; a cold start of the real one was measured at 20-25 s
#: Seconds that a worker has to answer: longer than it takes to finish a message and to look at the page.
PATIENCE = 120.0
POLL_SECONDS = 0.5  # between checks for its answer
#: states in which a page may still be loading its chat list
OPENING = frozenset({State.starting, State.qr_pending, State.authenticated})
VISITS_MOST = 2  # times that the account is opened here, since a page may crash
RETRIES, RETRY_SECONDS = 4, 3.0  # of giving the account back while Postgres is away


@dataclass(frozen=True)
class ExaminedAccount:
    """An account as doctor sees it."""

    id: str
    org_id: str
    name: str
    transport: str
    wanted: str
    state: str
    state_reason: str | None
    state_since: datetime
    linked: bool
    phone: str | None
    #: a worker or a doctor leases it, or did until a moment ago
    held: bool
    leased_by: str | None
    host: str | None
    version: str | None
    #: another doctor leases it
    visited: bool
    #: its newest login is sealed in Postgres
    kept: bool
    profile_home: str | None
    closed: bool
    closed_because: str | None
    opens_at: datetime | None
    #: a worker runs
    works: bool

    @property
    def holder(self) -> str:
        """The process that leases it."""
        return f"{'doctor' if self.visited else 'worker'} {self.leased_by} on {self.host}, version {self.version}"


class Progress:
    """Prints what a command has found, and what it is waiting for, a line each."""

    def __init__(self) -> None:
        self.what = ""
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line."""
        tell(f"      {line}")

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Print what the command is waiting for, every few seconds, within the block."""
        return keep_telling(lambda: f"      … {time.monotonic() - self._began:3.0f} s: {self.what}")


def run_checkup(settings: Settings, account: str) -> str:
    """Print what was found on the account's page and return a summary. Raises OperatorError if something is wrong."""
    try:
        return asyncio.run(_stoppable(settings, account))
    except asyncio.CancelledError:
        raise OperatorError("Stopped by a signal; nothing is open any more.") from None


async def _stoppable(settings: Settings, account: str) -> str:
    """End on SIGTERM as on Ctrl-C: close the browser and give the account back first."""
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await _checkup(settings, account)


async def _checkup(settings: Settings, account: str) -> str:
    url, progress = environment.database_url(settings), Progress()
    async with Database(url, Role.WORKER, size=2, name="postrider doctor") as database:
        examined = await find(database, account)
        because = f": {examined.state_reason}" if examined.state_reason else ""
        progress.say(f"{examined.name} ({examined.id}) is {examined.state} since {iso(examined.state_since)}{because}")
        if not examined.held:
            _check_openable(examined)
        async with progress.kept():
            answer = await _answer(settings, url, database, examined, progress)
    _print(progress, answer)
    return _judged(answer, examined)


async def find(database: Database, account: str) -> ExaminedAccount:
    """Return the account. Raises OperatorError if there is none."""
    rows = await database.read(ExaminedAccount, "examined_account", account=account)
    if not rows:
        raise OperatorError(f"There is no account {account}.")
    return rows[0]


async def _answer(
    settings: Settings, url: str, database: Database, examined: ExaminedAccount, progress: Progress
) -> dict[str, Any]:
    """Request a look, wait until a worker or this process has looked, and return what was found."""
    asked = await database.one("want_checkup", account=examined.id)
    since, until = asked and asked["wanted_at"], time.monotonic() + PATIENCE
    asking, visits = "", 0
    while True:
        if row := await database.one("checkup_since", account=examined.id, since=since):
            answer: dict[str, Any] = row["answer"]
            return answer
        examined = await find(database, examined.id)
        if not examined.held:
            _check_openable(examined)
            if visits == VISITS_MOST:
                raise OperatorError(f"Its page was lost {visits} times during the look.")
            visits += await _look_here(settings, url, examined, progress)
        elif asking != examined.holder:
            asking = examined.holder
            progress.say(f"it is held by {asking}, which is asked to look")
        progress.what = f"it is {examined.state}, and {examined.leased_by} has not looked yet"
        if asking and time.monotonic() > until:
            raise OperatorError(
                f"It is {examined.state}; {asking}, did not look within {PATIENCE:.0f} s: see its log. "
                "If it hangs, stop it, and run this again."
            )
        await asyncio.sleep(POLL_SECONDS)


# --- a look of our own -------------------------------------------------------------------------------------------


async def _look_here(settings: Settings, url: str, examined: ExaminedAccount, progress: Progress) -> bool:
    """Lease the account and look at its page here, in a home of our own; False if another leased it first."""
    root, home = settings.profiles.resolve(), new_id("visit_")
    source = selectors.source(settings)
    source.load()
    values = {"chrome_user_data_dir": root / VISITS / home, "worker_duties": (DUTY,)}
    worker = make_worker(settings.model_copy(update=values), url, home)
    seats = seats_of(worker.parts)
    async with worker.opened(), worker.visiting():
        # Only after our row exists in `workers`: it tells the sweeps of other workers that this home is in use.
        await Profiles(worker.database, worker.id, home, root, shared.sealer(settings)).sweep()
        directory = visiting(root, home)
        try:
            leased = await seats.lease(examined.id)
            if leased:
                progress.say("no worker has it: its page is opened here for a moment")
                await _open(seats, source, examined, progress)
            return leased
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _open(seats: Seats, source: SelectorSource, examined: ExaminedAccount, progress: Progress) -> None:
    try:
        # Read again, now that it is leased.
        examined = await find(seats.database, examined.id)
        _check_openable(examined)
        rows = await seats.database.read(Account, "account_to_drain", account=examined.id, keepalive=0)
        progress.what = "its page is being opened"
        session = await seats.open(rows[0])
        progress.what = "its page is being looked at"
        checkups = Checkups(seats.database, seats, lambda: source.origin)
        await checkups.look(session, shown=BOOT, reload=True)
    finally:
        progress.what = "its login is being sealed"
        await _leave(seats, examined, progress)


def _check_openable(examined: ExaminedAccount) -> None:
    """Raise OperatorError if there is no login, ProfileElsewhere if a newer one is on another disk."""
    if not examined.linked:
        raise OperatorError("It is not linked, so it has no page to look at: connect it, and scan.")
    if not examined.kept:
        raise ProfileElsewhere(
            f"Its newest login is in {examined.profile_home}, the profiles of a worker that could not seal it: "
            "start that worker, or let it open the account, and run this again."
        )


async def _leave(seats: Seats, examined: ExaminedAccount, progress: Progress) -> None:
    """Seal the login and give the account back as it was."""
    for retries_left in range(RETRIES, -1, -1):
        try:
            await seats.leave(examined.id, examined.state_reason)
            break
        except DatabaseError:
            if not retries_left:
                raise
            await asyncio.sleep(RETRY_SECONDS)
    if seats.profiles.directory(examined.id).exists():
        progress.say("its login could not be sealed again, so the earlier copy will be opened next: the log says why")


# --- what was found ----------------------------------------------------------------------------------------------


def _print(progress: Progress, answer: dict[str, Any]) -> None:
    for fit in answer.get("fits", []):
        name, tries = fit["name"], fit["alternatives"]
        absent = "MISSING on this screen" if name in answer["missing"] else "not on this screen"
        progress.say(
            f"{name:17} " + (f"{fit['place'] + 1}/{tries} {fit['css']}" if fit["css"] else f"-/{tries} {absent}")
        )
    for css in answer.get("broken", []):
        progress.say(f"{css!r} is not valid CSS in this Chromium")
    if answer.get("own_chat"):
        ticks = ", ".join(f"{count} {tick}" for tick, count in answer["ticks"].items())
        progress.say(
            f"its own chat was open; ticks of the messages in view: {ticks or 'none, since it has no message'}"
        )
    if answer.get("note"):
        progress.say(answer["note"])


def _judged(answer: dict[str, Any], examined: ExaminedAccount) -> str:
    """Return a summary of the page. Raises OperatorError with the first thing that is wrong."""
    if "error" in answer:
        raise OperatorError(f"The page could not be looked at: {answer['error']}")
    screen, which = Screen(answer["screen"]), f"selectors {answer['version']} ({answer['origin']})"
    if answer["missing"]:
        raise OperatorError(
            f"On the screen {screen}, {which} do not find {', '.join(answer['missing'])}: see docs/selectors.md."
        )
    if answer["strange"]:
        raise OperatorError(f"{which} do not know these ticks: {', '.join(answer['strange'])}: see docs/selectors.md.")
    if answer["failed"]:
        raise OperatorError(f"Its own chat was not opened: {answer['note']}")
    passing = PASSING if examined.linked else PASSING | {Screen.QR}
    if screen is not Screen.MAIN and not (examined.state in OPENING and screen in passing):
        error = LoggedOut if screen is Screen.QR and examined.linked else ERRORS[screen]
        raise OperatorError(f"It shows the screen {screen}, which {which} recognise: {error().summary}")
    where = ", in its own chat too" if answer["own_chat"] else ""
    return f"shows the screen {screen}, and {which} find what it needs{where}"
