"""`postrider doctor --canary`: one message from an account to its own number, with the time of each step."""

import asyncio
import time
from datetime import datetime, timedelta

from api.http.models import iso
from api.sending.acceptance import Order
from api.sending.send_request import SendRequest
from commands import environment
from commands.checkup import ExaminedAccount, Progress, find
from errors import OperatorError, RequestError
from settings import Settings
from sql import roles
from sql.database import Database, Row
from sql.ids import new_id
from sql.roles import Role
from wiring.api import make_acceptance

LIMIT = 180.0  # seconds until the message expires
TICKS = 15.0  # seconds to wait for further ticks after the first
POLL_SECONDS = 0.2
OPEN = frozenset({"queued", "sending", "submitting"})


def run_canary(settings: Settings, account: str) -> str:
    """Send the message, print its steps, and return how it ended. Raises OperatorError if it was not sent."""
    return asyncio.run(_canary(settings, account))


async def _canary(settings: Settings, account: str) -> str:
    progress = Progress()
    url, name = environment.database_url(settings), "postrider doctor"
    roles.check(url, Role.API)  # which a login of the worker alone may not take
    async with (
        Database(url, Role.WORKER, size=2, name=name) as database,
        Database(url, Role.API, size=1, name=name) as api,
    ):
        examined = await find(database, account)
        phone = _sends(examined)
        (time_row,) = await database.all("database_time")
        now: datetime = time_row["now"]
        order = SendRequest.model_validate(
            {
                "account": account,
                "phone": phone,
                "message": f"Postrider canary, {iso(now)}",
                "idempotencyKey": new_id("canary_"),
                "expiresAt": iso(now + timedelta(seconds=LIMIT)),
                "metadata": {"canary": True},
            }
        )
        # As the API would: each message is accepted by a key, whose org it has.
        key = await database.one("key_of_org", org=examined.org_id)
        if key is None:
            raise OperatorError(f"The org {examined.org_id} has no API key: make one (`postrider keys create`).")
        (answer,) = await make_acceptance(settings, api).accept([Order(order, key["key_hash"], "")])
        if isinstance(answer, RequestError):
            raise OperatorError(f"The message was not accepted: {answer.detail}")
        async with progress.kept():
            job = await _followed(database, examined.org_id, answer.job_id, progress)
    if job["state"] in {"sent", "delivered", "read"}:
        return f"{answer.job_id} is {job['state']}"
    raise OperatorError(f"{answer.job_id} is {job['state']}: {job['error_code']}: {job['error_detail']}")


def _sends(examined: ExaminedAccount) -> str:
    """Return the account's own number. Raises OperatorError if nothing would be sent now."""
    if not examined.works:
        raise OperatorError("No worker is running that could send the message: start one (`postrider worker`).")
    if examined.phone is None:
        raise OperatorError("The account's own number is not known, since the account was never ready.")
    if examined.closed:
        until = f"until {iso(examined.opens_at)}" if examined.opens_at else "until somebody acts"
        raise OperatorError(f"The account sends nothing {until} ({examined.closed_because}), so no message was sent.")
    return examined.phone


async def _followed(database: Database, org: str, job_id: str, progress: Progress) -> Row:
    """Print each step of the job as it happens; return the job at its end, or when no more ticks come."""
    printed, end = 0, time.monotonic() + LIMIT + TICKS
    while True:
        job = await database.one("show_job", org=org, job=job_id)
        if job is None:
            raise OperatorError(f"The job {job_id} does not exist any more.")
        steps = job["timeline"]
        began = datetime.fromisoformat(steps[0]["at"])
        for step in steps[printed:]:
            after = (datetime.fromisoformat(step["at"]) - began).total_seconds()
            detail = f": {step['detail']}" if step["detail"] else ""
            progress.say(f"{step['at']}  {after:+8.3f} s  {step['status']}{detail}")
            if step["status"] == "sent":
                end = time.monotonic() + TICKS
        printed = len(steps)
        progress.what = f"{job_id} is {job['state']}"
        if (job["state"] not in OPEN and job["state"] not in {"sent", "delivered"}) or time.monotonic() > end:
            return job
        await asyncio.sleep(POLL_SECONDS)
