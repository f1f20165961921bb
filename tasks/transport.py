"""What carries all deliveries: by a dialer, with TLS that is verified, and never with a user of the URL's."""

import logging
import ssl

import httpcore2
import httpx2

from errors import AddressRefused
from tasks.dialer import Dialer

log = logging.getLogger(__name__)


class Transport(httpx2.AsyncHTTPTransport):
    """An httpx2 transport whose connections a dialer opens. No proxies, no Unix sockets, HTTP/1.1."""

    def __init__(self, dialer: Dialer, limits: httpx2.Limits, tls: ssl.SSLContext | None = None) -> None:
        tls = tls or httpx2.create_ssl_context(trust_env=False)
        super().__init__(verify=tls, trust_env=False, limits=limits)
        # httpx2 has no argument for the dialer. Were its pool elsewhere, nothing would be guarded.
        if not isinstance(getattr(self, "_pool", None), httpcore2.AsyncConnectionPool):
            raise TypeError("This httpx2 does not keep its connections in _pool.")
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=dialer,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raise AddressRefused for a URL that is not http or https, or that names a user."""
        if request.url.scheme not in {"http", "https"} or request.url.userinfo:
            log.info("deliveries may not go to %s: it is not http or https, or it names a user", request.url.host)
            raise AddressRefused
        return await super().handle_async_request(request)
