"""Test numbers that misbehave, as test cards of payment services do. Any other number works."""

from enum import StrEnum


class SpecialNumber(StrEnum):
    """A number, and what it does to the account that uses it."""

    #: a temporary ban when its chat is opened, once
    BANS = "15550000403"
    #: is not on WhatsApp
    ABSENT = "15550000404"
    #: blocks the page's main thread when its chat is opened, once
    HANGS = "15550000408"
    #: messages stay at the clock until they are released; until then the recipient has nothing
    HELD = "15550000409"
    #: opening its chat restricts the account from new chats
    RESTRICTS = "15550000429"
    #: crashes the page after the server has the message and before the tick, once
    CRASHES = "15550000500"
    #: takes the account offline for a while when a message is sent to it
    CUTS_OFF = "15550000503"
