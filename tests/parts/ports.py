"""Loopback ports for parts that a test run starts."""

import socket


def free_port() -> int:
    """A port nobody listens on now; whoever binds it next may still be quicker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
