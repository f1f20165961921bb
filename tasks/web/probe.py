"""Checks whether accounts that stopped with ui_changed may send again: is the page recognised? Sends nothing."""

import logging
from dataclasses import dataclass

from browser.page.census import SPARE
from browser.page.checkup import Findings, examine
from browser.page.history import Verdict
from errors import PageHung, UiChanged, WrongChat
from sql.database import Database
from tasks.web.seats import Seats, Session

log = logging.getLogger(__name__)

SHOWN = 5.0  # seconds that an open page may take to show something


@dataclass
class Probe:
    """Decides whether an account that stopped may send again."""

    database: Database
    seats: Seats

    async def run_once(self) -> None:
        """Have every stopped account checked, unless the selectors in use have failed there already."""
        await self.database.all("probe_with", selectors=self.seats.selectors.fingerprint)

    async def known(self, session: Session) -> None:
        """Check the page; let the account send again, or raise UiChanged with what is missing.

        The check covers the account's own chat, and the chat of a message whose status could not be read.
        """
        async with session.busy:
            try:
                found = await examine(session.page, shown=SHOWN, act=True, reload=True)
                last = await self._last_unreadable(session)
            except PageHung as error:
                raise UiChanged(error.detail) from error
        _check(found, last)
        await self.database.all("open_known_gate", account=session.account, worker=self.seats.worker)
        log.info(
            "account %s: the page is known again, by selectors %s", session.account, found.version,
            extra={"event": "page.known_again", "account": session.account, "version": found.version},
        )  # fmt: skip

    async def _last_unreadable(self, session: Session) -> Verdict | None:
        """Look again at the message whose status could not be read; None where there is none."""
        job = await self.database.one("last_unreadable", account=session.account)
        if job is None:
            return None
        rows = await self.database.all(
            "bubbles_of_recipient", account=session.account, phone=job["phone"], job=job["id"]
        )
        others = {row["bubble"] for row in rows}
        try:
            found = await session.page.look_for(
                job["phone"], job["message"], job["anchor"], bubble=job["bubble"], others=others
            )
        except (PageHung, WrongChat, UiChanged):
            return Verdict.UNKNOWN
        return found.verdict


def _check(found: Findings, last: Verdict | None) -> None:
    """Raise UiChanged unless everything that sending needs was found and every tick is known.

    The last message counts only if it was found and cannot be read: it may also have been deleted.
    """
    missing = [name for name in found.missing if name not in SPARE]
    if missing:
        detail = f"The page has no {missing[0]} where one is expected (selectors {found.version})."
        raise UiChanged(detail, element=missing[0])
    if found.strange:
        detail = f"The page's ticks are not known: {', '.join(found.strange)} (selectors {found.version})."
        raise UiChanged(detail, element="meta")
    if found.failed:
        raise UiChanged(found.note)
    if last is Verdict.UNREADABLE:
        detail = f"The tick of our last message is not known (selectors {found.version})."
        raise UiChanged(detail, element="meta")
