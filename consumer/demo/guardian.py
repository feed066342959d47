"""Runs one program and ends it when whoever started us is gone, however that came about.

``python guardian.py PROGRAM ARGUMENT...`` with a pipe on standard input: the operating system closes the
pipe with the process at its other end, also where that one was killed and could clean up nothing itself.
"""

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> None:
    """Run `command` until it ends or standard input does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - the caller's own program

    def end_with_child() -> None:
        os._exit(child.wait() & 0xFF)

    threading.Thread(target=end_with_child, daemon=True).start()
    sys.stdin.buffer.read()
    child.kill()
    child.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
