"""Every error that Postrider raises on purpose.

PostriderError
├── RequestError                 a request is refused; answered as application/problem+json
│   ├── Malformed                400
│   ├── Unauthorized             401
│   ├── Forbidden                403
│   ├── NotFound                 404
│   │   └── OutOfScope           the same to the caller; a fault of ours, which Postgres stopped
│   ├── MethodNotAllowed         405
│   ├── Conflict                 409
│   ├── Gone                     410
│   ├── TooLarge                 413
│   ├── UnsupportedMediaType     415
│   ├── Invalid                  422
│   │   └── IdempotencyKeyReused · ReportTooLarge
│   ├── TooManyRequests          429
│   │   └── QueueFull
│   ├── DatabaseError            503, ours
│   │   └── DatabaseUnavailable · DatabaseBusy · DatabaseSlow · DatabaseFull
│   ├── EncryptionKeyMissing     503, ours
│   └── DiskFull                 503, ours
├── SendError                    why a message was not sent, or may not have been
│   ├── NotOnWhatsApp            final: the recipient's
│   ├── NewChatsRestricted       final: the account's
│   ├── OptedOut                 final: the recipient's wish
│   ├── NumberChanged            final: meant for another sender
│   ├── DailyCapExceeded         final, unless it is put off until the next day
│   ├── OutcomeUnknown           final: never sent again on a guess
│   ├── Refused                  final: WhatsApp's
│   ├── Expired                  final: waited too long
│   ├── AttemptFailed            tried again, counted
│   │   ├── PageHung · PageCrashed · BrowserLost
│   │   ├── WrongChat · BoxMismatch · EnterNotTaken
│   │   └── OutcomesUnknown      the account's: what was sent last is in doubt
│   └── AccountWaits             tried again when the account can, not counted
│       ├── NotLinked (PairingRefused · LoggedOut · NotScanned) · Offline · ProxyDown · Banned
│       ├── LeaseLost (Fenced) · ProfileElsewhere · NoSeat
│       ├── OpenElsewhere · ProfileUnreadable                  stops until a person has looked
│       └── UiChanged (UnknownDialog · EnterRefused)           the same, or until the page is recognised; then counted
├── DeliveryError                why a request to a receiver was not made
│   ├── AddressRefused           the receiver's: closed to deliveries, or allowed by the operator and out of reach
│   ├── NameUnknown              the receiver's: a name without address
│   ├── LookupFailed             the receiver's: a name that DNS gives no answer for, although it does for others
│   ├── NetworkAway              ours: no DNS for any name, no network, no room for a connection
│   └── SecretUnreadable         ours: ENCRYPTION_KEY lacks the key of its secret
├── SealError                    a profile was not sealed; its session goes on
│   └── ProfileTooLarge · ProfileBusy · ProfileEmpty
└── OperatorError                ends a command with one line and exit code 1
    ├── SettingsWrong · DatabaseAway · SchemaWrong · RolesWrong (RoleRefused) · TablesLocked
    └── ChromiumMissing · SelectorsWrong

A class docstring is the default message. `code` is what clients see, `status` what HTTP answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import ClassVar, Literal


class PostriderError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or self.summary
        super().__init__(self.detail)

    @property
    def sign(self) -> str:
        """The name of the error in file names."""
        return self.code

    @property
    def summary(self) -> str:
        """The class's message, without details: safe to log."""
        return (type(self).__doc__ or "").strip().splitlines()[0]


# --- why a request is refused ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldError:
    """One field that was not accepted, and why."""

    field: str
    message: str


class RequestError(PostriderError):
    """The request was not accepted."""

    title: ClassVar[str] = "Bad request"

    def __init__(
        self, detail: str | None = None, *, errors: Sequence[FieldError] = (), retry_after: float | None = None
    ) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)
        #: seconds after which the client may try again
        self.retry_after = retry_after


class Malformed(RequestError):
    """The address or the body is not well-formed."""

    code, status, title = "malformed", 400, "Bad request"


class Unauthorized(RequestError):
    """The header x-api-key is missing or names no key."""

    code, status, title = "unauthorized", 401, "Unauthorized"


class Forbidden(RequestError):
    """This key may not do that."""

    code, status, title = "forbidden", 403, "Forbidden"


class NotFound(RequestError):
    """There is no such thing."""

    code, status, title = "not_found", 404, "Not found"


class OutOfScope(NotFound):
    """There is no such thing."""

    # For this caller: Postgres has refused what a query of ours tried. The operator is told, the caller is not.


class MethodNotAllowed(RequestError):
    """This path does not take that method."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class Conflict(RequestError):
    """The present state does not allow that."""

    code, status, title = "conflict", 409, "Conflict"


class Gone(RequestError):
    """It is no longer there."""

    code, status, title = "gone", 410, "Gone"


class TooLarge(RequestError):
    """The body is too large."""

    code, status, title = "too_large", 413, "Content too large"


class UnsupportedMediaType(RequestError):
    """The body must be application/json."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class Invalid(RequestError):
    """Some fields are not valid."""

    code, status, title = "invalid", 422, "Unprocessable content"


class IdempotencyKeyReused(Invalid):
    """This idempotency key was used with other content."""

    code = "idempotency_key_reused"


class ReportTooLarge(Invalid):
    """The report is larger than 1 GiB: ask for a shorter period, or for one account."""

    code = "report_too_large"


class TooManyRequests(RequestError):
    """Too many requests."""

    code, status, title = "too_many_requests", 429, "Too many requests"


class QueueFull(TooManyRequests):
    """Too many messages of this account are waiting."""

    code = "queue_full"


class DatabaseError(RequestError):
    """The database did not do what it was asked for."""

    code, status, title = "database_unavailable", 503, "Service unavailable"


class DatabaseUnavailable(DatabaseError):
    """The database is away; a request that came just before it went may have been accepted."""


class DatabaseBusy(DatabaseError):
    """Too many requests wait for the database; nothing was accepted."""

    code = "database_busy"


class DatabaseSlow(DatabaseError):
    """The database did not finish in time and was stopped; the same request will probably take as long again."""

    code = "database_slow"


class DatabaseFull(DatabaseError):
    """The database has no room left, which its operator must make; nothing was accepted."""

    code = "database_full"


class EncryptionKeyMissing(RequestError):
    """This request needs data sealed with a key that Postrider no longer has; its operator must restore the key."""

    code, status, title = "encryption_key_missing", 503, "Service unavailable"


class DiskFull(RequestError):
    """This server has no room to make the report, which its operator must make."""

    code, status, title = "disk_full", 503, "Service unavailable"


# --- why a message was not sent ----------------------------------------------------------------------------------


class SendError(PostriderError):
    """The message was not sent."""

    #: counts towards the account's circuit breaker: faults of ours or of the page, not of the recipient
    breaker: ClassVar[bool] = False


class NotOnWhatsApp(SendError):
    """The phone number is not on WhatsApp."""

    code = "not_on_whatsapp"


class NewChatsRestricted(SendError):
    """WhatsApp does not let this account start new chats at present."""

    code = "new_chats_restricted"

    def __init__(
        self,
        detail: str | None = None,
        *,
        restriction: Literal["new_chats", "monthly_cap"] = "new_chats",
        until: date | None = None,
    ) -> None:
        super().__init__(detail)
        #: which of WhatsApp's two restrictions: for conduct, or by the monthly count
        self.restriction = restriction
        #: the day on which it ends; None if the page does not say
        self.until = until


class OptedOut(SendError):
    """The recipient has asked not to be written to."""

    code = "recipient_opted_out"


class NumberChanged(SendError):
    """The account was linked with another phone number after this message was accepted."""

    code = "number_changed"


class DailyCapExceeded(SendError):
    """The account has sent as many messages as it may in a day."""

    code = "daily_cap_exceeded"


class OutcomeUnknown(SendError):
    """Enter may have been pressed, and it is unknown whether the message left; it is not sent again on a guess."""

    code = "outcome_unknown"

    def __init__(self, detail: str | None = None, *, bubble: str | None = None, reason: str | None = None) -> None:
        super().__init__(detail)
        #: id of the message's bubble if that is still pending; its tick may come later
        self.bubble = bubble
        #: why it is unknown, a browser.page.history.Reason
        self.reason = reason


class Refused(SendError):
    """WhatsApp Web says that the message was not sent."""

    code = "refused_by_whatsapp"

    def __init__(self, detail: str | None = None, *, bubble: str | None = None) -> None:
        super().__init__(detail)
        #: id of the message's bubble
        self.bubble = bubble


class Expired(SendError):
    """The message waited longer than its expiresAt."""

    code = "expired"


class AttemptFailed(SendError):
    """This attempt failed before anything left; the message is tried again."""

    code = "attempt_failed"
    breaker = True


class PageHung(AttemptFailed):
    """The page did not answer in time."""

    code = "page_hung"


class PageCrashed(AttemptFailed):
    """The page reported an unexpected error or its renderer died."""

    code = "page_crashed"


class BrowserLost(AttemptFailed):
    """The browser or its driver ended."""

    code = "browser_lost"


class OutcomesUnknown(AttemptFailed):
    """Three messages in a row have ended without a tick."""

    code = "outcome_unknown"


class WrongChat(AttemptFailed):
    """The page opened another chat than the one asked for."""

    code = "wrong_chat"


class BoxMismatch(AttemptFailed):
    """The compose box did not hold the message as typed."""

    code = "box_mismatch"


class EnterNotTaken(AttemptFailed):
    """The page did not take Enter: the message is still in the box, and nothing has left."""

    code = "enter_not_taken"


class AccountWaits(SendError):
    """The account cannot send at present; the message waits and no attempt is counted."""

    code = "account_waits"


class NotLinked(AccountWaits):
    """The account is not linked; scan the QR code."""

    code = "not_linked"


class PairingRefused(NotLinked):
    """WhatsApp gives no pairing code for this number at present."""

    code = "pairing_refused"


class LoggedOut(NotLinked):
    """It was logged out, on the phone or by WhatsApp; connect it and scan again."""

    code = "logged_out"


class Offline(AccountWaits):
    """The browser has no connection to WhatsApp."""

    code = "offline"


class ProxyDown(Offline):
    """None of the account's proxies leads to WhatsApp."""

    code = "proxy_down"


class Banned(AccountWaits):
    """WhatsApp shows a ban screen."""

    code = "banned"


class LeaseLost(AccountWaits):
    """This worker's lease on the account ended."""

    code = "lease_lost"


class ProfileElsewhere(AccountWaits):
    """The account's browser profile is on another worker."""

    code = "profile_elsewhere"


class NoSeat(AccountWaits):
    """Every seat but one waits for a scan already: scan those codes first, or raise MAX_SESSIONS."""

    code = "no_seat"


class OpenElsewhere(AccountWaits):
    """WhatsApp Web is open in another window or browser."""

    code = "open_elsewhere"


class ProfileUnreadable(AccountWaits):
    """The account's sealed profile cannot be opened: ENCRYPTION_KEY lacks its key, or the profile was changed."""

    code = "profile_unreadable"


class UiChanged(AccountWaits):
    """The page has changed; sending stops until new selectors recognise it, or a person has looked at it."""

    code = "ui_changed"

    def __init__(self, detail: str | None = None, *, element: str | None = None) -> None:
        super().__init__(detail)
        #: what is missing on the page, by its name in selectors.toml
        self.element = element

    @property
    def sign(self) -> str:
        """The name of the error in file names: its code, and what is missing."""
        return f"{self.code}-{self.element}" if self.element else self.code


class UnknownDialog(UiChanged):
    """A dialog that Postrider does not know is in the way."""


class EnterRefused(UiChanged):
    """The page takes neither Enter nor its send button; nothing has left."""


# --- why a request to a receiver was not made ---------------------------------------------------------------------


class DeliveryError(PostriderError):
    """The request was not made."""

    #: it was found out only by a timeout
    slow: bool = False
    #: it is our own fault, not the receiver's
    ours: bool = False


class AddressRefused(DeliveryError):
    """Deliveries may not go where this URL leads, or nothing answers there."""

    # One text for all cases: otherwise a user could explore a private network by registering URLs.

    def __init__(self, *, slow: bool = False) -> None:
        super().__init__()
        self.slow = slow


class NameUnknown(DeliveryError):
    """The host of this URL has no address."""


class LookupFailed(DeliveryError):
    """DNS gave no answer for the host of this URL."""

    slow = True


class NetworkAway(DeliveryError):
    """Postrider itself had no network at this moment, or no DNS."""

    ours = True


class SecretUnreadable(DeliveryError):
    """Postrider could not open the secret of this endpoint."""

    ours = True


# --- why a profile was not sealed --------------------------------------------------------------------------------


class SealError(PostriderError):
    """The profile was not sealed."""


class ProfileTooLarge(SealError):
    """The profile is too large to be sealed."""


class ProfileBusy(SealError):
    """The profile changed at every try to copy it."""


class ProfileEmpty(SealError):
    """The profile holds no login."""


# --- what ends a command -----------------------------------------------------------------------------------------


class OperatorError(PostriderError):
    """The command cannot go on."""


class SettingsWrong(OperatorError):
    """A setting has a wrong value."""


class DatabaseAway(OperatorError):
    """Postgres cannot be reached."""


class SchemaWrong(OperatorError):
    """The database's schema does not fit this version."""


class RolesWrong(OperatorError):
    """The roles of Postgres are not as they have to be."""


class RoleRefused(RolesWrong):
    """The login may not take a role."""


class TablesLocked(OperatorError):
    """A table stayed locked by others for a minute. End that (pg_stat_activity shows it), and run it again."""


class ChromiumMissing(OperatorError):
    """No Chromium starts here."""


class SelectorsWrong(OperatorError):
    """The selectors file is not valid."""
