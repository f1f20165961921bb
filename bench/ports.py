"""Ports of the loopback for programs that are started here, and for what is to answer nobody."""

import socket
import sys

_held: list[socket.socket] = []


def held_ports(count: int) -> list[int]:
    """Return ports on which a program can listen, again and again, and which nobody else is given.

    They are bound here and not listened on, until this process ends: Linux hands out none that is bound, and lets
    another socket with SO_REUSEADDR, as servers have, listen beside one that does not. Elsewhere they are free now.
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
