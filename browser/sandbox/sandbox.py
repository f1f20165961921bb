"""The sandbox: everything behind the page, put together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from starlette.requests import Request

from browser.sandbox.accounts import Accounts, title
from browser.sandbox.control import LOGOUTS, Controls
from browser.sandbox.delivery import Delivery
from browser.sandbox.linked_devices import LinkedDevices
from browser.sandbox.linking import LinkScreens
from browser.sandbox.live import Live
from browser.sandbox.special_numbers import SpecialNumber
from browser.sandbox.store import Store
from browser.sandbox.timing import Timing


@dataclass(frozen=True)
class Sandbox:
    """One sandbox on one file."""

    timing: Timing
    store: Store
    accounts: Accounts
    devices: LinkedDevices
    screens: LinkScreens
    live: Live
    delivery: Delivery
    controls: Controls

    @classmethod
    def open(cls, data_dir: Path, timing: Timing) -> Self:
        """Open `sandbox.sqlite` in a directory, which is created if it is missing."""
        store = Store(data_dir / "sandbox.sqlite")
        live = Live(store)
        accounts = Accounts(store, live)
        return cls(
            timing=timing,
            store=store,
            accounts=accounts,
            devices=LinkedDevices(store),
            screens=LinkScreens(timing),
            live=live,
            delivery=Delivery(store, accounts, live, timing),
            controls=Controls(),
        )

    @classmethod
    def of(cls, request: Request) -> Self:
        """Return the sandbox that answers a request."""
        return cast("Self", request.app.state.sandbox)

    def open_chat(self, account: str, phone: str) -> dict[str, object]:
        """Apply the effects of opening a chat to the account, and return what the page shows; `hang` is in seconds."""
        if phone == SpecialNumber.BANS and self.delivery.spend(account, phone, "ban"):
            self.accounts.ban(account, self.timing.ban)
        if phone == SpecialNumber.RESTRICTS:
            self.accounts.restrict(account, "new_chats")
        hang = self.timing.hang if phone == SpecialNumber.HANGS and self.delivery.spend(account, phone, "hang") else 0
        own = phone == self.accounts.get(account).phone
        return {
            "title": f"{title(phone)} (You)" if own else title(phone),
            "own": own,
            "exists": phone != SpecialNumber.ABSENT,
            "known": self.delivery.knows(account, phone),
            "hang": hang,
        }

    def unlink(self, account: str, reason: str = "post_logout") -> None:
        """Unlink every browser of an account; the login screen shows the reason, one of LOGOUTS."""
        self.devices.unlink(account)
        self.live.tell(account, "unlinked", {"reason": reason})

    def show(self, account: str, screen: str | None) -> None:
        """Make an account's pages show a screen, by its name in control.py; None ends one that lasts."""
        if screen in LOGOUTS:
            self.unlink(account, screen)
        else:
            self.controls.show(account, screen)

    def stop(self) -> None:
        """End every stream, so that the server can stop; the pages retry until it is back."""
        self.screens.stop()
        self.controls.stop()
        self.live.close()
