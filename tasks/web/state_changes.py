"""Accounts as drains see them, and changes of their state: only by the holder of the lease, with history and event."""

import logging
from dataclasses import dataclass

from errors import LeaseLost
from sql.database import Database, Row, Transaction
from tasks.lanes import wake_returned
from tasks.web.states import TRANSITIONS, State, is_quiet, move

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Account:
    """What a drain needs to know of an account."""

    id: str
    org_id: str
    transport: str
    wanted: str
    state: str
    #: its profile holds a login, as far as is known
    linked: bool
    time_zone: str
    pace: bool
    phone: str | None
    #: the number that a pairing code is wanted for
    pairing_phone: str | None
    #: sealed JSON {url, spare}
    proxy: bytes | None
    profile_home: str | None
    profile_generation: int
    reconnects: int
    #: of new chats, as long as it lasts
    restriction: str | None
    #: it stopped with ui_changed, and it is time to check whether the page is recognised again
    probe: bool
    #: its page was not recognised during a message, and nothing was sent since
    doubted: bool
    #: it was hibernated for so long that WhatsApp may unlink it
    stale: bool
    #: a message is due, whatever the gate says
    due: bool
    #: a job of it is `sending` or `submitting`
    half_done: bool
    #: one of these is to be settled now
    to_settle: bool


@dataclass
class States:
    """Writes the states of the accounts that this worker leases."""

    database: Database
    worker: str

    async def change(self, account: str, to: State, reason: str | None = None) -> None:
        """Write a change in a transaction of its own. Raises LeaseLost, and ForbiddenTransitionError for a bug."""

        async def work(tx: Transaction) -> None:
            await self.write(tx, await self.held(tx, account), to, reason)

        await self.database.transact(work)

    async def reach(self, tx: Transaction, account: str, to: State, reason: str | None = None) -> None:
        """Write a change, by way of `starting` if the table has no direct transition."""
        row = await self.held(tx, account)
        current = State(row["state"])
        if to is not current and to not in TRANSITIONS[current]:
            await self.write(tx, row, State.starting, None)
            row = await self.held(tx, account)
        await self.write(tx, row, to, reason)

    async def held(self, tx: Transaction | Database, account: str) -> Row:
        """Lock the account's row: id, state, state_before, linked, wanted, phone, profile_home. Raises LeaseLost.

        A database in place of a transaction only reads it: the lock ends with the statement.
        """
        row = await tx.one("held_account", account=account, worker=self.worker)
        if row is None:
            raise LeaseLost
        return row

    async def write(self, tx: Transaction, row: Row, to: State, reason: str | None) -> None:
        """Write a change of the account whose locked row this is, and wake the lanes of its event. Raises LeaseLost."""
        current, before = State(row["state"]), row["state_before"] and State(row["state_before"])
        move(current, to)
        quiet = is_quiet(before, current, to)
        rows = await tx.all("write_state", account=row["id"], state=to, reason=reason, worker=self.worker, quiet=quiet)
        if not rows:
            raise LeaseLost
        await wake_returned(tx, rows)
        if current is not to:
            log.info(
                "account %s: %s -> %s", row["id"], current, to,
                extra={"event": "account.state", "account": row["id"], "from": current, "to": to},
            )  # fmt: skip
