"""Linking an account: follow the QR codes of its page until a phone has scanned one."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from browser.screens import Screen
from errors import LeaseLost, NotLinked
from sql.database import Database
from tasks.seats import Account, Session

log = logging.getLogger(__name__)

LOOK = 0.5  # seconds between looks at the page
FIRST_LIFE, LIFE = 60.0, 20.0  # seconds that the first code and each later one live (WAWebHandlePairDevice, 2026-04)
CODES = 6  # codes shown until somebody has to ask again
SYNC = 300.0  # seconds from the scan to the chat list; a large account downloads for minutes


class NotScanned(NotLinked):
    """Nobody scanned a QR code in time; ask to connect again."""

    code = "qr_not_scanned"


@dataclass
class Linking:
    """Shows the QR codes of a page in the account's row."""

    database: Database
    stopping: Callable[[], bool]

    async def follow(self, account: Account, session: Session) -> None:
        """Return once the account is linked and on its main screen. Raises NotScanned, and LeaseLost on a stop."""
        reason = "It was logged out; scan again." if account.linked_before else None
        await self.database.all("set_state", account=account.id, state="qr_pending", reason=reason)
        await self.database.all("close_gate", lane=account.id, seconds=None, reason="not_linked")
        await self._codes(account.id, session)
        log.info("account %s was scanned", account.id)
        await self.database.all("set_state", account=account.id, state="authenticated", reason="syncing")
        await session.page.wait_screen(Screen.MAIN, timeout=SYNC)

    async def _codes(self, account: str, session: Session) -> None:
        shown, codes, end = None, 0, time.monotonic() + FIRST_LIFE
        while await session.page.screen() is Screen.QR:
            code = await session.page.qr()
            if code and code != shown:
                shown, codes = code, codes + 1
                life = FIRST_LIFE if codes == 1 else LIFE
                end = time.monotonic() + life
                await self.database.all("set_qr", account=account, qr=code, seconds=life)
                log.info("account %s shows QR code %d of %d", account, codes, CODES)
            elif (codes >= CODES and time.monotonic() > end) or time.monotonic() > end + FIRST_LIFE:
                raise NotScanned
            if self.stopping() or not await self._still_wanted(account):
                raise LeaseLost
            await asyncio.sleep(LOOK)

    async def _still_wanted(self, account: str) -> bool:
        rows = await self.database.read(Account, "account_to_drain", account=account)
        return bool(rows) and rows[0].wanted == "connected"
