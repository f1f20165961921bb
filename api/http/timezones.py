"""Time zones, by their IANA names."""

from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, WithJsonSchema

from api.http.context import Context
from api.http.models import shown
from errors import FieldError, Invalid
from sql.database import Transaction

#: Names in the time zone database that are no time zones of a place; browsers refuse them.
NOWHERE = {"Factory", "localtime"}


@cache
def _names() -> set[str]:
    return available_timezones() - NOWHERE


def _zone(text: str) -> str:
    if text not in _names():
        raise ValueError(_fault(text))
    return text


def _fault(text: str) -> str:
    return f"must be an IANA time zone such as Europe/Berlin, not {shown(text)}"


Zone = Annotated[str, AfterValidator(_zone), WithJsonSchema({"type": "string", "format": "iana-time-zone"})]


async def check_zone(context: Context, tx: Transaction, zone: str) -> None:
    """Raise Invalid unless Postgres knows the zone too: it counts the account's days by its own database of zones."""
    if zone in context.known_zones:
        return
    if await tx.one("known_zone", zone=zone) is None:
        raise Invalid(f"timeZone {_fault(zone)}.", errors=[FieldError("timeZone", _fault(zone))])
    context.known_zones.add(zone)
