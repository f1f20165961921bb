"""The sandbox's accounts, with their bans, restrictions and outages."""

import asyncio
import hashlib
import math
import time
from dataclasses import dataclass

import phonenumbers

from browser.sandbox.live import Live
from browser.sandbox.store import Row, Store, Value

#: restrictions on new chats; the file stores the index of one
RESTRICTIONS = (None, "new_chats", "monthly_cap")


@dataclass(frozen=True)
class Account:
    """One account; times are unix seconds."""

    id: str
    phone: str
    name: str
    #: how many browsers are linked
    devices: int
    banned_until: float | None
    #: one of RESTRICTIONS
    restriction: str | None
    offline_until: float | None

    @classmethod
    def of(cls, row: Row) -> "Account":
        """Read a row of get_account or list_accounts."""
        return cls(
            id=row["id"],
            phone=row["phone"],
            name=row["name"],
            devices=row["devices"],
            banned_until=row["banned_until"],
            restriction=RESTRICTIONS[row["restricted"]],
            offline_until=row["offline_until"],
        )

    @property
    def banned(self) -> bool:
        """Whether a ban is in force: it has neither ended nor been lifted."""
        return (self.banned_until or -math.inf) > time.time()

    @property
    def restricted(self) -> bool:
        """Whether it may not begin new chats."""
        return self.restriction is not None

    @property
    def offline(self) -> bool:
        """Whether the account's pages have no connection to WhatsApp at present."""
        return (self.offline_until or -math.inf) > time.time()

    def standing(self) -> dict[str, object]:
        """Return the state that the account's pages and the phone's page show."""
        return {
            "account": self.id,
            "phone": self.phone,
            "name": self.name,
            "devices": self.devices,
            "banned": self.banned,
            "banSeconds": max(0, round((self.banned_until or 0) - time.time())),
            "restricted": self.restricted,
            "restriction": self.restriction,
            "offline": self.offline,
        }


class Accounts:
    """Reads and changes accounts, and reports each change to the account's pages. Using an account creates it."""

    def __init__(self, store: Store, live: Live) -> None:
        self._store, self._live = store, live

    def get(self, account: str) -> Account:
        """Return an account, created at its first use."""
        row = self._store.one("get_account", account=account)
        if row is None:
            self._store.change(
                "touch_account", account=account, phone=_own_phone(account), name="Postrider", now=time.time()
            )
            row = self._store.one("get_account", account=account)
        assert row is not None  # noqa: S101 - touch_account has just made it, and nothing deletes accounts
        return Account.of(row)

    def all(self) -> list[Account]:
        """Return every account seen, the newest first."""
        return [Account.of(row) for row in self._store.all("list_accounts")]

    def move(self, account: str, phone: str) -> None:
        """Give an account another phone number."""
        self._change(account, "set_phone", phone=phone)

    def ban(self, account: str, seconds: float) -> None:
        """Ban an account for so many seconds."""
        self._change(account, "set_banned", until=time.time() + seconds)

    def unban(self, account: str) -> None:
        """Lift a ban."""
        self._change(account, "set_banned", until=None)

    def restrict(self, account: str, restriction: str | None) -> None:
        """Forbid new chats by one of RESTRICTIONS, or allow them again."""
        self._change(account, "set_restricted", restricted=RESTRICTIONS.index(restriction))

    def cut_off(self, account: str, seconds: float = math.inf) -> None:
        """Take an account offline for so many seconds."""
        self._change(account, "set_offline", until=time.time() + seconds)
        self.promise_return(account)

    def reconnect(self, account: str) -> None:
        """Bring an account back online."""
        self._change(account, "set_offline", until=None)

    def promise_return(self, account: str) -> None:
        """Schedule the event that brings an account's pages back online."""
        until = self.get(account).offline_until
        if until is not None and math.isfinite(until):
            asyncio.get_running_loop().call_later(max(0.0, until - time.time()), self.announce, account)

    def announce(self, account: str) -> None:
        """Send an account's state to its pages."""
        self._live.tell(account, "standing", self.get(account).standing())

    def _change(self, account: str, query: str, **values: Value) -> None:
        self.get(account)
        self._store.change(query, account=account, **values)
        self.announce(account)


def title(phone: str) -> str:
    """Return a phone number as the page writes it: +1 555-123-4567."""
    try:
        number = phonenumbers.parse(f"+{phone}")
    except phonenumbers.NumberParseException:
        return f"+{phone}"
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def _own_phone(account: str) -> str:
    """Derive an account's own phone number from its id; it is never one of the numbers that misbehave."""
    digest = int.from_bytes(hashlib.sha256(account.encode()).digest()[:8])
    return f"1555{2_000_000 + digest % 7_000_000}"
