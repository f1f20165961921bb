"""Pages that show a QR code or a pairing code until they are linked.

WhatsApp's server hands a page six references. The first lives 60 s, the others 20 s each; then the page shows a
button to ask for more (constants of WAWebHandlePairDevice, bundle 2026-04).
"""

import asyncio
import base64
import secrets
from collections.abc import Coroutine
from contextlib import suppress

import segno

from browser.sandbox.linked_devices import Device
from browser.sandbox.stream import Stream
from browser.sandbox.timing import Timing
from errors import Conflict

REFS = 6
#: reasons for which WhatsApp refuses a pairing code; static/link.js has the texts
REFUSALS = ("too_many_attempts", "something_went_wrong", "limited_availability", "update_phone")
#: letters and digits of a pairing code: Crockford's, without characters that are easily misread
PAIRING_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"
PAIRING_LENGTH = 8


class LinkScreen:
    """One page that is not linked yet: what it shows, and the stream that rotates it."""

    def __init__(self, account: str, timing: Timing, phone: str | None = None) -> None:
        self.account = account
        #: the number for which a pairing code was requested
        self.phone = phone
        self.stream = Stream()
        #: the payload on screen, None before the first and after the last
        self.qr: str | None = None
        #: the pairing code on screen
        self.code: str | None = None
        self._timing = timing
        self._rotation: asyncio.Task[None] | None = None

    def show_qr(self) -> None:
        """Start to show QR codes."""
        self._turn(self._rotate())

    def show_code(self) -> None:
        """Start to show pairing codes instead."""
        self._turn(self._pair())

    def stop(self) -> None:
        """Stop showing codes."""
        if self._rotation:
            self._rotation.cancel()
        self.qr = self.code = None

    def _turn(self, rotation: Coroutine[None, None, None]) -> None:
        self.stop()
        self._rotation = asyncio.create_task(rotation)

    async def _rotate(self) -> None:
        await asyncio.sleep(self._timing.qr_wait)
        for number in range(REFS):
            self.qr = _payload()
            rows = ["".join("1" if dark else "0" for dark in row) for row in segno.make(self.qr, micro=False).matrix]
            self.stream.push("ref", {"payload": self.qr, "rows": rows})
            await asyncio.sleep(self._timing.qr_life if number else self._timing.qr_first_life)
        self.qr = None
        self.stream.push("idle")

    def refuse(self, reason: str) -> None:
        """Show that a pairing code is refused."""
        self.stream.push("refused", {"reason": reason})

    async def _pair(self) -> None:
        await asyncio.sleep(self._timing.qr_wait)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timing.pairing_limit):
                while True:
                    self.code = "".join(secrets.choice(PAIRING_ALPHABET) for _ in range(PAIRING_LENGTH))
                    self.stream.push("code", {"code": self.code})
                    await asyncio.sleep(self._timing.pairing_life)
        self.code = None
        self.stream.push("expired")


class LinkScreens:
    """Every page that waits to be linked."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._screens: list[LinkScreen] = []
        self._refusals: dict[str, str] = {}

    def open(self, account: str, *, pairing: str | None) -> LinkScreen:
        """Add a page; it shows QR codes, or pairing codes for a phone number."""
        screen = LinkScreen(account, self._timing, pairing)
        self._screens.append(screen)
        if pairing is None:
            screen.show_qr()
        elif account in self._refusals:
            screen.refuse(self._refusals[account])
        else:
            screen.show_code()
        return screen

    def refuse(self, account: str, reason: str | None) -> None:
        """Refuse pairing codes to an account, for one of REFUSALS; None allows them again."""
        if reason is None:
            self._refusals.pop(account, None)
        else:
            self._refusals[account] = reason

    def close(self, screen: LinkScreen) -> None:
        """Remove a page."""
        screen.stop()
        self._screens.remove(screen)

    def find(self, account: str, *, qr: str | None = None, code: str | None = None) -> LinkScreen:
        """Return the newest page that shows a code, or the one that shows this code; raise Conflict without one."""
        for screen in reversed(self._screens):
            if screen.account != account:
                continue
            if code is not None and screen.code == code:
                return screen
            if code is None and screen.qr is not None and qr in (None, screen.qr):
                return screen
        if code is not None:
            raise Conflict(f"No page of account {account} shows the pairing code {code}.")
        if qr is not None:
            raise Conflict(f"No page of account {account} shows that QR code; it may have been replaced.")
        raise Conflict(f"No page of account {account} shows a QR code; connect the account first.")

    def shows(self, account: str) -> dict[str, str | None]:
        """Return the codes that the newest page of an account shows."""
        mine = [screen for screen in self._screens if screen.account == account]
        qr, code = (mine[-1].qr, mine[-1].code) if mine else (None, None)
        return {"qr": qr, "code": code, "picture": segno.make(qr, micro=False).svg_data_uri(scale=3) if qr else None}

    def stop(self) -> None:
        """End every stream."""
        for screen in self._screens:
            screen.stream.end()


def hand_over(screen: LinkScreen, device: Device) -> None:
    """Link a page: send it its new device, and show no more codes."""
    screen.stop()
    screen.stream.push("linked", {"device": device.id, "secret": device.secret})
    screen.stream.end()


def _payload() -> str:
    """Return the content of a QR code: ref, noise key, identity key, adv secret and platform, the keys in base64."""
    ref = f"2@{base64.b64encode(secrets.token_bytes(72)).decode()}"
    keys = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(3))
    return ",".join([ref, *keys, "1"])
