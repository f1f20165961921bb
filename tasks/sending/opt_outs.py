"""Opt-outs: recipients who want no more messages go on the org's list, and get one confirmation if the org wants it."""

import logging
from contextlib import suppress
from datetime import timedelta

import psycopg

from errors import OptedOut
from phones import dialled
from sql.database import Database, Row, Transaction
from sql.ids import new_id
from stopwords import StopWords
from texts import printable

log = logging.getLogger(__name__)

#: time from the STOP to its confirmation; a later one would itself be unwanted (47 CFR 64.1200(a)(12))
CONFIRM_WITHIN = timedelta(minutes=5)
#: errors of statements that Postgres rejects, unlike those of a lost connection
REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.InternalError, psycopg.ProgrammingError)


async def stop_words(database: Database, account: str) -> StopWords:
    """Return the stop words of the account's org."""
    (own,) = await database.all("stop_words_of", account=account)
    return StopWords(**own)


async def check(database: Database, account: str, phone: str, job: str) -> None:
    """Raise OptedOut when a number is on the list, unless this job is the confirmation."""
    if await database.one("opted_out", account=account, phone=phone, job=job):
        raise OptedOut


async def opt_out(tx: Transaction, account: str, phone: str, said: str, within: timedelta) -> list[Row]:
    """Put a number on the list and queue the confirmation; return rows with the lanes to wake.

    The confirmation must go out `within` that time; if none is left, there is no confirmation.
    """
    await tx.all("lock_opt_outs", phone=phone)
    row = await tx.one("opt_out", id=new_id("opt_"), account=account, phone=phone, reason=printable(said))
    return await _confirm(tx, account, row["id"], phone, within) if row and within > timedelta() else []


async def _confirm(tx: Transaction, account: str, entry: str, phone: str, within: timedelta) -> list[Row]:
    try:
        # A savepoint: whatever is wrong with the confirmation, the opt-out holds.
        async with tx.connection.transaction():
            return await tx.all("confirm_opt_out", id=entry, job=new_id("job_"), phone=_dialled(phone), within=within)
    except REFUSED as error:
        reason = type(error).__name__
        log.error(  # noqa: TRY400  # Postgres repeats the row in the traceback
            "account %s: an opt-out is not confirmed: %s", account, reason,
            extra={"event": "opt_out.unconfirmed", "account": account, "reason": reason},
        )  # fmt: skip
        return []


def _dialled(phone: str) -> str:
    """Return a number as `POST /send` would store it, or unchanged if `POST /send` would refuse it."""
    with suppress(ValueError):
        return dialled(phone)
    return phone
