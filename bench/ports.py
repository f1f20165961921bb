"""Loopback ports for child processes, and for addresses at which nothing answers."""

import socket
import sys

_held: list[socket.socket] = []


def held_ports(count: int) -> list[int]:
    """Return ports on which a program can listen, repeatedly, and which no other process is given.

    This process keeps them bound until it ends, without listening. Linux does not hand out bound ports, and lets
    a server with SO_REUSEADDR listen on one as long as no other socket does. On other systems they are only free now.
    """
    ports = []
    for _ in range(count):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        ports.append(int(one.getsockname()[1]))
        _held.append(one)
    if sys.platform != "linux":
        for one in _held:
            one.close()
        _held.clear()
    return ports
