"""Put the parts together: settings with what development generates, the database, the API, a worker."""

import base64
import fcntl
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import psycopg
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Mount
from tenacity import (
    RetryCallState,
    Retrying,
    before_sleep_log,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from app import create_app
from browser import selectors
from browser.chromium import find_chromium
from browser.engine import Engine
from browser.sandbox.app import create_sandbox
from crypto import CryptoError, Sealer, decode_secret, new_secret
from errors import DatabaseAway, OperatorError, SettingsWrong
from settings import Settings, read
from sql import embedded, schema
from sql.database import Database
from sql.ids import new_id
from tasks.accounts import AccountWork
from tasks.deliver import DeliveryWork, make_client
from tasks.lanes import Lanes, Pulse
from tasks.linking import Linking
from tasks.queue import Consumer, make_app
from tasks.seats import Account, Seats
from tasks.send import Policy, Sender
from tasks.ticks import Ticks
from tasks.worker import Heartbeat, Worker

log = logging.getLogger(__name__)

VERSION = version("postrider")
DATABASE_TRIES = 5  # 1 s · 2ⁿ apart
ENDPOINT_SLOTS, SLOW_SLOTS = 20, 20
DRAIN_PATIENCE = 30.0  # seconds a message in hand is given when the worker stops


# --- settings ----------------------------------------------------------------------------------------------------


def load(**values: object) -> Settings:
    """Read the settings and, in development, generate the secrets that are not set."""
    settings = read(**values)
    if settings.webhook_secret:
        try:
            decode_secret(settings.webhook_secret.get_secret_value())
        except CryptoError as error:
            raise SettingsWrong(f"WEBHOOK_SECRET: {error}") from None
    if settings.production:
        return settings
    generated = {
        "api_key": settings.api_key or SecretStr(_kept(settings.data_dir / "api_key", new_secret("key_"))),
        "encryption_key": settings.encryption_key
        or SecretStr(_kept(settings.data_dir / "encryption_key", base64.b64encode(secrets.token_bytes(32)).decode())),
    }
    return settings.model_copy(update=generated)


def _kept(path: Path, fresh: str) -> str:
    """Return what the file holds, or write `fresh` into it, readable by the owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(fresh)
    except FileExistsError:
        return path.read_text().strip()
    return fresh


# --- database ----------------------------------------------------------------------------------------------------


def database_url(settings: Settings) -> str:
    """Return DATABASE_URL, or start the embedded Postgres and return its."""
    if settings.database_url:
        return settings.database_url.get_secret_value()
    return embedded.start(settings.data_dir)


def wait_for_database(url: str) -> None:
    """Try Postgres five times, 1 s · 2ⁿ apart. Raises DatabaseAway."""
    for attempt in Retrying(
        retry=retry_if_exception_type(psycopg.OperationalError),
        stop=stop_after_attempt(DATABASE_TRIES),
        wait=wait_exponential(multiplier=1),
        before_sleep=before_sleep_log(log, logging.WARNING),
        retry_error_callback=lambda state: _give_up(url, state),
    ):
        with attempt:
            schema.knock(url)


def _give_up(url: str, state: RetryCallState) -> None:
    where = urlsplit(url)
    error = state.outcome.exception() if state.outcome else None
    reason = str(error).strip().splitlines()[0]
    raise DatabaseAway(
        f"Postgres at {where.hostname or 'its socket'}{where.path} did not answer {DATABASE_TRIES} times: {reason}. "
        "Check DATABASE_URL."
    )


def check_schema(url: str) -> None:
    """Raise SchemaWrong unless this code may run on the database's schema."""
    schema.check(*schema.state(url), VERSION)


# --- API ---------------------------------------------------------------------------------------------------------


def make_api(settings: Settings, url: str) -> tuple[Starlette, Callable[[], None]]:
    """Return the API, in development with the sandbox mounted on it, and what ends the sandbox's open streams."""
    database = Database(url, name="postrider api")
    if settings.production:
        return create_app(settings, database), lambda: None
    sandbox = create_sandbox(settings.data_dir)
    return create_app(settings, database, [Mount("/sandbox", sandbox)]), sandbox.state.sandbox.stop


def sandbox_url(settings: Settings) -> str:
    """Return where workers reach the sandbox, which the API serves to loopback peers only."""
    host = settings.host if settings.host not in {"0.0.0.0", "::"} else "127.0.0.1"  # noqa: S104  # compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/sandbox"


# --- worker ------------------------------------------------------------------------------------------------------


@contextmanager
def home(profiles: Path) -> Iterator[str]:
    """Hold a directory of profiles for this process and return its identity, which a restarted worker finds again."""
    profiles.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (profiles / "home").open("a+") as file:
        _lock(file, profiles)
        file.seek(0)
        identity = file.read().strip()
        if not identity:
            identity = new_id("home_")
            file.write(identity)
            file.flush()
        yield identity


def _lock(file: TextIO, profiles: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OperatorError(
            f"Another worker uses the profiles in {profiles}: give this one a CHROME_USER_DATA_DIR of its own."
        ) from None


def make_worker(settings: Settings, url: str, home: str) -> tuple[Worker, Engine]:
    """Return a worker and its engine; the caller opens the worker's database and closes the engine."""
    worker = new_id("wrk_")
    database = Database(url, size=settings.seats + 10, name="postrider worker")
    engine = Engine(executable=find_chromium(settings.chromium_path), sandbox=settings.chromium_sandbox)
    lanes = Lanes(database, worker, {})
    seats = _seats(settings, database, lanes, home, engine)
    client = make_client()
    lanes.works = {
        "account": _account_work(settings, database, worker, seats, lanes),
        "endpoint": DeliveryWork(database, worker, _unseal(settings), client),
    }
    app = make_app(url, lanes.drain, lambda: _upkeep(database), size=10)
    consumers = [
        Consumer(app, [f"account@{worker}", "account"], settings.seats, DRAIN_PATIENCE),
        Consumer(app, ["endpoint", "upkeep"], ENDPOINT_SLOTS, DRAIN_PATIENCE),
        Consumer(app, ["endpoint-slow"], SLOW_SLOTS, DRAIN_PATIENCE),
    ]
    return Worker(
        id=worker,
        database=database,
        app=app,
        lanes=lanes,
        seats=seats,
        ticks=Ticks(database, seats),
        client=client,
        pulse=Pulse(url, settings.settle_seconds),
        heartbeat=Heartbeat(
            database, worker, seats, consumers, settings.lease_seconds, settings.database_grace_seconds
        ),
        consumers=consumers,
        idle_seconds=settings.idle_seconds,
        host=f"{socket.gethostname()}:{os.getpid()}",
        version=VERSION,
    ), engine


def _seats(settings: Settings, database: Database, lanes: Lanes, home: str, engine: Engine) -> Seats:
    sandbox = sandbox_url(settings)

    def url(account: Account) -> str:
        return settings.whatsapp_url if account.transport == "web" else f"{sandbox}/web/{account.id}/"

    return Seats(
        database=database,
        worker=lanes.worker,
        home=home,
        engine=engine,
        profiles=settings.profiles.resolve(),
        evidence=settings.data_dir / "evidence",
        selectors=selectors.load(settings.selectors_file),
        capacity=settings.seats,
        lease_seconds=settings.lease_seconds,
        typing_delay_ms=settings.typing_delay_ms,
        url=url,
        draining=lambda account: account in lanes.draining,
    )


def _account_work(settings: Settings, database: Database, worker: str, seats: Seats, lanes: Lanes) -> AccountWork:
    policy = Policy(
        attempts=settings.send_attempts,
        backoff_seconds=settings.send_backoff_seconds,
        confirm_seconds=settings.confirm_seconds,
        settle_seconds=settings.settle_seconds,
    )
    return AccountWork(
        database=database,
        seats=seats,
        sender=Sender(database, worker, policy),
        linking=Linking(database, lambda: lanes.stopping),
        breaker_failures=settings.breaker_failures,
        breaker_seconds=settings.breaker_seconds,
    )


def sealer(settings: Settings) -> Sealer:
    """Return what seals and opens secrets in the database."""
    if settings.encryption_key is None:
        raise OperatorError("ENCRYPTION_KEY is not set.")
    return Sealer.from_text(settings.encryption_key.get_secret_value())


def _unseal(settings: Settings) -> Callable[[bytes, str], str]:
    keys = sealer(settings)
    return lambda sealed, about: keys.open(sealed, about.encode()).decode()


async def _upkeep(database: Database) -> None:
    await database.all("ensure_partitions")
