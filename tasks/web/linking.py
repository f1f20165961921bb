"""Linking an account: publish the QR codes of its page, or a pairing code, until a phone has used one."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from browser.page.screens import ERRORS, LASTING, Screen
from errors import LeaseLost, LoggedOut, NotLinked
from sql.database import Database, Transaction
from tasks.lanes import wake_returned
from tasks.web.seats import Session
from tasks.web.state_changes import Account, States
from tasks.web.states import State

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # seconds between looks at the page
#: Seconds that the first code and each later one are valid (WAWebHandlePairDevice, 2026-04).
FIRST_CODE_SECONDS, CODE_SECONDS = 60.0, 20.0
MAX_CODES = 6  # codes shown until a person has to ask again
PAIRING_CODE_SECONDS = 195.0  # seconds until a pairing code is replaced (page module of 2026-04)
PAIRING_TIMEOUT = 360.0  # seconds after which the page gives up on pairing
SCANNED = {Screen.SYNCING, Screen.MAIN}
SYNC_TIMEOUT = 300.0  # seconds from the scan to the chat list; a large account downloads for minutes


class NotScanned(NotLinked):
    """Nobody scanned a QR code in time; ask to connect again."""

    code = "qr_not_scanned"


@dataclass
class _Shown:
    """The code that the page shows, and how long to wait for a phone to use it."""

    code: str | None = None
    codes: int = 0
    pairing: str | None = None
    #: when the code is replaced, or expires
    end: float = field(default_factory=lambda: time.monotonic() + FIRST_CODE_SECONDS)

    @property
    def over(self) -> bool:
        """Whether the time is over: the last code has expired, or no new one came."""
        late = time.monotonic() - self.end
        return late > (0 if self.pairing or self.codes >= MAX_CODES else FIRST_CODE_SECONDS)


@dataclass
class Linking:
    """Shows the codes of a page in the account's row."""

    database: Database
    worker: str
    states: States
    stopping: Callable[[], bool]

    async def follow(self, account: Account, session: Session) -> None:
        """Return once the account is linked and on its main screen.

        Raises NotScanned, PairingRefused, and LeaseLost on a stop or when linking is no longer wanted.
        """
        await self.database.all(
            "close_held_gate", account=account.id, worker=self.worker, seconds=None, reason="not_linked", attend=None,
            look=SYNC_TIMEOUT, began=None, attend_at=None,
        )  # fmt: skip
        await self._codes(session)
        log.info("account %s was scanned", account.id, extra={"event": "account.scanned", "account": account.id})
        await self.database.transact(lambda tx: self._scanned(tx, session))
        screen = await session.page.wait_screen(*LASTING, timeout=SYNC_TIMEOUT)
        if screen is not Screen.MAIN:
            raise LoggedOut if screen is Screen.QR else ERRORS[screen]

    async def _scanned(self, tx: Transaction, session: Session) -> None:
        row = await tx.one("mark_linked", account=session.account, worker=self.worker, generation=session.generation)
        if row is None:
            raise LeaseLost
        await self.states.reach(tx, session.account, State.authenticated, "syncing")

    async def _codes(self, session: Session) -> None:
        account, shown = session.account, _Shown()
        while (screen := await session.page.screen()) not in SCANNED:
            # A code that is gone need not have been scanned: the page may be offline, or the account banned.
            if screen in LASTING and screen is not Screen.QR:
                raise ERRORS[screen]
            phone = await self._wanted(session)
            if screen is Screen.QR and phone and phone != shown.pairing:
                await session.page.ask_pairing_code(phone)
                shown = _Shown(pairing=phone, end=time.monotonic() + PAIRING_TIMEOUT)
            await (self._pairing(account, session, shown) if shown.pairing else self._qr(account, session, shown))
            if shown.over:
                raise NotScanned
            await asyncio.sleep(POLL_SECONDS)

    async def _wanted(self, session: Session) -> str | None:
        """Return the number that a pairing code is wanted for.

        Raises LeaseLost when linking is no longer wanted, or a person has gone back to an earlier login.
        """
        rows = await self.database.read(Account, "account_to_drain", account=session.account, keepalive=0)
        if self.stopping() or not rows or rows[0].wanted != "connected":
            raise LeaseLost
        if rows[0].profile_generation != session.generation:
            raise LeaseLost
        return rows[0].pairing_phone

    async def _qr(self, account: str, session: Session, shown: _Shown) -> None:
        code = await session.page.qr()
        if not code or code == shown.code:
            return
        shown.code, shown.codes = code, shown.codes + 1
        life = FIRST_CODE_SECONDS if shown.codes == 1 else CODE_SECONDS
        shown.end = time.monotonic() + life
        await self._show(account, "set_qr", qr=code, seconds=life)
        log.info(
            "account %s shows QR code %d of %d", account, shown.codes, MAX_CODES,
            extra={"event": "account.qr", "account": account, "codes": shown.codes},
        )  # fmt: skip

    async def _pairing(self, account: str, session: Session, shown: _Shown) -> None:
        code = await session.page.pairing_code()
        if code and code != shown.code:
            shown.code = code
            await self._show(account, "set_pairing_code", code=code, seconds=PAIRING_CODE_SECONDS)
            log.info(
                "account %s shows a pairing code", account, extra={"event": "account.pairing_code", "account": account}
            )

    async def _show(self, account: str, query: str, **values: object) -> None:
        """Write a code and the state `qr_pending` in one transaction: a client that sees the state can get the code."""

        async def write(tx: Transaction) -> None:
            await self.states.reach(tx, account, State.qr_pending)
            await wake_returned(tx, await tx.all(query, account=account, worker=self.worker, **values))

        await self.database.transact(write)
