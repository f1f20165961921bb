"""A small client of our own HTTP API."""

import asyncio
import io
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx2
import segno

from errors import OperatorError

Json = dict[str, Any]

POLL_SECONDS = 0.1  # before the second look; later ones are further apart
POLL_SECONDS_MOST = 0.5


async def looks(seconds: float, pause: float = POLL_SECONDS) -> AsyncIterator[None]:
    """Yield at once, and again and again until `seconds` are over, at growing intervals."""
    began = time.monotonic()
    yield
    while (passed := time.monotonic() - began) <= seconds:
        await asyncio.sleep(min(max(pause, passed / 10), POLL_SECONDS_MOST))
        yield


class Client:
    """Calls the API with a key, and the sandbox's phone. Raises OperatorError for any answer but 2xx, and for none."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._http = httpx2.AsyncClient(base_url=url, headers={"x-api-key": key}, trust_env=False, timeout=10)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> Json:
        """GET a path."""
        return self._read(await self._ask("GET", path))

    async def post(self, path: str, body: Json | None = None) -> Json:
        """POST a body."""
        return self._read(await self._ask("POST", path, body or {}))

    async def delete(self, path: str) -> Json:
        """DELETE a path."""
        return self._read(await self._ask("DELETE", path))

    async def _ask(self, method: str, path: str, body: Json | None = None) -> httpx2.Response:
        try:
            return await self._http.request(method, path, json=body)
        except httpx2.TransportError as error:
            raise OperatorError(f"{method} {path}: no answer ({type(error).__name__}).") from error

    def _read(self, response: httpx2.Response) -> Json:
        if not response.is_success:
            raise OperatorError(f"{response.request.method} {response.request.url.path}: {response.text}")
        answer: Json = response.json() if response.content else {}
        return answer

    async def wait_up(self, seconds: float) -> None:
        """Wait until the API is ready. Raises OperatorError."""
        async for _ in looks(seconds):
            with suppress(httpx2.TransportError):
                if (await self._http.get("/readyz")).is_success:
                    return
        raise OperatorError(f"The API at {self.url} was not ready after {seconds:.0f} s.")

    async def wait(self, path: str, field: str, wanted: set[str], seconds: float) -> Json:
        """Poll a resource until the field has one of the wanted values. Raises OperatorError."""
        seen: Json = {}
        async for _ in looks(seconds):
            if (seen := await self.get(path))[field] in wanted:
                return seen
        raise OperatorError(
            f"{path}: {field} is {seen[field]} after {seconds:.0f} s, not {' or '.join(sorted(wanted))}."
        )

    async def qr(self, account: str, seconds: float = 60) -> str:
        """Wait for the account's QR code and return its payload. Raises OperatorError."""
        await self.wait(f"/accounts/{account}", "state", {"qr_pending"}, seconds)
        # Between two codes the answer is 410.
        async for _ in looks(seconds):
            response = await self._ask("GET", f"/accounts/{account}/qr")
            if response.status_code != httpx2.codes.GONE:
                break
        payload: str = self._read(response)["qr"]
        return payload

    async def scan(self, account: str, phone: str | None = None) -> None:
        """Let the sandbox's phone scan the account's code, with this number or a random one."""
        number = phone or f"1555{secrets.randbelow(10**7):07}"
        await self.post(f"/sandbox/accounts/{account}/scan", {"phone": number})


def draw(qr: str) -> str:
    """Draw a QR code for a terminal."""
    out = io.StringIO()
    segno.make(qr, error="l").terminal(out, compact=True)
    return out.getvalue()
