"""A webhook receiver that answers 204 at once, or never: python -m bench.receiver PORT [hang]."""

import asyncio
import sys
from typing import cast

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver(asyncio.Protocol):
    """One connection. It only supports requests with a content-length, to be as fast as possible."""

    def __init__(self) -> None:
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every complete request."""
        self.rest += data
        while b"\r\n\r\n" in self.rest:
            head, _, rest = self.rest.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            self.rest = rest[length:]
            self.transport.write(ANSWER)


async def main(port: int, protocol: type[asyncio.Protocol]) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), asyncio.Protocol if sys.argv[2:] else Receiver))
