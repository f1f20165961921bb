"""Dependencies of the handlers, made from the settings by app.py."""

from dataclasses import dataclass, field
from datetime import timedelta

from starlette.requests import Request

from addresses import Addresses
from api.http.cached import Cached
from api.http.downloads import Downloads
from api.http.key_cache import KeyCache
from api.http.rate_limit import RateLimit
from crypto import Sealer
from resolver import Resolver
from sql.database import Database, Row
from sql.pace_limits import PaceLimits


@dataclass(frozen=True)
class Context:
    """One per app, at `app.state.context`."""

    #: without a scope (`Database.of`) it sees no row of any org, and reaches only the functions of the schema door
    database: Database
    #: a share of its connections, for lists and metrics, which may be slow
    reading: Database
    #: the row of schema_state, which many probes ask for
    schema_state: Cached[list[Row]]
    #: keys that were looked up a moment ago
    keys: KeyCache
    sealer: Sealer
    rate_limit: RateLimit
    production: bool
    #: whether a reverse proxy is in front (TRUST_PROXY_HOPS is above 0)
    proxied: bool
    #: SHA-256 of ADMIN_KEY
    admin: bytes | None
    version: str
    #: the addresses that webhooks may be sent to
    addresses: Addresses
    resolver: Resolver
    #: a job without expiresAt expires so long after sendAt
    job_ttl: timedelta
    #: the limits of every account whose pace is switched on
    pace: PaceLimits
    #: reports on their way to clients
    downloads: Downloads = field(default_factory=Downloads)
    #: time zones that Postgres was seen to know: to look for one it reads its whole directory of zones
    known_zones: set[str] = field(default_factory=set)


def of(request: Request) -> Context:
    """Return the context of the app that serves this request."""
    context: Context = request.app.state.context
    return context
