"""`postrider doctor`: a line for each check, ok or WRONG."""

import asyncio
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg

from api.operator.metrics import MOST_COUNTED
from browser.engine.chromium import check_driver, find_chromium
from commands import checkup, environment
from commands.canary import run_canary
from commands.sealed import Survey, walk
from errors import OperatorError, PostriderError, RoleRefused
from settings import Settings
from sql import roles, schema
from sql.database import Database
from sql.roles import Role
from wiring import shared

FREE_DISK = 2**30  # bytes that should be free
#: the work of each duty
WORK = {"sessions": "messages", "webhooks": "deliveries"}
CLOCK_SKEW = 5.0  # seconds that our clock and Postgres's may differ; beyond that signed requests are refused


def run_doctor(settings: Settings, account: str | None, *, canary: bool = False) -> int:
    """Check settings, database, keys, Chromium and so on. Return 1 if a check fails.

    With an account, check its page too. Then, with `canary` and if nothing is wrong, send a message to its own number.
    """
    if canary and not account:
        raise OperatorError("--canary sends from an account: name it with --account.")
    print("ok    settings  every value is allowed")  # noqa: T201
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("database", _database),
        ("schema", _schema),
        ("roles", _roles),
        ("workers", lambda it: asyncio.run(_workers(it))),
        ("clock", _clock),
        ("keys", lambda it: asyncio.run(_keys(it))),
        ("chromium", lambda it: asyncio.run(_chromium(it))),
        ("disk", _disk),
    ]
    wrong = max(_check(name, check, settings) for name, check in checks)
    if account:
        wrong = max(wrong, _check("page", lambda it: checkup.run_checkup(it, account), settings))
    if account and canary and not wrong:
        return _check("canary", lambda it: run_canary(it, account), settings)
    if canary:
        print("      no canary was sent, since a check failed")  # noqa: T201
    return wrong


def _check(name: str, check: Callable[[Settings], str], settings: Settings) -> int:
    try:
        print(f"ok    {name:9} {check(settings)}", flush=True)  # noqa: T201
    except (PostriderError, psycopg.Error) as error:
        print(f"WRONG {name:9} {str(error).strip().splitlines()[0]}", flush=True)  # noqa: T201
        return 1
    return 0


def _database(settings: Settings) -> str:
    url = environment.database_url(settings)
    schema.knock(url)
    return "Postgres answers" + ("" if settings.database_url else " (embedded)")


def _schema(settings: Settings) -> str:
    environment.check_schema(environment.database_url(settings))
    return f"fits version {shared.VERSION}"


def _roles(settings: Settings) -> str:
    # With a login of its own, a process takes one of them.
    url, taken, refused = environment.database_url(settings), list[str](), list[RoleRefused]()
    for role in roles.TAKEN:
        try:
            roles.check(url, role)
            taken.append(role)
        except RoleRefused as error:
            refused.append(error)
    if not taken:
        raise refused[0]
    return f"{roles.login_of(url)} takes {' and '.join(taken)}, and policies bind it"


def _clock(settings: Settings) -> str:
    with psycopg.connect(environment.database_url(settings), connect_timeout=5) as connection:
        began = time.monotonic()
        row = connection.execute("select clock_timestamp()").fetchone()
        took = time.monotonic() - began
    off = abs((datetime.now(UTC) - row[0]).total_seconds()) - took if row else 0.0
    if off > CLOCK_SKEW:
        raise OperatorError(f"This machine's clock and Postgres's differ by {off:.1f} s; synchronise both by NTP.")
    return f"within {max(off, 0):.2f} s of Postgres's"


async def _workers(settings: Settings) -> str:
    async with Database(environment.database_url(settings), Role.WORKER, size=1) as database:
        duties = await database.all("duties_done", most=MOST_COUNTED)
    for row in duties:
        if row["waiting"]:
            more = " or more" if row["waiting"] == MOST_COUNTED else ""
            raise OperatorError(
                f"No worker with the duty {row['duty']} is running, and {row['waiting']:,}{more} {WORK[row['duty']]} "
                f"are due: start `postrider worker --duties {row['duty']}`."
            )
    running = ", ".join(f"{row['workers']} for {row['duty']}" for row in duties if row["workers"])
    return f"{running} are running" if running else "no worker is running, and no work is waiting for one"


async def _keys(settings: Settings) -> str:
    survey = Survey()
    async with Database(environment.database_url(settings), Role.WORKER, size=1) as database:
        await walk(database, shared.sealer(settings), survey)
    wrong = []
    if survey.closed:
        wrong.append(f"No key of ENCRYPTION_KEY opens {survey.closed}: add the key that sealed them at its end.")
    if survey.left:
        wrong.append(
            f"{survey.left:,} values (of {survey.summary}) still need an old key: run `postrider keys reseal`."
        )
    if wrong:
        raise OperatorError(" ".join(wrong))
    return f"all {survey.summary} are sealed with the first key"


async def _chromium(settings: Settings) -> str:
    await check_driver()
    found = await find_chromium(
        settings.chromium_path, sandbox=settings.chromium_sandbox, profiles=settings.profiles.resolve()
    )
    sandbox = "is off" if settings.chromium_sandbox == "off" else "starts" if found.sandboxed else "does not start"
    return f"{found.path} {found.version}, its sandbox {sandbox}"


def _disk(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data_dir).free
    if free < FREE_DISK:
        raise OperatorError(f"Only {free // 2**20} MB are free in {settings.data_dir}.")
    return f"{free // 2**30} GB free"
