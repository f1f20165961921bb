"""Downloads a selectors file and its signature, for `selector_source`."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

from errors import SelectorsWrong

TIMEOUT = 20.0  # seconds for the file and its signature together
CAP = 2**20  # bytes


@dataclass
class Download:
    """A selectors file at an https URL, with its signature at the same URL with `.sig`."""

    url: str
    #: TLS context of the connection; None for the default
    tls: ssl.SSLContext | None = None
    #: headers for a conditional request, from the ETag and Last-Modified of the last file that was accepted
    _seen: dict[str, str] = field(default_factory=dict)

    async def fetch(self) -> tuple[bytes, bytes, Callable[[], None]] | None:
        """Return file, signature, and what to call once they are accepted; None when there is nothing new.

        Raise SelectorsWrong with the reason when the download fails.
        """
        try:
            async with asyncio.timeout(TIMEOUT), self._client() as client:
                return await self._ask(client)
        except TimeoutError:
            raise SelectorsWrong(f"It did not answer within {TIMEOUT:.0f} s.") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise SelectorsWrong(str(error) or type(error).__name__) from None

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            verify=self.tls or True,
            trust_env=False,
            follow_redirects=False,
            timeout=TIMEOUT,
            headers={"user-agent": "Postrider", "accept-encoding": "identity"},
        )

    async def _ask(self, client: httpx2.AsyncClient) -> tuple[bytes, bytes, Callable[[], None]] | None:
        async with client.stream("GET", self.url, headers=self._seen) as answer:
            if answer.status_code == httpx2.codes.NOT_MODIFIED:
                return None
            content = await _body(answer)
        pairs = (("etag", "if-none-match"), ("last-modified", "if-modified-since"))
        seen = {asked: answer.headers[name] for name, asked in pairs if name in answer.headers}
        async with client.stream("GET", f"{self.url}.sig") as answer:
            signature = await _body(answer)

        def accept() -> None:
            self._seen = seen

        return content, signature, accept


async def _body(answer: httpx2.Response) -> bytes:
    """Read an uncompressed answer of at most CAP bytes: a compressed one could unpack to any size."""
    if answer.status_code != httpx2.codes.OK:
        raise SelectorsWrong(f"{answer.url} answered {answer.status_code}.")
    if "content-encoding" in answer.headers:
        raise SelectorsWrong(f"{answer.url} is packed as {answer.headers['content-encoding']}; serve it as it is.")
    content = bytearray()
    async for part in answer.aiter_raw():
        content += part
        if len(content) > CAP:
            raise SelectorsWrong(f"{answer.url} is larger than {CAP} bytes.")
    return bytes(content)
