import socket
import sys

import pytest

from bench.ports import held_ports


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody may listen beside a socket that is bound")
def test_a_held_port_is_a_servers_again_and_again_and_nobody_elses() -> None:
    (port,) = held_ports(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    assert port not in held_ports(100)
