"""Linked devices, which may log in without a QR code.

A device is a browser profile. Its secret leaves the server once, at linking, and the profile keeps it as a
non-extractable key; at each start the page proves that it has the key. So, as with WhatsApp, the login is lost with the
profile, and with a copy of the profile that lacks its IndexedDB.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from browser.sandbox.store import Store
from errors import Gone, Unauthorized

SECRET_BYTES = 32


@dataclass(frozen=True)
class Device:
    """One linked browser profile; `secret` is base16."""

    id: str
    secret: str


@dataclass(frozen=True)
class Login:
    """A page that has authenticated as a device."""

    account: str
    device: str
    #: the device gets the messages that came in after this row
    incoming_from: int


class LinkedDevices:
    """Links devices and authenticates them; logins last as long as the server's process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._challenges: dict[str, str] = {}
        self._logins: dict[str, Login] = {}

    def link(self, account: str) -> Device:
        """Link a new device."""
        device, secret = secrets.token_hex(8), secrets.token_bytes(SECRET_BYTES)
        self._store.change("add_device", device=device, account=account, secret=secret, now=time.time())
        return Device(device, secret.hex())

    def unlink(self, account: str, device: str | None = None) -> None:
        """Unlink one device or all of them; their logins end."""
        if device is None:
            self._store.change("drop_devices", account=account)
        else:
            self._store.change("drop_device", account=account, device=device)
        gone = [t for t, who in self._logins.items() if who.account == account and device in (None, who.device)]
        for token in gone:
            del self._logins[token]

    def challenge(self, account: str, device: str) -> str:
        """Return the challenge that a device has to sign; raise Gone when it is not linked."""
        if self._store.one("get_device", account=account, device=device) is None:
            raise Gone("This device is not linked.")
        self._challenges[device] = secrets.token_hex(16)
        return self._challenges[device]

    def login(self, account: str, device: str, proof: str) -> str:
        """Check the proof, HMAC-SHA256 of the challenge in hex; return a token or raise Unauthorized or Gone."""
        row = self._store.one("get_device", account=account, device=device)
        if row is None:
            raise Gone("This device is not linked.")
        challenge = self._challenges.pop(device, "")
        expected = hmac.new(row["secret"], challenge.encode(), hashlib.sha256).hexdigest()
        if not challenge or not hmac.compare_digest(expected.encode(), proof.encode()):
            raise Unauthorized("The proof does not match the challenge.")
        token = secrets.token_urlsafe(24)
        self._logins[token] = Login(account, device, row["incoming_from"])
        return token

    def holder(self, account: str, token: str) -> Login:
        """Return the login of a token; raise Unauthorized for an unknown token, as after a restart."""
        login = self._logins.get(token)
        if login is None or login.account != account:
            raise Unauthorized("This page is not logged in.")
        return login

    def logout(self, token: str) -> None:
        """End a login; the device stays linked."""
        self._logins.pop(token, None)
