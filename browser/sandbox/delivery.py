"""The server's side of sending: it accepts messages, delivers them, and sends ticks back."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from enum import IntEnum

from browser.sandbox.accounts import Accounts, title
from browser.sandbox.live import Live
from browser.sandbox.special_numbers import SpecialNumber
from browser.sandbox.store import Row, Store
from browser.sandbox.timing import Timing
from errors import Forbidden

#: characters of a message's id (seen 2026-07-27)
OWN_ID, THEIR_ID = 32, 20


class Ack(IntEnum):
    """The status of a message, by WhatsApp's own numbers."""

    CLOCK = 0
    SENT = 1
    DELIVERED = 2
    READ = 3


class Delivery:
    """Accepts messages from pages, delivers them to recipients, and sends the ticks."""

    def __init__(self, store: Store, accounts: Accounts, live: Live, timing: Timing) -> None:
        self._store, self._accounts, self._live, self._timing = store, accounts, live, timing

    async def accept(self, account: str, message: str, phone: str, text: str) -> dict[str, object]:
        """Accept a message, only once per id; return what the page has to know at once.

        Raise Forbidden when the account may not write to this phone.
        """
        if phone == SpecialNumber.CUTS_OFF and self.spend(account, phone, message):
            self._accounts.cut_off(account, self._timing.offline)
        standing = self._accounts.get(account)
        if standing.offline or standing.banned:
            return {"offline": standing.offline, "banned": standing.banned}
        if phone == SpecialNumber.ABSENT or (standing.restricted and not self.knows(account, phone)):
            raise Forbidden(f"Account {account} may not write to {phone}.")
        now = time.time()
        new = await asyncio.to_thread(
            self._store.change,
            "add_message",
            account=account,
            id=message,
            phone=phone,
            text=text,
            now=now,
            received_at=None if phone == SpecialNumber.HELD else now,
        )
        if new and phone != SpecialNumber.HELD:
            self._promise_ticks(account, message)
        crash = phone == SpecialNumber.CRASHES and self.spend(account, phone, "crash")
        return {"ack": self.acks(account, [message]).get(message, Ack.CLOCK), "crash": crash}

    def release(self, account: str) -> int:
        """Release the messages that are held at the clock; return their number."""
        held = [row["id"] for row in self._store.all("held_messages", account=account)]
        self._store.change("release_messages", account=account, now=time.time())
        for message in held:
            self._promise_ticks(account, message)
        return len(held)

    def acks(self, account: str, messages: Iterable[str]) -> dict[str, Ack]:
        """Return the status of each of these messages; those that never arrived are left out."""
        rows = {message: self._store.one("get_message", account=account, id=message) for message in messages}
        return {message: self._ack(row["received_at"]) for message, row in rows.items() if row}

    def incoming(self, account: str, phone: str, text: str, extra: Mapping[str, object]) -> None:
        """Deliver a message to the account; `extra` may have its kind, and as `quote` the text that it answers."""
        now = time.time()
        seq = self._store.insert("add_incoming", account=account, phone=phone, text=text, now=now)
        more = json.dumps(extra)
        if extra:
            self._store.change("add_incoming_extra", seq=seq, extra=more)
        message = _incoming({"seq": seq, "phone": phone, "text": text, "at": now, "extra": more}, account)
        if extra.get("mine"):
            values = {"account": account, "id": str(message["id"]), "phone": phone, "text": text}
            self._store.change("add_message", **values, now=now, received_at=now)
            self._promise_ticks(account, str(message["id"]))
        self._live.tell(account, "incoming", message)

    def incoming_since(self, account: str, seq: int) -> list[dict[str, object]]:
        """Return the messages that came in after a row, oldest first; `at` is in milliseconds."""
        rows = self._store.all("incoming_since", account=account, since=seq)
        return [_incoming(row, account) for row in rows]

    def knows(self, account: str, phone: str) -> bool:
        """Tell whether account and phone have ever exchanged a message; always true of the account's own number."""
        if phone == self._accounts.get(account).phone:
            return True
        row = self._store.one("chat_is_known", account=account, phone=phone)
        return bool(row and row["known"])

    def spend(self, account: str, phone: str, deed: str) -> bool:
        """Use up what a number does only once; tell whether it had not been used up before."""
        return self._store.change("spend", account=account, phone=phone, deed=deed) == 1

    def _promise_ticks(self, account: str, message: str) -> None:
        for ack, delay in self._delays():
            asyncio.get_running_loop().call_later(
                delay, self._live.tell, account, "ack", {"id": message, "ack": int(ack)}
            )

    def _ack(self, received_at: float | None) -> Ack:
        if received_at is None:
            return Ack.CLOCK
        age = time.time() - received_at
        return max((ack for ack, delay in self._delays() if age >= delay), default=Ack.CLOCK)

    def _delays(self) -> list[tuple[Ack, float]]:
        return [(Ack.SENT, self._timing.sent), (Ack.DELIVERED, self._timing.delivered), (Ack.READ, self._timing.read)]


def _incoming(row: Row, account: str) -> dict[str, object]:
    """Return the event for a message that the page did not send itself.

    The id is derived from the row, so that an older profile gets the same id; one from the account's own phone is
    longer.
    """
    extra = json.loads(row["extra"])
    digest = hashlib.sha256(f"{account} {row['seq']}".encode()).hexdigest()[: OWN_ID if extra.get("mine") else THEIR_ID]
    told = {name: row[name] for name in ("seq", "phone", "text")}
    return {**told, **extra, "id": digest.upper(), "title": title(row["phone"]), "at": row["at"] * 1000}
