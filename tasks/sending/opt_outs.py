"""People who ask not to be written to: put on the org's list, and told so once where the org wants it."""

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

#: from the STOP on; a later confirmation would be a message to somebody who wants none (47 CFR 64.1200(a)(12))
CONFIRM_WITHIN = timedelta(minutes=5)
#: what Postgres says of a statement that it does not take, and not of itself going away
REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.InternalError, psycopg.ProgrammingError)


async def stop_words(database: Database, account: str) -> StopWords:
    """Return the stop words of the account's org."""
    (own,) = await database.all("stop_words_of", account=account)
    return StopWords(**own)


async def check(database: Database, account: str, phone: str, job: str) -> None:
    """Raise OptedOut when a number is on the list, unless it is this job that confirms it."""
    if await database.one("opted_out", account=account, phone=phone, job=job):
        raise OptedOut


async def opt_out(tx: Transaction, account: str, phone: str, said: str, within: timedelta) -> list[Row]:
    """Put a number on the list, and queue the confirmation of it; return rows with the lanes to wake.

    The confirmation may go out `within` that time, and is none where that is over.
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
    """Return the form of a number that an order for it would have; the number itself where none could be for it."""
    with suppress(ValueError):
        return dialled(phone)
    return phone
