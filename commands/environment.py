"""What every command needs first: settings, with generated secrets in development; the database; the worker's home."""

import base64
import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TextIO
from urllib.parse import urlsplit

import psycopg
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from addresses import Addresses, literal
from crypto import CryptoError, decode_secret, new_secret
from errors import DatabaseAway, OperatorError, SettingsWrong
from settings import Settings, read
from sql import roles, schema
from sql.ids import new_id
from sql.roles import Role
from wiring.shared import VERSION

log = logging.getLogger(__name__)

DATABASE_TRIES = 5  # with a backoff of 1 s · 2ⁿ


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
    """Raise SettingsWrong for a URL that may not be delivered to. A name that has no address yet is allowed."""
    # Imported here, since most commands do not need it, and it would take a third of their start.
    from api.webhooks import webhook_urls  # noqa: PLC0415

    try:
        host, port = webhook_urls.place(webhook_urls.well_formed(url))
    except ValueError:  # its text may contain a password
        raise SettingsWrong(f"WEBHOOK_URL {webhook_urls.FAULT}.") from None
    address = literal(host)
    if addresses.refusal([address] if address else [], port):
        raise SettingsWrong(f"WEBHOOK_URL={url.partition('?')[0]}: {webhook_urls.CLOSED}.")


def _kept(path: Path, fresh: str) -> str:
    """Return the content of a file, or write `fresh` into it, readable only by the owner. Raises SettingsWrong."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Atomic: a process that is killed here leaves no empty key.
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as file:  # with mode 0600
            file.write(fresh)
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    if text := path.read_text().strip():
        return text
    raise SettingsWrong(f"{path} is empty: write the secret into it again, or delete it to get a new one.")


# --- database ----------------------------------------------------------------------------------------------------


def database_url(settings: Settings) -> str:
    """Return DATABASE_URL, or start the embedded Postgres and return its URL."""
    if settings.database_url:
        return settings.database_url.get_secret_value()
    # Imported here, since a process with DATABASE_URL never needs it.
    from sql import embedded  # noqa: PLC0415

    return embedded.start(settings.data_dir)


def ready_database_url(settings: Settings, role: Role) -> str:
    """Return the URL of a database that answers, whose schema this code may use, and whose connections take the role.

    Raises DatabaseAway, SchemaWrong or RolesWrong.
    """
    url = database_url(settings)
    wait_for_database(url)
    check_schema(url)
    roles.check(url, role)
    return url


def migrated_database_url(settings: Settings) -> str:
    """Return the URL of a database whose schema this code may use: MIGRATION_DATABASE_URL if it is set.

    Raises DatabaseAway, SchemaWrong or RolesWrong.
    """
    own = settings.migration_database_url
    url = own.get_secret_value() if own else database_url(settings)
    wait_for_database(url)
    check_schema(url)
    return url


def migrate(settings: Settings, *, only_roles: bool = False) -> list[str]:
    """Migrate the database, or only make its roles, as the login of MIGRATION_DATABASE_URL if it is set."""
    url = database_url(settings)
    own = settings.migration_database_url
    migrating = own.get_secret_value() if own else url
    wait_for_database(migrating)
    service = roles.login_of(url) if own else None
    if only_roles:
        schema.make_roles(migrating, service)
        return []
    return schema.migrate(migrating, service)


def wait_for_database(url: str) -> None:
    """Try Postgres five times, with a backoff of 1 s · 2ⁿ. Raises DatabaseAway."""
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
        "the database is away, attempt %d of %d: %s", state.attempt_number, DATABASE_TRIES, reason,
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
    """Raise SchemaWrong unless this code may use the database's schema."""
    schema.check(*schema.state(url), VERSION)


# --- the worker's home -------------------------------------------------------------------------------------------


@contextmanager
def home(profiles: Path) -> Iterator[str]:
    """Lock a directory of profiles for this process and yield its identity, which survives restarts."""
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
            f"Another worker uses the profiles in {profiles}: set another CHROME_USER_DATA_DIR for this one."
        ) from None
