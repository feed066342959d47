"""Loopback ports for parts that a test run starts."""

import socket
from typing import Final

_LAST_PORT: Final = 65_535


def free_port() -> int:
    """A port nobody listens on now; whoever binds it next may still be quicker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports(count: int, *, also: int = 0) -> int:
    """The first of `count` ports in a row that nobody listens on now, nor on those `also` above them."""
    while True:
        first = free_port()
        wanted = {first + number + above for number in range(count) for above in (0, also)}
        if max(wanted) <= _LAST_PORT and all(map(_is_free, wanted)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
