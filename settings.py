"""The settings: one typed table, read once from the environment and `.env`.

Only cli.py, commands/ and wiring/ read it; all other code is handed the values that it needs. docs/settings.md and
.env.example are made from it.
"""

import base64
import binascii
from contextlib import suppress
from datetime import time
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from addresses import LOOPBACK_NETWORKS, Addresses, Network, network
from errors import SettingsWrong

MIN_SECRET = 16  # characters that a key or secret must have
ENCRYPTION_KEY_BYTES = 32  # AES-256
KEYS_OF_AN_ORG = 5  # keys of an org that may each make all the requests that a key may make

Seconds = Annotated[float, Field(ge=0)]
Duty = Literal["sessions", "webhooks"]
DUTIES: tuple[Duty, ...] = get_args(Duty)


class Settings(BaseSettings):
    """What Postrider reads from the environment. A limit of 0 is no limit."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: SecretStr | None = Field(
        default=None, description="Postgres. Unset: an embedded one under DATA_DIR. Required when ENV=production."
    )
    migration_database_url: SecretStr | None = Field(
        default=None,
        description="The same database for `postrider migrate`, by a login that may make roles. Unset: DATABASE_URL.",
    )
    env: Literal["development", "production"] = Field(
        default="development",
        description="development, or production, which refuses embedded Postgres, generated secrets and the sandbox.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the API and the worker's health checks listen on.")
    port: int = Field(default=3000, ge=1, le=65535, description="Port of the API.")
    worker_port: int = Field(default=3001, ge=1, le=65535, description="Port of the worker's health checks.")
    worker_duties: Annotated[tuple[Duty, ...], NoDecode] = Field(
        default=DUTIES, description="What a worker does: `sessions` (accounts and their messages), `webhooks`, or both."
    )
    api_key: SecretStr | None = Field(
        default=None, description="Bootstrap key of the default org. Generated in development."
    )
    api_secret: SecretStr | None = Field(
        default=None, description="When set, state-changing requests made with API_KEY must be signed with it."
    )
    admin_key: SecretStr | None = Field(
        default=None, description="Key for /admin/*, in the header x-admin-key. Generated in development."
    )
    encryption_key: SecretStr | None = Field(
        default=None,
        description="32 bytes in base64, to seal profiles and secrets in the database; a comma-separated list "
        "rotates: the first seals, all open. Generated in development and kept in DATA_DIR.",
    )
    webhook_url: str | None = Field(default=None, description="A first endpoint for the default org.")
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Signing secret of WEBHOOK_URL, whsec_… (24 to 64 bytes in base64). Required with WEBHOOK_URL.",
    )
    webhook_allow_cidrs: Annotated[tuple[Network, ...] | None, NoDecode] = Field(
        default=None,
        description="Private networks that webhooks may reach, such as 10.1.0.0/16,fd12:3456::/48. Unset: none; in "
        "development, loopback.",
    )
    proxy_allow_cidrs: Annotated[tuple[Network, ...] | None, NoDecode] = Field(
        default=None,
        description="Private networks that accounts' proxies may be in, such as 10.1.0.0/16,fd12:3456::/48. Unset: "
        "none; in development, loopback.",
    )
    data_dir: Path = Field(
        default=Path(".data"), description="Directory of embedded Postgres, generated secrets, profiles and evidence."
    )
    chrome_user_data_dir: Path | None = Field(
        default=None, description="Directory of the browser profiles of live sessions. Unset: DATA_DIR/chrome-data."
    )
    chromium_path: Path | None = Field(
        default=None, description="The Chromium to use. Unset: an installed one is searched for."
    )
    chromium_sandbox: Literal["auto", "on", "off"] = Field(
        default="auto", description="Chromium's own sandbox; auto: on if it starts here, else off with a warning."
    )
    whatsapp_url: str = Field(
        default="https://web.whatsapp.com", description="The page of accounts with transport web."
    )
    max_sessions: int = Field(
        default=0, ge=0, description="Seats of one worker. Unset or 0: (RAM - 300 MB) / 350 MB, at least 1."
    )
    memory_limit_mb: float = Field(
        default=400,
        ge=0,
        description="Memory (PSS) of one browser. One that grows over it is restarted between two messages; over twice "
        "as much, at once.",
    )
    watchdog_seconds: float = Field(
        default=30, gt=0, description="Seconds between checks of each browser's memory and page."
    )
    idle_seconds: Seconds = Field(default=300, description="An idle session gives up its seat after this.")
    keepalive_days: float = Field(
        default=7,
        ge=0,
        description="A session that was hibernated for so long is opened once, so that WhatsApp does not unlink it.",
    )
    lease_seconds: float = Field(
        default=30, ge=15, description="How long a worker may hold an account without renewing its lease."
    )
    settle_seconds: Seconds = Field(
        default=900, description="A message whose outcome is still unknown after this fails with outcome_unknown."
    )
    confirm_seconds: float = Field(default=60, gt=0, description="How long to wait for a message's first tick.")
    pace_per_minute: int = Field(
        default=20, ge=0, description="Maximum number of messages of one account in 60 seconds."
    )
    pace_per_hour: int = Field(default=100, ge=0, description="Maximum number of messages of one account in an hour.")
    pace_per_day: int = Field(
        default=1000, ge=0, description="Maximum number of messages of one account in a day of its time zone."
    )
    pace_ramp_start: int = Field(
        default=100,
        ge=0,
        description="Maximum number of messages of a new account on its first day. The day's limit is the smaller of "
        "this ramp and PACE_PER_DAY.",
    )
    pace_ramp_step: int = Field(
        default=50, ge=0, description="What the ramp grows by with each day since the account was first ready."
    )
    pace_ramp_max: int = Field(default=2000, ge=0, description="Where the ramp ends.")
    pace_gap_seconds: Annotated[tuple[float, float], NoDecode] = Field(
        default=(2, 5), description="Seconds from one message of an account to the next, from-to, at random."
    )
    pace_per_recipient_hour: int = Field(
        default=10, ge=0, description="Maximum number of messages to one recipient in an hour."
    )
    quiet_hours: Annotated[tuple[time, time] | None, NoDecode] = Field(
        default=None,
        description="Hours without messages, in the account's time zone, such as 21:00-08:00. Unset: none.",
    )
    daily_cap_action: Literal["reject", "defer"] = Field(
        default="reject",
        description="Messages over the day's limit fail with daily_cap_exceeded (reject), or wait (defer).",
    )
    typing_delay_ms: Annotated[tuple[int, int], NoDecode] = Field(
        default=(5, 25), description="Milliseconds for each typed character, from-to, at random."
    )
    breaker_failures: int = Field(default=5, ge=0, description="Failures in a row that open an account's circuit.")
    breaker_seconds: Seconds = Field(default=300, description="How long the circuit stays open.")
    send_attempts: int = Field(default=5, ge=1, description="Maximum number of attempts at one message.")
    send_backoff_seconds: Seconds = Field(default=5, description="Pause after the first failed attempt; it doubles.")
    job_ttl_seconds: float = Field(
        default=86400, gt=0, description="A job without expiresAt expires this long after its sendAt."
    )
    dedupe_seconds: Seconds = Field(
        default=10,
        le=259_200,
        description="Equal requests without idempotency key within this time are one job; at most three days.",
    )
    max_queued: int = Field(
        default=100_000,
        ge=0,
        description=(
            "Maximum number of waiting messages of one account; more are refused. "
            "Requests at the same moment may together exceed it. 0 is no limit."
        ),
    )
    rate_limit_per_minute: int = Field(
        default=6000,
        ge=0,
        description="Requests of a key, and of an IP address: this many at once, and as many a minute after that.",
    )
    org_rate_limit_per_minute: int | None = Field(
        default=None,
        ge=0,
        description="The same of all keys of an org together. Unset: five times RATE_LIMIT_PER_MINUTE.",
    )
    retention_days: float = Field(
        default=90,
        ge=0,
        description="How long ended jobs, events, deliveries, evidence, incoming messages and state changes are kept.",
    )
    evidence_url: str | None = Field(
        default=None,
        description="Where screenshots and HTML of failures go: a folder, or s3://bucket/prefix with the usual AWS_ "
        "variables. Unset: DATA_DIR/evidence.",
    )
    database_grace_seconds: Seconds = Field(
        default=60,
        description="A process whose database is away for longer than this exits, so that the platform restarts it.",
    )
    selectors_file: Path | None = Field(
        default=None, description="File that replaces the shipped selectors; read again when it changes."
    )
    selectors_url: str | None = Field(
        default=None,
        description="https URL of a file that replaces the shipped selectors; its signature is at this URL with .sig.",
    )
    selectors_key: str | None = Field(
        default=None,
        description="Ed25519 public key, in base64, for the signature at SELECTORS_URL. Required with SELECTORS_URL.",
    )
    trust_proxy_hops: int = Field(
        default=0, ge=0, description="Proxies before the API whose X-Forwarded-For is trusted, counted from the right."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Strip white space around values; a value of nothing else is unset."""
        del settings_cls, file_secret_settings
        return _Trimmed(init_settings), _Trimmed(env_settings), _Trimmed(dotenv_settings)

    @field_validator("worker_duties", mode="before")
    @classmethod
    def _duties(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        named = {part.strip() for part in value.split(",")}
        if not named <= {*DUTIES}:
            raise ValueError("must be sessions, webhooks or sessions,webhooks")
        return tuple(duty for duty in DUTIES if duty in named)

    @field_validator("typing_delay_ms", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        low, _, high = value.partition("-")
        if not (low.strip().isdigit() and (high or low).strip().isdigit()) or int(low) > int(high or low):
            raise ValueError("must be like 5-25: two whole numbers of milliseconds, the smaller first")
        return int(low), int(high or low)

    @field_validator("pace_gap_seconds", mode="before")
    @classmethod
    def _gap(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            low, high = (float(part) for part in (value if "-" in value else f"{value}-{value}").split("-"))
        except ValueError:
            low, high = 1, 0
        if not 0 <= low <= high:
            raise ValueError("must be like 2-5: two numbers of seconds, the smaller first")
        return low, high

    @field_validator("webhook_allow_cidrs", "proxy_allow_cidrs", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return tuple(network(part) for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("quiet_hours", mode="before")
    @classmethod
    def _hours(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            begin, end = (time.fromisoformat(part.strip()) for part in value.split("-"))
        except ValueError:
            begin = end = time.min
        if begin == end or begin.tzinfo or end.tzinfo:
            raise ValueError("must be like 21:00-08:00: two different times of the day")
        return begin, end

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        if value != "localhost":
            ip_address(value)
        return value

    @field_validator("encryption_key")
    @classmethod
    def _encryption_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            for key in value.get_secret_value().split(","):
                _check_encryption_key(key.strip())
        return value

    @field_validator("api_key", "api_secret", "admin_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_SECRET:
            raise ValueError(f"must have at least {MIN_SECRET} characters")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.webhook_url and not self.webhook_secret:
            raise ValueError("WEBHOOK_SECRET is required with WEBHOOK_URL")
        if self.selectors_url and not (self.selectors_url.startswith("https://") and self.selectors_key):
            raise ValueError("SELECTORS_URL must be https, and SELECTORS_KEY is required with it")
        if self.settle_seconds < self.confirm_seconds:
            raise ValueError("SETTLE_SECONDS must not be less than CONFIRM_SECONDS: it would give up what is confirmed")
        if self.env == "production":
            wanted = ("database_url", "api_key", "encryption_key")
            if missing := [name.upper() for name in wanted if getattr(self, name) is None]:
                raise ValueError(f"{', '.join(missing)} must be set when ENV=production")
        return self

    @property
    def production(self) -> bool:
        """Whether ENV is production."""
        return self.env == "production"

    @property
    def addresses(self) -> Addresses:
        """The addresses that webhooks may reach."""
        return Addresses(self._allowed(self.webhook_allow_cidrs), "WEBHOOK_ALLOW_CIDRS")

    @property
    def proxy_addresses(self) -> Addresses:
        """The addresses that accounts' proxies may have."""
        return Addresses(self._allowed(self.proxy_allow_cidrs), "PROXY_ALLOW_CIDRS")

    def _allowed(self, given: tuple[Network, ...] | None) -> tuple[Network, ...]:
        if given is not None:
            return given
        return () if self.production else LOOPBACK_NETWORKS

    @property
    def requests_of_an_org(self) -> int:
        """The limit of all keys of an org together; 0 is none."""
        if self.org_rate_limit_per_minute is None:
            return self.rate_limit_per_minute * KEYS_OF_AN_ORG
        return self.org_rate_limit_per_minute

    @property
    def profiles(self) -> Path:
        """The directory of browser profiles."""
        return self.chrome_user_data_dir or self.data_dir / "chrome-data"

    @cached_property
    def seats(self) -> int:
        """How many sessions this worker has room for."""
        return self.max_sessions or max(1, (_memory() // 2**20 - 300) // 350)


class _Trimmed(PydanticBaseSettingsSource):
    """A source that strips white space around values: a secret read from a file ends with a line feed."""

    def __init__(self, source: PydanticBaseSettingsSource) -> None:
        super().__init__(source.settings_cls)
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of one field."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """Return the values that are set."""
        values = {name: value.strip() if isinstance(value, str) else value for name, value in self._source().items()}
        return {name: value for name, value in values.items() if value != ""}


#: A container's memory limit in cgroup v2 and v1; psutil knows only the host's memory.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def _memory() -> int:
    """Return the bytes of memory that this process may use: the host's, or its container's where that is less."""
    # Imported here, since an API process never asks.
    import psutil  # noqa: PLC0415

    limits = [psutil.virtual_memory().total]
    for path in MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # none here, or "max"
            limits.append(int(path.read_text()))
    return min(limits)


def _check_encryption_key(key: str) -> None:
    try:
        size = len(base64.b64decode(key, validate=True))
    except binascii.Error:
        size = 0
    if size != ENCRYPTION_KEY_BYTES:
        raise ValueError(f"each key must be {ENCRYPTION_KEY_BYTES} bytes in base64")


def read(**values: object) -> Settings:
    """Read the settings; `values` override the environment. Raises SettingsWrong naming setting, value and rule."""
    try:
        return Settings(**values)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        raise SettingsWrong("; ".join(_sentence(dict(item)) for item in error.errors())) from None


def _sentence(item: dict[str, Any]) -> str:
    rule = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return rule
    name = str(item["loc"][0])
    field = Settings.model_fields.get(name)
    secret = field is None or "SecretStr" in str(field.annotation)
    value = "" if secret else f"={item['input']}"
    return f"{name.upper()}{value}: {rule}"
