"""Put the parts together: settings with what development generates, the database, the API, a worker."""

import base64
import fcntl
import logging
import os
import resource
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TextIO
from urllib.parse import urlsplit

import httpx2
import psycopg
from starlette.applications import Starlette
from starlette.routing import Mount
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from addresses import Addresses, literal
from api import receivers
from app import create_app, pace_limits
from browser.chromium import candidates
from browser.engine import Engine
from browser.guard import Guard
from browser.reader import Patience
from browser.sandbox.app import create_sandbox
from browser.sandbox.timing import Timing
from browser.selectors import Selectors
from commands import selectors
from crypto import CryptoError, Sealer, decode_secret, new_secret
from errors import DatabaseAway, OperatorError, SettingsWrong
from resolver import Resolver
from settings import Settings, read
from sql import embedded, schema
from sql.database import Database
from sql.ids import new_id
from tasks.accounts import AccountWork
from tasks.checkups import Checkups
from tasks.deliver import DeliveryWork
from tasks.dialer import WITNESS, Dialer
from tasks.evidence import Evidence
from tasks.incoming import Incoming
from tasks.lanes import DEAD, Lanes, Pulse
from tasks.linking import Linking
from tasks.pace import Pace
from tasks.profiles import Profiles
from tasks.queue import FAST, SLOW, Consumer, make_app
from tasks.record import Records
from tasks.request import Requests
from tasks.seats import Seats
from tasks.selectors import LOOK, SelectorsSource
from tasks.send import Policy, Sender
from tasks.states import Account, States
from tasks.ticks import Ticks
from tasks.trouble import Trouble
from tasks.upkeep import Upkeep
from tasks.watchdog import Sealing, Watchdog
from tasks.worker import Heartbeat, Worker

log = logging.getLogger(__name__)

VERSION = version("postrider")
DATABASE_TRIES = 5  # 1 s · 2ⁿ apart
#: Endpoints that one worker delivers to at once: waiting for an answer costs little, and so many may hang.
ENDPOINT_SLOTS, SLOW_SLOTS = 1000, 1000
CROWD = 1  # calls to the database at once of all endpoints together that are new, fail or hang
SEAL_EVERY = 3600.0  # seconds between seals of a session that stays open; six hours is the most a login may be behind
#: Seconds after the end of its leases until a silent worker is dead and its accounts are taken over.
TAKEOVER = 5.0
PATIENCE = 10.0  # seconds that a worker's drains, of which there may be many, wait for a connection
DRAIN_PATIENCE = 25.0  # seconds a message in hand is given when the worker stops


# --- settings ----------------------------------------------------------------------------------------------------


def load(**values: object) -> Settings:
    """Read the settings and, in development, generate the secrets that are not set."""
    settings = read(**values)
    if settings.webhook_secret:
        try:
            decode_secret(settings.webhook_secret.get_secret_value())
        except CryptoError as error:
            raise SettingsWrong(f"WEBHOOK_SECRET: {error}") from None
    if settings.webhook_url:
        _check_receiver(settings.webhook_url, settings.addresses)
    if settings.production:
        return settings
    fresh = {
        "api_key": new_secret("key_"),
        "admin_key": new_secret("adm_"),
        "encryption_key": base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    missing = [name for name in fresh if getattr(settings, name) is None]
    kept = {name: _kept(settings.data_dir / name, fresh[name]) for name in missing}
    try:
        return read(**(values | kept))
    except SettingsWrong as error:
        raise SettingsWrong(f"In {settings.data_dir}: {error.detail}") from None


def _check_receiver(url: str, addresses: Addresses) -> None:
    """Raise SettingsWrong for a URL that nothing can be delivered to. A name may have an address later."""
    try:
        host, port = receivers.place(receivers.well_formed(url))
    except ValueError:  # which would repeat a password
        raise SettingsWrong(f"WEBHOOK_URL {receivers.FAULT}.") from None
    address = literal(host)
    if addresses.refusal([address] if address else [], port):
        raise SettingsWrong(f"WEBHOOK_URL={url.partition('?')[0]}: {receivers.CLOSED}.")


def _kept(path: Path, fresh: str) -> str:
    """Return what the file holds, or write `fresh` into it, readable by the owner alone. Raises SettingsWrong."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: whoever is killed here leaves no empty key.
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as file:  # with mode 0600
            file.write(fresh)
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    if text := path.read_text().strip():
        return text
    raise SettingsWrong(f"{path} is empty: write the secret into it again, or delete it for a new one.")


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
        before_sleep=_tell_away,
        retry_error_callback=lambda state: _give_up(url, state),
    ):
        with attempt:
            schema.knock(url)


def _tell_away(state: RetryCallState) -> None:
    reason = _reason(state)
    log.warning(
        "the database is away, try %d of %d: %s", state.attempt_number, DATABASE_TRIES, reason,
        extra={"event": "database.away", "reason": reason},
    )  # fmt: skip


def _reason(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome else None
    return str(error).strip().splitlines()[0]


def _give_up(url: str, state: RetryCallState) -> None:
    where = urlsplit(url)
    raise DatabaseAway(
        f"Postgres at {where.hostname or 'its socket'}{where.path} did not answer {DATABASE_TRIES} times: "
        f"{_reason(state)}. Check DATABASE_URL."
    )


def check_schema(url: str) -> None:
    """Raise SchemaWrong unless this code may run on the database's schema."""
    schema.check(*schema.state(url), VERSION)


# --- API ---------------------------------------------------------------------------------------------------------


def make_api(
    settings: Settings,
    url: str,
    timing: Timing = Timing(),  # noqa: B008 - it is frozen
) -> tuple[Starlette, Callable[[], None]]:
    """Return the API, in development with the sandbox mounted on it, and what ends the sandbox's open streams.

    `timing` is the sandbox's.
    """
    process = new_id("api_")
    # By the bare name `keys reseal` knows those that do not tell of their keys.
    database = Database(url, name=f"postrider api {process}")
    if settings.production:
        return create_app(settings, database, process=process), lambda: None
    sandbox = create_sandbox(settings.data_dir, timing)
    app = create_app(settings, database, [Mount("/sandbox", sandbox)], process=process)
    return app, sandbox.state.sandbox.stop


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


def make_worker(
    settings: Settings,
    url: str,
    home: str,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
) -> tuple[Worker, Engine]:
    """Return a worker and its engine; the caller opens the worker's database and closes the engine.

    `patience` is what it has with the pages of its accounts.
    """
    worker = new_id("wrk_")
    database = Database(url, size=settings.seats + 10, name="postrider worker", patience=PATIENCE)
    candidates(settings.chromium_path)  # a worker without any ends now; which of them starts, the first opening tells
    engine = Engine(
        executable=settings.chromium_path, sandbox=settings.chromium_sandbox, profiles=settings.profiles.resolve()
    )
    lanes = Lanes(database, worker, {})
    states = States(database, worker)
    source = selectors.source(settings)
    seats = _seats(
        settings, patience, database=database, lanes=lanes, states=states, home=home, engine=engine, looks=source.load()
    )
    source.use = seats.use
    evidence = Evidence.at(settings.evidence_url, settings.data_dir / "evidence")
    incoming = Incoming(database, seats)
    dialer = Dialer(settings.addresses, Resolver(), urlsplit(settings.whatsapp_url).hostname or WITNESS)
    deliveries = DeliveryWork(
        database,
        worker,
        Requests(dialer, httpx2.create_ssl_context(trust_env=False), _unseal(settings), _most_requests()),
        Records(database),
        lanes.stopping.is_set,
    )
    lanes.works = {
        "account": _account_work(
            settings, seats=seats, states=states, lanes=lanes, evidence=evidence, incoming=incoming
        ),
        "endpoint": deliveries,
    }
    crowd = crowded(lanes, deliveries)
    upkeep = Upkeep(database, settings.keepalive_days, settings.retention_days)
    app = make_app(url, lanes.drain, upkeep.run_once, size=10, crowd=crowd.drain)
    consumers = [
        Consumer(app, [f"account@{worker}", "account"], settings.seats, DRAIN_PATIENCE),
        Consumer(app, [FAST, "upkeep"], ENDPOINT_SLOTS, DRAIN_PATIENCE),
        Consumer(app, [SLOW], SLOW_SLOTS, DRAIN_PATIENCE),
    ]
    return Worker(
        id=worker,
        database=database,
        app=app,
        lanes=lanes,
        seats=seats,
        duties=_duties(settings, database=database, seats=seats, incoming=incoming, source=source, evidence=evidence),
        pulse=Pulse(url, settings.settle_seconds, max(DEAD, settings.lease_seconds) + TAKEOVER),
        heartbeat=Heartbeat(
            database, worker, seats, consumers, settings.lease_seconds, settings.database_grace_seconds
        ),
        consumers=consumers,
        host=f"{socket.gethostname()}:{os.getpid()}",
        version=VERSION,
    ), engine


def _most_requests() -> int:
    """Return how many requests to receivers may be under way: the rest needs open files too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(Requests.most, soft // 2))


def crowded(lanes: Lanes, deliveries: DeliveryWork) -> Lanes:
    """Return the lanes as the crowd of endpoints that are new, fail or hang drains them: some calls at a time."""
    share = lanes.database.share(CROWD)
    # With records of its own: a thousand are written when what hangs is given up, and nobody is to wait for these.
    work = replace(deliveries, database=share, records=Records(share))
    return replace(lanes, database=share, works={"endpoint": work})


def _duties(
    settings: Settings,
    *,
    database: Database,
    seats: Seats,
    incoming: Incoming,
    source: SelectorsSource,
    evidence: Evidence,
) -> list[tuple[str, float, Callable[[], Awaitable[object]]]]:
    """List what a worker does again and again, with the seconds between."""
    return [
        ("ticks", 1.0, Ticks(database, seats).run_once),
        ("incoming", 2.0, incoming.run_once),
        ("idle", 5.0, lambda: seats.leave_idle(settings.idle_seconds)),
        ("sealing", 5.0, Sealing(seats, SEAL_EVERY).run_once),
        ("watchdog", settings.watchdog_seconds, Watchdog(database, seats, settings.memory_limit_mb).run_once),
        ("selectors", LOOK, source.run_once),
        ("checkups", 1.0, Checkups(database, seats, lambda: source.origin).run_once),
        # In every worker: folders on other machines are out of reach.
        ("tidying", 600.0, seats.tidy),
        ("evidence", 3600.0, lambda: evidence.sweep(settings.retention_days)),
    ]


def _seats(
    settings: Settings,
    patience: Patience,
    *,
    database: Database,
    lanes: Lanes,
    states: States,
    home: str,
    engine: Engine,
    looks: Selectors,
) -> Seats:
    sandbox = sandbox_url(settings)

    def url(account: Account) -> str:
        return settings.whatsapp_url if account.transport == "web" else f"{sandbox}/web/{account.id}/"

    return Seats(
        database=database,
        worker=lanes.worker,
        states=states,
        profiles=Profiles(database, lanes.worker, home, settings.profiles.resolve(), sealer(settings)),
        engine=engine,
        guard=Guard(),
        selectors=looks,
        capacity=settings.seats,
        lease_seconds=settings.lease_seconds,
        typing_delay_ms=settings.typing_delay_ms,
        patience=patience,
        url=url,
        unseal=_unseal(settings),
        draining=lambda account: account in lanes.draining,
        stopping=lanes.stopping.is_set,
    )


def _account_work(
    settings: Settings, *, seats: Seats, states: States, lanes: Lanes, evidence: Evidence, incoming: Incoming
) -> AccountWork:
    database, worker = seats.database, seats.worker
    policy = Policy(
        attempts=settings.send_attempts,
        backoff_seconds=settings.send_backoff_seconds,
        confirm_seconds=settings.confirm_seconds,
        settle_seconds=settings.settle_seconds,
    )
    return AccountWork(
        database=database,
        seats=seats,
        states=states,
        sender=Sender(database, worker, policy, incoming, evidence),
        linking=Linking(database, worker, states, lanes.stopping.is_set),
        trouble=Trouble(database, worker, seats, states, evidence, settings.breaker_failures, settings.breaker_seconds),
        pace=Pace(
            database, pace_limits(settings), defer=settings.daily_cap_action == "defer", stopping=lanes.stopping.is_set
        ),
        keepalive_days=settings.keepalive_days,
    )


def sealer(settings: Settings) -> Sealer:
    """Return what seals and opens secrets in the database."""
    if settings.encryption_key is None:
        raise OperatorError("ENCRYPTION_KEY is not set.")
    return Sealer.from_text(settings.encryption_key.get_secret_value())


def _unseal(settings: Settings) -> Callable[[bytes, str], str]:
    keys = sealer(settings)
    return lambda sealed, about: keys.open(sealed, about.encode()).decode()
