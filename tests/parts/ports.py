"""Loopback ports for parts that a test run starts."""

import contextlib
import socket
import subprocess
import time


def free_port() -> int:
    """A port nobody listens on now; whoever binds it next may still be quicker, so be ready to try again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int, process: subprocess.Popen[bytes], *, within_s: float = 20.0) -> bool:
    """Waits until the port takes connections; False once the process ended or the time is up."""
    end = time.monotonic() + within_s
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        # Another process starts: there is nothing to await but the clock.
        time.sleep(0.02)
    return False
