"""Loopback ports for parts that a test run starts."""

import secrets
import socket
from pathlib import Path
from typing import Final

_FIRST: Final = 10_000
_USUAL_FIRST_OF_CLIENTS: Final = 32_768


def free_port() -> int:
    """A port nobody listens on now; whoever binds it next may still be quicker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports(count: int, *, also: int = 0) -> int:
    """The first of `count` ports in a row that nobody listens on now, nor on those `also` above them.

    For a server that is to be started again on its port: they lie below those that the system gives to
    clients, one of which would have taken it meanwhile; a client that tries to connect there may even get the
    very port as its own, and meet itself.
    """
    while True:
        first = secrets.randbelow(_first_of_clients() - _FIRST - count - also) + _FIRST
        if all(_is_free(first + number + above) for number in range(count) for above in (0, also)):
            return first


def _first_of_clients() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    except OSError:
        return _USUAL_FIRST_OF_CLIENTS
    return max(int(text.split()[0]), 2 * _FIRST)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
